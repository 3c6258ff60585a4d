"""Images that occur more than once: the same to the pixel, or the same picture saved again.

Copies are each other's nearest neighbours and nothing else, so whoever learns from neighbours has to know of them.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn
from scipy.spatial import cKDTree

from stages.images.store import VALUES_AT_ONCE, Concatenated
from stages.plumbing.csv_files import read_records, write_rows

FILE = "duplicates.csv"  # in the folder of the images
NEAR = 0.05  # how far near duplicates may differ: root mean square over pixels, as a share of the image's contrast
SIDE = 8  # blocks along a side of the small grey picture by which candidates are found
WAVES = [(i, j) for i in range(SIDE) for j in range(SIDE) if i + j < 7]  # of that picture, what the tree holds
THINNED = (2**12, 2**6, 1)  # company is sought among every so many: in a large pile few are enough to meet one
QUERIES = 2**14  # images whose company is sought at once
NUMBERS = 64  # of a sketch
WIDER = 1.5  # than NEAR one looks among sketches: of pairs that differ by just NEAR, one in twenty million is lost
TOGETHER = 2**8  # images asked for company among sketches at once
TRIES = 2**8  # images that one is compared with in vain; then it counts as different from all


class Duplicate(NamedTuple):
    """An image, and the first one like it (train before test, then by row), which is itself no duplicate."""

    split: str
    row: int
    of_split: str
    of_row: int
    kind: str  # "exact" or "near"


def find_duplicates(splits: dict[str, np.ndarray]) -> list[Duplicate]:
    """Every image of any split that an earlier one equals, exactly or nearly.

    splits: uint8 (N, H, W, C) each, may be memory maps; the order of the splits decides which image is the first.
    Nearly: the root mean square of the differences is at most NEAR times the standard deviation of the first one's
    pixels, so that they correlate by 0.999. That is a picture saved again; cropped, turned or relit ones are none.
    Takes about 300 bytes an image, three times that where all have copies. Time grows with the images, not with the
    pairs: an image that lies close to TRIES earlier ones, and is nearly like none, is not compared any further.
    """
    images = Concatenated(list(splits.values()))
    equal = _first_equal(images)
    numbers = np.arange(len(images))
    unique = np.flatnonzero(equal == numbers)
    first = numbers.copy()
    first[unique] = unique[_first_similar(images, unique)]
    first = first[equal]

    starts = dict(zip(splits, images.ends - [len(part) for part in splits.values()]))
    names, offsets = list(starts), np.array(list(starts.values()))

    def place(number: int) -> tuple[str, int]:
        part = int(np.searchsorted(offsets, number, side="right")) - 1
        return names[part], int(number - offsets[part])

    return [
        Duplicate(*place(number), *place(first[number]), "exact" if equal[number] == first[number] else "near")
        for number in np.flatnonzero(first != numbers)
    ]


def _first_equal(images: Concatenated) -> np.ndarray:
    """For every image the number of the first one with the same pixels, int64 (N,)."""
    numbers: dict[bytes, int] = {}
    first = np.empty(len(images), np.int64)
    for start, chunk in _chunks(images, np.arange(len(images))):
        for row, image in enumerate(chunk, start):
            first[row] = numbers.setdefault(hashlib.blake2b(image, digest_size=16).digest(), row)
    return first


def _first_similar(images: Concatenated, rows: np.ndarray) -> np.ndarray:
    """For each of those rows, int (Q,), ascending, the first one nearly like it, as a position in `rows`.

    Two sieves leave few pairs to compare by their pixels: `_waves` those that have any company, which most images have
    not, `_sketches` of these whoever is near whom. Then each in its turn takes whatever is like it. What is taken takes
    nothing, so a pile of n copies is n comparisons.
    """
    first = np.arange(len(rows))
    crowd = _accompanied(images, rows)
    sketches, contrast = _sketches(images, rows[crowd])
    tree, reach = cKDTree(sketches), WIDER * NEAR * contrast
    free, tries = np.ones(len(crowd), bool), np.zeros(len(crowd), np.int64)
    for start in range(0, len(crowd), TOGETHER):
        asked = start + np.flatnonzero(free[start : start + TOGETHER])
        company = tree.query_ball_point(sketches[asked], reach[asked], return_length=True, workers=-1)
        for leader in asked[company > 1]:
            if not free[leader]:
                continue
            found = np.array(tree.query_ball_point(sketches[leader], reach[leader]))
            later = np.sort(found[(found > leader) & free[found]])
            near = _differences(images, rows[crowd[later]], rows[crowd[leader]]) <= NEAR * contrast[leader]
            first[crowd[later[near]]] = crowd[leader]
            tries[later] += 1
            free[later] = ~near & (tries[later] < TRIES)
    return first


def _accompanied(images: Concatenated, rows: np.ndarray) -> np.ndarray:
    """The positions in `rows` of all images that may be nearly like another one of them, ascending.

    A picture averaged over blocks cannot differ more than the picture itself, nor can a part of its waves. So what is
    near lies near in the space of these few numbers.
    """
    waves, contrast = np.empty((len(rows), len(WAVES))), np.empty(len(rows), np.float32)
    for start, chunk in _chunks(images, rows):
        waves[start : start + len(chunk)] = _waves(chunk)
        contrast[start : start + len(chunk)] = _contrast(chunk)
    # Contrasts of what is near differ by NEAR at most; the rest of the tenth more is for rounding.
    limit = 1.1 * NEAR * SIDE * contrast
    company = np.zeros(len(rows), bool)
    for share in THINNED:
        tree = cKDTree(waves[::share])
        alone = np.flatnonzero(~company)
        for start in range(0, len(alone), QUERIES):
            asked = alone[start : start + QUERIES]
            found = tree.query_ball_point(waves[asked], limit[asked], return_length=True, workers=-1)
            company[asked] = found > (asked % share == 0)  # itself
    return np.flatnonzero(company)


def _sketches(images: Concatenated, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those images in few numbers whose distances are about those of the grey pictures: float64 (Q, NUMBERS).

    Sums of all pixels under random signs (Achlioptas 2003, doi 10.1016/S0022-0000(03)00025-4). Unlike waves they tell
    apart what differs in detail alone: noise, textures, a dot in the dark. Returns the contrasts, too, float32 (Q,).
    """
    sketches, contrast = np.empty((len(rows), NUMBERS)), np.empty(len(rows), np.float32)
    pixels = images.shape[1] * images.shape[2]
    signs = np.random.default_rng(0).choice(np.float32([-1, 1]), (pixels, NUMBERS))
    signs /= np.sqrt(pixels * NUMBERS)
    for start, chunk in _chunks(images, rows):
        sketches[start : start + len(chunk)] = _grey(chunk).reshape(len(chunk), pixels) @ signs
        contrast[start : start + len(chunk)] = _contrast(chunk)
    if len(rows) > 1:
        # Turned so that the first numbers vary most, which is what a tree is fast on.
        sketches = sketches @ np.linalg.eigh(np.cov(sketches.T))[1][:, ::-1]
    return sketches, contrast


def _differences(images: Concatenated, rows: np.ndarray, row: int) -> np.ndarray:
    """Root mean square over pixels of the difference between each of those rows, int (Q,), and one: float32 (Q,)."""
    found, one = np.empty(len(rows), np.float32), images[np.array([row])].astype(np.float32)
    for start, chunk in _chunks(images, rows):
        difference = (chunk - one).reshape(len(chunk), -1)
        found[start : start + len(chunk)] = np.sqrt(np.square(difference, out=difference).mean(axis=1))
    return found


def _contrast(images: np.ndarray) -> np.ndarray:
    """The standard deviation of the pixels of each image."""
    return images.reshape(len(images), -1).std(axis=1)


def _grey(images: np.ndarray) -> np.ndarray:
    """The mean of the channels: float32 (n, H, W)."""
    return images.mean(axis=3, dtype=np.float32)


def _waves(images: np.ndarray) -> np.ndarray:
    """The WAVES of the small grey pictures of images uint8 (n, H, W, C): float32 (n, len(WAVES))."""
    side = images.shape[1]
    edges = np.arange(side + 1) * SIDE / side
    # How much of each block's side each row of pixels covers; a block's weights sum to 1, every row weighs the same.
    covers = np.diff(np.clip(edges[None, :] - np.arange(SIDE)[:, None], 0, 1), axis=1).astype(np.float32)
    small = covers @ _grey(images) @ covers.T
    coefficients = dctn(small, axes=(1, 2), norm="ortho")
    return np.stack([coefficients[:, i, j] for i, j in WAVES], axis=1)


def _chunks(images: Concatenated, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Some images at a time, with the position of the first one: uint8 (n, H, W, C)."""
    step = max(1, VALUES_AT_ONCE // int(np.prod(images.shape[1:])))
    for start in range(0, len(rows), step):
        yield start, images[rows[start : start + step]]


def write_duplicates(folder: Path, found: list[Duplicate]) -> None:
    """Write them into an existing folder of images."""
    write_rows(folder / FILE, [Duplicate._fields, *found])


def read_duplicates(folder: Path) -> list[Duplicate]:
    """What `write_duplicates` wrote into a folder of images. UserError if the table is broken."""
    return [Duplicate(**record) for record in read_records(folder / FILE, Duplicate.__annotations__)]


def first_of_equals(split: str, count: int, duplicates: list[Duplicate]) -> np.ndarray:
    """For each of the `count` images of a split the first one of that split that is like it, int64 (count,)."""
    first, stands_for = np.arange(count), {}
    for row, original in sorted((d.row, (d.of_split, d.of_row)) for d in duplicates if d.split == split):
        # The original may lie in another split; then the first of its copies here stands for the others.
        first[row] = original[1] if original[0] == split else stands_for.setdefault(original, row)
    return first


def different(split: str, count: int, duplicates: list[Duplicate]) -> int:
    """How many different images there are among the `count` of a split: its copies are counted once."""
    return int((first_of_equals(split, count, duplicates) == np.arange(count)).sum())
