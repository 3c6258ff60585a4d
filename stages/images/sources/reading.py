"""From lists of image files to a `Dataset`: the sources `folder` and `imagenet` have this in common."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from stages.images import index
from stages.images.sources import filling, pictures
from stages.images.sources.dataset import Dataset, Wanted, drawn
from stages.images.sources.walking import Listing, say
from stages.plumbing.errors import UserError
from stages.plumbing.printing import SHOWN, printable


def read_files(
    wanted: Wanted, files: dict[str, list[str]], labels: dict[str, np.ndarray], classes: list[str], source: str
) -> Dataset:
    """The image files of each split (paths relative to data.path) decoded, with index.csv and skipped.csv.

    Files that cannot be read are left out and listed, with their labels. Grey throughout gives one channel, else three.
    Raises UserError if too many cannot be read, or if data.image_size is null and there is no one square size.
    """
    labels = dict(labels)
    for split in files:
        rows = drawn(len(files[split]), wanted.limit, wanted.split_seed)
        files = files | {split: [files[split][row] for row in rows]}
        if split in labels:
            labels[split] = labels[split][rows]
    size = wanted.image_size if wanted.image_size is not None else _common_size(wanted, files)
    images, reasons, colourful = {}, {}, False

    def row(split: str, number: int) -> np.ndarray:
        nonlocal colourful
        pixels = pictures.read(wanted.path / files[split][number], size)
        if not colourful and (pixels != pixels[..., :1]).any():
            colourful = True
        return pixels

    for split, names in files.items():
        images[split] = wanted.scratch / f"{split}.npy"
        shape, title = (len(names), size, size, 3), f"{wanted.name}: reading {split}"
        reasons[split] = filling.fill(images[split], shape, lambda number, split=split: row(split, number), title)
    skipped = [(files[split][number], why) for split, bad in reasons.items() for number, why in sorted(bad.items())]
    _judge(wanted, skipped, {split: len(names) for split, names in files.items()}, reasons)
    found = []
    for split, names in files.items():
        good = np.setdiff1d(np.arange(len(names)), np.array(list(reasons[split]), np.int64))
        if len(good) < len(names):
            filling.keep(images[split], good)
        if not colourful:
            filling.one_channel(images[split])
        if split in labels:
            labels[split] = labels[split][good]
        found += [[split, str(row), names[number]] for row, number in enumerate(good)]
    return Dataset(
        images=images,
        labels=labels,
        classes=classes,
        source=f"{source}, the short side brought to {size} pixels and the middle cut out",
        tables={
            index.INDEX: [[*index.COLUMNS], *found],
            index.SKIPPED: [[*index.WHY], *([path, why] for path, why in skipped)],
        },
    )


def report_left_out(name: str, found: Listing) -> None:
    """A line of how many files there are to read, and what lies there besides, if there is anything."""
    if found.left_out:
        print(f"{name}: {len(found.images):,} image files{say(found.left_out)}", flush=True)


def _common_size(wanted: Wanted, files: dict[str, list[str]]) -> int:
    """The one side length that all images have."""

    def look(name: str) -> tuple[int, int] | None:
        try:
            return pictures.side_lengths(wanted.path / name)
        except pictures.UnreadableError:
            return None  # reading it will say why

    paths = [name for names in files.values() for name in names]
    sizes: Counter = Counter()
    with pictures.quietly(), ThreadPoolExecutor() as threads:
        for start in range(0, len(paths), 10_000):  # as many futures at a time as memory does not mind
            sizes.update(threads.map(look, paths[start : start + 10_000]))
    sizes.pop(None, None)
    if len(sizes) > 1:
        shown = ", ".join(f"{w}x{h} ({count:,} images)" for (w, h), count in sizes.most_common(SHOWN))
        more = f" and {len(sizes) - SHOWN:,} more" if len(sizes) > SHOWN else ""
        raise UserError(
            f"data.image_size is null, but the images have {len(sizes):,} sizes: {shown}{more}; set data.image_size to"
            " the side in pixels that all shall have (say, 64)"
        )
    width, height = next(iter(sizes), (1, 1))
    if width != height:
        raise UserError(
            f"data.image_size is null, but the images are {width}x{height}, not square; set data.image_size (to"
            f" {min(width, height)} for the largest square in their middle)"
        )
    return width


def _judge(wanted: Wanted, skipped: list[tuple[str, str]], counts: dict[str, int], reasons: dict[str, dict]) -> None:
    """Say how many files could not be read; raise UserError if they are too many."""
    if not skipped:
        return
    total = sum(counts.values())
    first, why = printable(skipped[0][0]), printable(skipped[0][1])
    share = f"{len(skipped):,} of {total:,} image files cannot be read"
    if len(skipped) > wanted.unreadable * total:
        raise UserError(
            f"data.path = {wanted.path}: {share} ({len(skipped) / total:.1%}, data.unreadable allows"
            f" {wanted.unreadable:.1%}), first {first}: {why}; repair or remove them, or raise data.unreadable to have"
            " them left out and listed in skipped.csv"
        )
    for split, bad in reasons.items():
        if len(bad) == counts[split]:
            raise UserError(f"data.path = {wanted.path}: no image of {split} can be read, first {first}: {why}")
    print(f"{wanted.name}: {share} and are left out, first {first}: {why}; skipped.csv lists them", flush=True)
