"""What can be known before anything trains is refused then, and not by a later stage after hours.

`check_before` runs at the start of a stage under DVC; `python -m commands.preflight` does the same for all of them at
once. It only looks and refuses, so it cannot change a result, and no stage depends on this module.
"""

import argparse
import hashlib
import importlib
import sys
from pathlib import Path

from pydantic import BaseModel

from stages.images.store import read_images, read_meta
from stages.plumbing.errors import UserError
from stages.plumbing.params import load, read
from stages.scoring.names import FILE as NAMES
from stages.scoring.names import read_names

STAGES = ("download", "pretext", "embed", "mine", "kmeans", "scan", "selflabel", "evaluate", "report")
LAST = ("evaluate", "report")  # no training comes after these
CHECKED = Path(".ckpt/checked")  # a hash of what was found in order the last time


def check_before(stage: str, params: Path, images: Path) -> None:
    """Check what `stage` and those after it need. UserError for the first thing that is wrong.

    params: the params file of all stages; images: the folder that download wrote. Each state of both is checked once.
    """
    if stage == "download":  # it makes the images
        return
    check_images(params, images)
    files = [params, images / "meta.json", images / "duplicates.csv", NAMES]
    state = hashlib.sha256(b"".join(path.read_bytes() for path in files if path.exists())).hexdigest()
    if stage in LAST or (CHECKED.exists() and CHECKED.read_text() == state):
        return
    check_params(params)
    check_numbers(params, images)
    CHECKED.parent.mkdir(exist_ok=True)
    CHECKED.write_text(state)


def check_params(params: Path) -> None:
    """Every block of every stage, and what blocks say of each other."""
    # Imported where all is looked at, which is seldom: the stages bring seconds of libraries with them.
    modules = {stage: importlib.import_module(f"stages.{stage}") for stage in STAGES}
    known: dict[str, BaseModel] = {stage: read(module.Params, params) for stage, module in modules.items()}
    p, s, label = known["pretext"].pretext, known["scan"].scan, known["selflabel"].selflabel
    if p.method == "embeddings":
        if s.train != "heads" or label.epochs:
            raise UserError(
                f"{params}: pretext.method = embeddings brings no network that could train; set scan.train: heads and "
                "selflabel.epochs: 0"
            )
    elif known["embed"].embed.layer == "projection" and (
        p.method == "frozen" or modules["pretext"].TASKS[p.method].head == "none"
    ):
        raise UserError(f"{params}: pretext.method = {p.method} has no projection; set embed.layer: backbone")


def check_images(params: Path, images: Path) -> None:
    """The stored images against the block `data`: what was asked for must be what lies there."""
    data, meta = load(params).get("data"), read_meta(images)
    if not isinstance(data, dict):
        return  # which is refused with all other keys
    name, size, limit = (data.get(key) for key in ("name", "image_size", "limit"))
    if meta.name != name:
        raise UserError(f"{images} holds {meta.name}, but data.name = {name}; run dvc repro download")
    if size not in (None, meta.size):
        raise UserError(
            f"{images} holds images of {meta.size}x{meta.size}, but data.image_size = {size}; run dvc repro --force "
            "download"
        )
    for split in ("train", "test"):
        count = len(read_images(images, split))
        if isinstance(limit, int) and count > limit:
            raise UserError(
                f"{images} holds {count:,} images of {split}, but data.limit = {limit}; run dvc repro --force download"
            )


def check_numbers(params: Path, images: Path) -> None:
    """The numbers of params that the number of images bounds."""
    from stages.images.duplicates import FILE, different, read_duplicates  # as above

    content, count = load(params), len(read_images(images, "train"))
    kinds = different("train", count, read_duplicates(images))
    clusters, k = content["clusters"], content["mine"]["k"]
    if kinds == 1:
        raise UserError(
            f"all {count:,} training images are copies of one ({images / FILE} lists them), so there is nothing to "
            "tell apart; add images that differ"
        )
    if clusters > kinds:
        raise UserError(
            f"clusters = {clusters}, but only {kinds:,} of the {count:,} training images are different; lower clusters "
            f"to {kinds} or less"
        )
    if k >= count:
        raise UserError(
            f"mine.k = {k}, but there are {count:,} training images, so each has {count - 1} others; lower mine.k to "
            f"{count - 1} or less"
        )
    read_names(NAMES, clusters, model="")  # of which model it is will be known later; whether it can be read, now


def main() -> None:
    """Check params.yaml, and the images where there are any: exit code 1 and one line for the first thing wrong."""
    parser = argparse.ArgumentParser(prog="python -m commands.preflight", description="Check params.yaml and images.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    parser.add_argument("--images", type=Path, default=Path("data/images"), help="default: data/images")
    a = parser.parse_args()
    try:
        check_params(a.params)
        if (a.images / "meta.json").exists():
            check_images(a.params, a.images)
            check_numbers(a.params, a.images)
    except UserError as error:
        sys.exit(f"preflight: {error}")
    print(f"preflight: {a.params} is in order")


if __name__ == "__main__":
    main()
