"""Stage `download`: bring a dataset into the one stored form, its labels apart from its images."""

import tempfile
from pathlib import Path
from typing import Literal

from stages import command
from stages.images import store
from stages.images.sources import SOURCES
from stages.params import Block


class Data(Block):
    """The block `data`: which dataset, and the folder where its files already lie, if they do."""

    name: Literal[*SOURCES]
    path: str | None


class Params(Block):
    """What this stage reads of params.yaml."""

    data: Data


def download(images: Path, labels: Path, params: Params) -> None:
    """Write the dataset's images to one folder and its labels to another, in the form that `images/store.py` describes.

    Labels lie apart so that only the stage that evaluates depends on them. Equal params give equal bytes, whatever
    route the data came by. Raises UserError if the data cannot be had; then both folders stay as they were.
    """
    path = Path(params.data.path).expanduser() if params.data.path is not None else None
    with (
        command.output_folder(images) as images_out,
        command.output_folder(labels) as labels_out,
        # Beside the outputs there is room for a large dataset, which the system's temporary folder may not have.
        tempfile.TemporaryDirectory(dir=images_out) as scratch,
    ):
        dataset = SOURCES[params.data.name](path, Path(scratch))
        meta = store.write_images(images_out, params.data.name, dataset.images, dataset.source)
        store.write_labels(labels_out, dataset.labels, dataset.classes)
    counts = " + ".join(f"{len(split):,} {name}" for name, split in dataset.images.items())
    print(
        f"{params.data.name}: {counts} images of {meta.size}x{meta.size}x{meta.channels},"
        f" {sum(split.nbytes for split in dataset.images.values()) / 1e6:.1f} MB, {len(dataset.classes)} classes"
    )


if __name__ == "__main__":
    command.run(download)
