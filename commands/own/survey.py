"""What lies in a folder of pictures, as far as seconds tell: how many, how large, how fast they are read."""

import contextlib
import hashlib
import io
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from stages.images.index import INDEX
from stages.images.sources import pictures
from stages.images.sources.dataset import Wanted, drawn
from stages.images.sources.folder import folder
from stages.images.sources.walking import walk
from stages.plumbing.errors import UserError

HEADERS = 1000  # pictures whose width and height are looked up
DECODED = 100  # pictures of each split that are read whole
SIDE = 64  # to this size


class Survey(NamedTuple):
    """A folder of pictures."""

    counts: dict[str, int]  # of train, test and perhaps unlabeled, those that cannot be read included
    sides: list[tuple[int, int]]  # width and height of a sample
    channels: int  # 1 if a sample is grey throughout, else 3
    classes: int  # class folders; 0: no labels
    seconds: float  # to read one, all cores at work
    listing: str  # a hash of all names, sizes and times: it changes when pictures come, go or are edited
    left_out: Counter  # files that are not read, by kind

    @property
    def total(self) -> int:
        """How many pictures there are."""
        return sum(self.counts.values())

    @property
    def cut_away(self) -> float:
        """The share of a typical picture that lies outside the square in its middle: the median of them."""
        return median(1 - min(pair) / max(pair) for pair in self.sides)

    @property
    def short_side(self) -> int:
        """The median of the shorter side of a picture."""
        return int(median(min(pair) for pair in self.sides))


def look(path: Path, test_share: float) -> Survey:
    """Look through a folder of pictures. UserError if the source `folder` would refuse it, or can read none of it."""
    sample = _read_some(path, test_share)
    start = time.perf_counter()
    found = walk(path)
    seconds = sample.seconds - (time.perf_counter() - start)  # the source has walked, too
    names, counts = _split(found.images, sample.files, test_share)
    if len(names) < len(found.images):
        found.left_out["images beside the folders of the split"] = len(found.images) - len(names)
    return Survey(
        counts,
        _sides(path, names),
        sample.channels,
        sample.classes,
        max(seconds, 0) / len(sample.files),
        _listing(path, names),
        found.left_out,
    )


class _Sample(NamedTuple):
    files: list[tuple[str, str]]  # split and path of each
    channels: int
    classes: int
    seconds: float  # to read them all


def _read_some(path: Path, test_share: float) -> _Sample:
    """A few pictures, read by the source itself, so that layouts and refusals are its own."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        wanted = Wanted("folder", Path(scratch), path, SIDE, DECODED, test_share, 0, 1.0)
        start = time.perf_counter()
        sample = folder(wanted)
        seconds = time.perf_counter() - start
        files = [(split, file) for split, _, file in sample.tables[INDEX][1:]]
        channels = np.load(sample.images["train"], mmap_mode="r").shape[-1]
    return _Sample(files, channels, len(sample.classes), seconds)


def _split(names: list[str], sample: list[tuple[str, str]], test_share: float) -> tuple[list[str], dict[str, int]]:
    """The names that belong to a split, and how many each split has, by the folders where a sample of it lies."""
    first = {split: file.split("/")[0] for split, file in reversed(sample)}
    if first["train"].lower() == "train":  # a split of its own: the source lets a pile have no folder of that name
        top = [name.split("/")[0] for name in names]
        inside = [name for name, of in zip(names, top, strict=True) if of in first.values()]
        return inside, {split: top.count(of) for split, of in first.items()}
    test = min(max(1, round(len(names) * test_share)), len(names) - 1)
    return names, {"train": len(names) - test, "test": test}


def _sides(path: Path, names: list[str]) -> list[tuple[int, int]]:
    """Width and height of a sample, as far as it can be read."""
    some = [names[row] for row in drawn(len(names), HEADERS, 0)]
    with pictures.quietly(), ThreadPoolExecutor() as threads:
        return [pair for pair in threads.map(_side_lengths, (path / name for name in some)) if pair]


def _side_lengths(path: Path) -> tuple[int, int] | None:
    try:
        return pictures.side_lengths(path)
    except pictures.UnreadableError:
        return None


def _listing(path: Path, names: list[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        try:
            status = os.stat(path / name)
            about = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # a link that leads nowhere
            about = "gone"
        digest.update(f"{name}\0{about}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def require_folder(path: Path) -> None:
    """Raise UserError if there is no such folder, or if params.yaml cannot hold its name."""
    if not path.is_dir():
        state = "is no folder; an archive has to be unpacked first" if path.exists() else "does not exist"
        raise UserError(f"{path} {state}: IMAGES names the folder that holds the pictures")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!a} is no UTF-8, which params.yaml has to be; rename the folder") from None
