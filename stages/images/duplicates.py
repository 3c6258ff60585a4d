"""Images that occur more than once: the same to the pixel, or the same picture saved again.

Copies are each other's nearest neighbours and nothing else, so whoever learns from neighbours has to know of them.
"""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn
from scipy.spatial import cKDTree

from stages.images.store import CHUNK, Concatenated

FILE = "duplicates.csv"  # in the folder of the images
NEAR = 0.05  # how far near duplicates may differ: root mean square over pixels, as a share of the image's contrast
SIDE = 8  # blocks along a side of the small grey picture by which candidates are found
WAVES = [(i, j) for i in range(SIDE) for j in range(SIDE) if i + j < 7]  # of that picture, what the tree holds
CLOSEST = 8  # candidates looked at for each image
QUERIES = 2**14  # images whose candidates are sought at once
PAIRS = 2**9  # candidates compared at once


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
    Takes about 300 bytes an image.
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

    A picture averaged over blocks cannot differ more than the picture itself, nor can a part of its waves. So what is
    near lies near in the space of these few numbers, where a tree finds it, and the pixels decide.
    """
    waves, contrast = np.empty((len(rows), len(WAVES)), np.float32), np.empty(len(rows), np.float32)
    for start, chunk in _chunks(images, rows):
        waves[start : start + len(chunk)] = _waves(chunk)
        contrast[start : start + len(chunk)] = chunk.reshape(len(chunk), -1).std(axis=1)
    tree = cKDTree(waves)
    # Together those of like contrast, so that a search need not be wider than a few images want it.
    order, pairs = np.argsort(contrast, kind="stable"), []
    for start in range(0, len(order), QUERIES):
        asked = order[start : start + QUERIES]
        limit = 1.1 * NEAR * SIDE * contrast[asked[-1]]
        _, found = tree.query(waves[asked], k=min(CLOSEST, len(rows)), distance_upper_bound=limit, workers=-1)
        asker, found = np.repeat(asked, found.shape[1] if found.ndim > 1 else 1), found.ravel()
        there = (found < len(rows)) & (found != asker)
        pairs.append(np.stack([np.maximum(asker, found)[there], np.minimum(asker, found)[there]], axis=1))
    candidates = np.unique(np.concatenate(pairs), axis=0)  # in ascending order of the later one
    first = np.arange(len(rows))
    for start in range(0, len(candidates), PAIRS):
        later, earlier = candidates[start : start + PAIRS].T
        difference = images[rows[later]].astype(np.float32) - images[rows[earlier]]
        distance = np.sqrt(np.square(difference).reshape(len(later), -1).mean(axis=1))
        for a, b in zip(*(part[distance <= NEAR * contrast[earlier]] for part in (later, earlier)), strict=True):
            # Of the earlier one it is known by now whether it is a duplicate itself; copies of copies do not chain.
            if first[a] == a and first[b] == b:
                first[a] = b
    return first


def _waves(images: np.ndarray) -> np.ndarray:
    """The WAVES of the small grey pictures of images uint8 (n, H, W, C): float32 (n, len(WAVES))."""
    side = images.shape[1]
    edges = np.arange(side + 1) * SIDE / side
    # How much of each block's side each row of pixels covers; a block's weights sum to 1, every row weighs the same.
    covers = np.diff(np.clip(edges[None, :] - np.arange(SIDE)[:, None], 0, 1), axis=1).astype(np.float32)
    small = covers @ images.mean(axis=3, dtype=np.float32) @ covers.T
    coefficients = dctn(small, axes=(1, 2), norm="ortho")
    return np.stack([coefficients[:, i, j] for i, j in WAVES], axis=1)


def _chunks(images: Concatenated, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Some images at a time, with the position of the first one: uint8 (n, H, W, C)."""
    step = max(1, CHUNK // int(np.prod(images.shape[1:])))
    for start in range(0, len(rows), step):
        yield start, images[rows[start : start + step]]


def write_duplicates(folder: Path, found: list[Duplicate]) -> None:
    """Write them into an existing folder of images."""
    with open(folder / FILE, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([Duplicate._fields, *found])


def read_duplicates(folder: Path) -> list[Duplicate]:
    """What `write_duplicates` wrote into a folder of images."""
    with open(folder / FILE, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [Duplicate(split, int(row), of_split, int(of_row), kind) for split, row, of_split, of_row, kind in rows]
