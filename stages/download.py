"""Stage `download`: bring a dataset into the one stored form, its labels apart from its images."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stages.images import duplicates, store
from stages.images.sources.dataset import Wanted, fitted
from stages.images.sources.registry import SOURCES
from stages.plumbing.command import run
from stages.plumbing.csv_files import write_rows
from stages.plumbing.outputs import output_folder
from stages.plumbing.params import Block, Count, Fraction, Seed
from stages.plumbing.printing import told_apart

ORDER = ("train", "unlabeled", "test")  # which of two equal images is the first


class Data(Block):
    """The block `data`: which dataset, the folder where its files already lie, if they do, and how much of it."""

    name: Literal[*SOURCES]
    path: str | None
    image_size: Count | None
    limit: Count | None
    test_share: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Seed
    unreadable: Fraction

    @field_validator("path")
    @classmethod
    def _comes_back_from_dvc(cls, path: str | None) -> str | None:
        # The one character that comes back from dvc.lock as another one (a blank): the stage would run every time.
        if path is not None and "\x85" in path:
            raise ValueError("it holds an old line end (U+0085), which DVC cannot keep; rename the folder")
        return path


class Params(Block):
    """What this stage reads of params.yaml."""

    data: Data


def download(params: Params, images: Path = Path("data/images"), labels: Path = Path("data/labels")) -> None:
    """Write the dataset's images to one folder and its labels to another, in the form that `images/store.py` describes.

    Labels lie apart so that only the stage that evaluates depends on them. Equal params give equal bytes, whatever
    route the data came by. Raises UserError if the data cannot be had; then both folders stay as they were.
    """
    data = params.data
    path = Path(data.path).expanduser() if data.path is not None else None
    with (
        output_folder(images) as images_out,
        output_folder(labels) as labels_out,
        # Beside the outputs there is room for a large dataset, which the system's temporary folder may not have. A
        # transfer that was given up may still write there while it is cleared.
        tempfile.TemporaryDirectory(dir=images_out, ignore_cleanup_errors=True) as scratch,
    ):
        wanted = Wanted(scratch=Path(scratch), **data.model_dump() | {"path": path})
        dataset = fitted(SOURCES[data.name](wanted), wanted)
        meta = store.write_images(images_out, data.name, dataset.images, dataset.source)
        # Classes are called by their folders, which may hold any bytes. No stage after this one meets those: they would
        # break figures and Parquet, and that after all training. Paths in tables stay as they are.
        store.write_labels(labels_out, dataset.labels, told_apart(dataset.classes))
        for name, rows in dataset.tables.items():
            write_rows(images_out / name, rows)
        counts = {split: store.read_images(images_out, split) for split in dataset.images}
        found = duplicates.find_duplicates(dict(sorted(counts.items(), key=lambda part: ORDER.index(part[0]))))
        duplicates.write_duplicates(images_out, found)
    print(
        f"{data.name}: {' + '.join(f'{len(split):,} {name}' for name, split in counts.items())} images of"
        f" {meta.size}x{meta.size}x{meta.channels}, {sum(split.nbytes for split in counts.values()) / 1e6:.1f} MB,"
        f" {f'{len(dataset.classes)} classes' if dataset.classes else 'no labels'}"
    )
    if found:
        kinds = Counter(duplicate.kind for duplicate in found)
        crossing = sum(duplicate.split == "test" and duplicate.of_split != "test" for duplicate in found)
        print(
            f"duplicates: {kinds['exact']:,} exact and {kinds['near']:,} near ones, {crossing:,} of them test images"
            f" that train has, too; see {images / duplicates.FILE}"
        )


if __name__ == "__main__":
    run(download)
