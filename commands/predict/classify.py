"""What a model says of image files: a table with a row for every file, written as the files go by."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from commands.predict.streaming import batches
from stages.images.sources.walking import say, walk
from stages.images.views import PlainView
from stages.networks.classifier import Classifier
from stages.plumbing.csv_files import read_records, write_rows
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_file
from stages.plumbing.printing import printable
from stages.plumbing.progress import Progress
from stages.scoring.matching import assign
from stages.training.devices import device, mixed_precision
from stages.training.inference import BATCH

COLUMNS = ["path", "cluster", "name", "confidence", "margin", "unsure", "error"]
SHOWN = 10  # groups in the summary


@dataclass
class Summary:
    """What became of the files: how many lie in each group, are unsure, or could not be read (and the first of these).

    Unsure ones count in their groups, too. `left_out` counts files that were not looked at, by kind.
    """

    files: int = 0
    groups: Counter = field(default_factory=Counter)
    unsure: int = 0
    unreadable: int = 0
    first: str = ""
    left_out: Counter = field(default_factory=Counter)

    def __str__(self) -> str:
        groups = [f"{name}: {count:,}" for name, count in self.groups.most_common(SHOWN)]
        if len(self.groups) > SHOWN:
            groups.append(f"{len(self.groups) - SHOWN:,} more groups")
        said = [f"{self.files:,} image{'' if self.files == 1 else 's'}", ", ".join(groups), f"{self.unsure:,} unsure"]
        said += [f"{self.unreadable:,} could not be read, first {self.first}"] if self.unreadable else []
        return "; ".join(filter(None, said)) + say(self.left_out)


def image_files(images: Sequence[Path], apart: Path | None = None) -> tuple[list[str], Counter]:
    """The files named, and the image files below the folders named, each once; and what was left out there, by kind.

    UserError if there are no image files.
    `apart` is a folder below which nothing is taken: where files are sorted to. UserError if a folder named lies there.
    """
    found: dict[str, str] = {}
    left_out: Counter = Counter()
    beyond = 0
    for path in images:
        if path.is_dir():
            below = walk(path)
            left_out += below.left_out
            if not below.images:
                raise UserError(
                    f"{path}: no image file below it{say(below.left_out)}; expected files such as .jpg, .png, .heic or"
                    " .tif"
                )
            names = [str(path / name) for name in below.images]
        elif path.is_file():
            names = [str(path)]
        else:
            state = "neither a file nor a folder" if path.exists() else "no such file or folder"
            raise UserError(f"{path}: {state}; --images takes image files, and folders that hold some")
        sorted_to = _below(path, apart)
        for name in names:
            if sorted_to is not None and Path(name).is_relative_to(sorted_to):
                beyond += 1
            else:
                found.setdefault(os.path.abspath(name), name)  # a folder and a file in it name that file twice
    if beyond:
        print(f"predict: left out {beyond:,} images below {apart}, where images are sorted to", flush=True)
    if not found:
        raise UserError(f"all images lie below {apart}, where they are to be sorted to; name other images")
    return list(found.values()), left_out


def _below(path: Path, apart: Path | None) -> Path | None:
    """The folder `apart` as reached by way of `path`, or None if it does not lie below it."""
    if apart is None:
        return None
    apart, real = apart.resolve(), path.resolve()
    if real.is_relative_to(apart):
        raise UserError(f"{path} lies in {apart}, where images are to be sorted to; sort into another folder")
    return path / apart.relative_to(real) if apart.is_relative_to(real) else None


def write_predictions(
    out: Path, files: Sequence[str], model: Classifier, names: Sequence[str], threshold: float
) -> Summary:
    """Classify files and write a row of COLUMNS for each; return the totals.

    A file that cannot be read has a reason in `error` and no other value. Cluster, confidence and margin are made as
    the pipeline makes them of its own images: pixels as `download` stores them, probabilities rounded to float16.
    Memory holds a few batches of images, whatever their number; `out` appears when all are done.
    """
    summary = Summary()

    def rows(progress: Progress) -> Iterator[list]:
        yield COLUMNS
        for batch in _classified(files, model, names, threshold, summary):
            yield from batch
            progress.advance(len(batch))

    with output_file(out) as partial, Progress("predict", len(files)) as progress:
        write_rows(partial, rows(progress))
    return summary


@torch.inference_mode()
def _classified(
    files: Sequence[str], model: Classifier, names: Sequence[str], threshold: float, summary: Summary
) -> Iterator[list[list]]:
    """The rows of the table, a batch at a time, which `summary` counts."""
    model = model.to(device()).eval()
    input = model.encoder.input
    view = PlainView(input.mean, input.std)
    for paths, pixels, reasons in batches(files, input.size, input.channels, BATCH):
        rows = [[path, "", "", "", "", "", printable(reason)] for path, reason in zip(paths, reasons, strict=True)]
        readable = [number for number, reason in enumerate(reasons) if not reason]
        if readable:
            images = torch.from_numpy(pixels[readable]).permute(0, 3, 1, 2).contiguous().to(device())
            with mixed_precision():
                probabilities = model(view(images))[0].softmax(1)
            found = assign(probabilities.cpu().numpy().astype(np.float16))
            answers = zip(readable, found.cluster.tolist(), found.confidence.tolist(), found.margin.tolist())
            for number, cluster, confidence, margin in answers:
                unsure, name = confidence < threshold, names[cluster]
                rows[number][1:6] = cluster, name, f"{confidence:.4f}", f"{margin:.4f}", str(unsure).lower()
                summary.groups[name] += 1
                summary.unsure += unsure
        if len(readable) < len(paths) and not summary.first:
            path, *_, reason = next(row for row in rows if row[-1])
            summary.first = f"{printable(path)}: {reason}"
        summary.files += len(paths)
        summary.unreadable += len(paths) - len(readable)
        yield rows


def read_predictions(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table that `write_predictions` wrote, one after the other. UserError if it is broken."""
    return read_records(path, dict.fromkeys(COLUMNS, str))
