"""The one form in which every dataset lies on disk after `download`.

data/images/train.npy, test.npy [, unlabeled.npy]    uint8 (N, H, W, C), read memory-mapped
data/images/meta.json                                name, channel mean and std of train, how it was made
data/images/index.csv, skipped.csv                   where the data were image files: their paths by split and row, and
                                                     those that could not be read
data/images/duplicates.csv                           images that an earlier one equals, exactly or nearly
data/labels/train.npy, test.npy                      int64 (N,); absent when nobody labelled anything
data/labels/classes.json                             the classes' names; [] when there are none
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stages.plumbing.errors import UserError

VALUES_AT_ONCE = 2**22  # of pixels, where a whole split is walked through: bounds the memory it takes


@dataclass(frozen=True)
class Meta:
    """What is known of a dataset besides its pixels. `mean` and `std` are per channel, of pixel values in [0, 1]."""

    name: str
    size: int
    channels: int
    mean: list[float]
    std: list[float]
    source: str


def write_images(folder: Path, name: str, splits: dict[str, np.ndarray | Path], source: str) -> Meta:
    """Write the splits (each uint8, (N, H, W, C), all of one H = W and C) and meta.json into an existing folder.

    A split given as a path is a .npy file on the same disk that is moved here: copying 193 GB would take as long as
    making them. `source` says what the data is, never by which route it came: equal data must give equal bytes.
    Raises UserError for arrays that are not in that form.
    """
    files = {split: images for split, images in splits.items() if isinstance(images, Path)}
    splits = splits | {split: np.load(file, mmap_mode="r") for split, file in files.items()}
    shapes = {split: images.shape for split, images in splits.items()}
    for split, images in splits.items():
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2]:
            raise UserError(
                f"{name}: {split} is {images.dtype} {images.shape}; expected uint8 (N, side, side, channels)"
            )
        if len(images) == 0:
            raise UserError(f"{name}: {split} holds no image; both train and test need at least one")
    if len({shape[1:] for shape in shapes.values()}) != 1:
        raise UserError(f"{name}: splits differ in side or channels ({shapes}); bring them to one shape")
    for split, images in splits.items():
        if split in files:
            os.replace(files[split], folder / f"{split}.npy")
        else:
            _write_array(folder / f"{split}.npy", images)
    mean, std = channel_statistics(splits["train"])
    _, side, _, channels = splits["train"].shape
    meta = Meta(name, side, channels, [round(m, 6) for m in mean], [round(s, 6) for s in std], source)
    (folder / "meta.json").write_text(json.dumps(asdict(meta), indent=2) + "\n")
    return meta


def _write_array(file: Path, images: np.ndarray) -> None:
    """As np.save would, but row after row whatever layout the source had (they are read one by one), and in chunks."""
    step = max(1, VALUES_AT_ONCE // images[0].size)
    with open(file, "wb") as opened:
        header = {"descr": "|u1", "fortran_order": False, "shape": images.shape}
        np.lib.format.write_array_header_1_0(opened, header)
        for start in range(0, len(images), step):
            opened.write(np.ascontiguousarray(images[start : start + step]).data)


def write_labels(folder: Path, labels: dict[str, np.ndarray], classes: list[str]) -> None:
    """Write labels (int64, (N,) each) and the classes' names into an existing folder; both empty if there are none."""
    for split, values in labels.items():
        np.save(folder / f"{split}.npy", values.astype(np.int64))
    (folder / "classes.json").write_text(json.dumps(classes, indent=2) + "\n")


def channel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of uint8 images (N, H, W, C), scaled to [0, 1], in chunks.

    How often each of the 256 values occurs says both exactly, and counting is faster than adding up squares.
    """
    counts = np.zeros((images.shape[-1], 256), np.int64)
    step = max(1, VALUES_AT_ONCE // images[0].size)
    for start in range(0, len(images), step):
        chunk = images[start : start + step]
        for channel in range(len(counts)):
            counts[channel] += np.bincount(chunk[..., channel].reshape(-1), minlength=256)
    share, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean = share @ values
    variance = (share * np.square(values - mean[:, None])).sum(axis=1)
    # A constant channel would divide by zero when normalised; one grey level is the least difference there is.
    std = np.maximum(np.sqrt(variance), 1 / 255)
    return mean.tolist(), std.tolist()


def read_meta(folder: Path) -> Meta:
    """meta.json of an image folder."""
    return Meta(**json.loads((folder / "meta.json").read_text()))


def read_images(folder: Path, split: str) -> np.ndarray:
    """A split as a read-only memory map, uint8 (N, H, W, C): only the rows that are looked at are read."""
    return np.load(folder / f"{split}.npy", mmap_mode="r")


def read_labels(folder: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The labels of the splits that have them (int64 (N,)) and the classes' names; ({}, []) without labels."""
    labels = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    return labels, json.loads((folder / "classes.json").read_text())


class Concatenated:
    """Arrays (N₁, …), (N₂, …), … read as one of N₁ + N₂ + … rows, without ever being put together."""

    def __init__(self, parts: list[np.ndarray]):
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self.ends[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype
        self.nbytes = sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        rows = np.arange(len(self))[rows]
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        holder = np.searchsorted(self.ends, rows, side="right")
        for number, part in enumerate(self.parts):
            here = holder == number
            found[here] = part[rows[here] - (self.ends[number] - len(part))]
        return found
