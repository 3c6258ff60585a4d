"""What can be known before anything trains is refused then, and not by a later stage after hours.

`check_before` runs at the start of a stage under DVC. It only looks and refuses, so it cannot change a result, and no
stage depends on this module.
"""

import hashlib
from pathlib import Path

from stages import download, embed, evaluate, kmeans, mine, pretext, report, scan, selflabel
from stages.errors import UserError
from stages.images.duplicates import FILE, different, read_duplicates
from stages.images.store import read_images, read_meta
from stages.names import read_names
from stages.params import load, read

STAGES = (download, pretext, embed, mine, kmeans, scan, selflabel, evaluate, report)
LAST = ("evaluate", "report")  # no training comes after these
CHECKED = Path(".ckpt/checked")  # a hash of what was found in order the last time
NAMES = Path("names.yaml")


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
    check_counts(params, images)
    CHECKED.parent.mkdir(exist_ok=True)
    CHECKED.write_text(state)


def check_params(params: Path) -> None:
    """Every block of every stage, and what blocks say of each other."""
    known = {stage: read(stage.Params, params) for stage in STAGES}
    p, s, label = known[pretext].pretext, known[scan].scan, known[selflabel].selflabel
    if p.method == "embeddings":
        if s.train != "heads" or label.epochs:
            raise UserError(
                f"{params}: pretext.method = embeddings brings no network that could train; set scan.train: heads and "
                "selflabel.epochs: 0"
            )
    elif known[embed].embed.layer == "projection" and (p.method == "frozen" or pretext.TASKS[p.method].head == "none"):
        raise UserError(f"{params}: pretext.method = {p.method} has no projection; set embed.layer: backbone")


def check_images(params: Path, images: Path) -> None:
    """The stored images against the block `data`: what was asked for must be what lies there."""
    data, meta = read(download.Params, params).data, read_meta(images)
    if meta.name != data.name:
        raise UserError(f"{images} holds {meta.name}, but data.name = {data.name}; run dvc repro download")
    if data.image_size not in (None, meta.size):
        raise UserError(
            f"{images} holds images of {meta.size}x{meta.size}, but data.image_size = {data.image_size}; run dvc repro "
            "--force download"
        )
    for split in ("train", "test"):
        count = len(read_images(images, split))
        if data.limit is not None and count > data.limit:
            raise UserError(
                f"{images} holds {count:,} images of {split}, but data.limit = {data.limit}; run dvc repro --force "
                "download"
            )


def check_counts(params: Path, images: Path) -> None:
    """The numbers of params that the number of images bounds."""
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
