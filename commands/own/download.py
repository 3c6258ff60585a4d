"""The pictures read by the stage download, through DVC, and what came of it."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.images import duplicates, index
from stages.images.store import read_images
from stages.plumbing.errors import UserError

IMAGES = Path("data/images")
LOOKED_AT = 300  # pictures, evenly spread


class Read(NamedTuple):
    """What the stage `download` made of a folder."""

    counts: dict[str, int]
    skipped: int
    exact: int
    near: int
    looked_at: int  # pictures of train, of which the next two are
    brightest: int  # the largest value of any pixel
    flat: int  # pictures of one colour


def read_result(images: Path) -> Read:
    """Count what `download` has written to the folder of images. UserError if its tables are broken."""
    counts = dict(Counter(split for split, _ in index.read_index(images) or ()))
    kinds = [copy.kind for copy in duplicates.read_duplicates(images)]
    pixels = read_images(images, "train")
    some = pixels[np.unique(np.linspace(0, len(pixels) - 1, LOOKED_AT, dtype=np.int64))]
    flat = int((np.ptp(some.reshape(len(some), -1), axis=1) == 0).sum())
    skipped = index.count_skipped(images)
    return Read(counts, skipped, kinds.count("exact"), kinds.count("near"), len(some), int(some.max()), flat)


def download(force: bool) -> None:
    """Read the pictures, through DVC. UserError if that fails; the stage has then said why."""
    print("Reading    all pictures, by dvc repro download:", flush=True)
    # Stages are started as `python`, which has to be this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    # DVC does not look into the folder, so that it has to be told when something in there has changed.
    command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else []), "download"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace", env=env) as process:
        shown = True
        for line in process.stdout:
            shown = shown and not line.startswith("To track the changes")  # its advice on git, which the run repeats
            if shown and line.strip():
                print(f"           {line}", end="", flush=True)
    if process.returncode:
        raise UserError("the pictures could not be read, see above; params.yaml is as it was")
