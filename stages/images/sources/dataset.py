"""What a source is asked for and what it hands over, and the fitting that all of them share."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stages.images.sources.filling import fill
from stages.images.sources.pictures import square
from stages.plumbing.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What params.yaml says of the data (block `data`), and a scratch folder for what a source makes on the way.

    With `path` a source reads that folder alone and fetches nothing: data from elsewhere would go unnoticed.
    """

    name: str
    scratch: Path
    path: Path | None = None
    image_size: int | None = None
    limit: int | None = None
    test_share: float = 0.1
    split_seed: int = 0
    unreadable: float = 0.01


@dataclass(frozen=True)
class Dataset:
    """Images per split, labels of the splits that have any (int64 (N,)), the classes' names.

    Images are uint8 (N, H, W, C): an array, or the path of a finished .npy file in the scratch folder, which is moved
    to its place and never copied. `source` says what the data is and never by which route it came, so that equal data
    gives equal bytes. `tables` are CSV files by name (their rows, the header first) that go beside the images.
    """

    images: dict[str, np.ndarray | Path]
    labels: dict[str, np.ndarray]
    classes: list[str]
    source: str
    tables: dict[str, list[list[str]]] = field(default_factory=dict)


Source = Callable[[Wanted], Dataset]


def drawn(count: int, limit: int | None, seed: int) -> np.ndarray:
    """Which rows of `count` to take: all, or `limit` of them drawn at random; in their own order."""
    if limit is None or count <= limit:
        return np.arange(count)
    # RandomState's stream is frozen for good, default_rng's may change with numpy: the draw must not.
    return np.sort(np.random.RandomState(seed).permutation(count)[:limit])


def fitted(dataset: Dataset, wanted: Wanted) -> Dataset:
    """The dataset cut to data.limit and brought to data.image_size, its labels checked.

    Splits that are files already (`Dataset.images`) were made to fit by their source. Raises UserError if labels and
    images differ in number, or if a label names no class.
    """
    images, labels, resized = dict(dataset.images), dict(dataset.labels), False
    for split, found in labels.items():
        pixels = images.get(split)
        count = len(np.load(pixels, mmap_mode="r") if isinstance(pixels, Path) else pixels)
        if len(found) != count:
            raise UserError(
                f"{wanted.name}: {split} has {count:,} images but {len(found):,} labels; every image needs one, so the"
                " files do not belong together: get them anew"
            )
        if len(found) and not (found.min() >= 0 and found.max() < len(dataset.classes)):
            raise UserError(
                f"{wanted.name}: labels of {split} run from {found.min()} to {found.max()}, but there are"
                f" {len(dataset.classes)} classes, counted from 0; get the files anew"
            )
    for split, pixels in images.items():
        if isinstance(pixels, Path):
            continue
        rows = drawn(len(pixels), wanted.limit, wanted.split_seed)
        if len(rows) < len(pixels):
            pixels = images[split] = pixels[rows]
            if split in labels:
                labels[split] = labels[split][rows]
        if wanted.image_size is not None and pixels.shape[1:3] != (wanted.image_size, wanted.image_size):
            images[split], resized = _resized(split, pixels, wanted), True
    source = dataset.source + (f", resized to {wanted.image_size}x{wanted.image_size}" if resized else "")
    return replace(dataset, images=images, labels=labels, source=source)


def _resized(split: str, images: np.ndarray, wanted: Wanted) -> Path:
    """Images (N, H, W, C) at data.image_size, as a file in the scratch folder."""
    shape = (len(images), wanted.image_size, wanted.image_size, images.shape[-1])
    file = wanted.scratch / f"resized-{split}.npy"
    fill(file, shape, lambda row: square(images[row], wanted.image_size), f"{wanted.name}: resizing {split}")
    return file
