"""ImageNet (ILSVRC 2012) and the subsets of it that papers on clustering use, from files that lie here already."""

import re
from pathlib import Path

import numpy as np

from stages.images.sources.dataset import Dataset, Wanted
from stages.images.sources.imagenet_wnids import SUBSETS
from stages.images.sources.reading import read_files, report_left_out
from stages.images.sources.walking import entries, walk
from stages.plumbing.errors import UserError
from stages.plumbing.printing import examples

FEWEST = {"train": 732, "val": 50}  # images per class in the whole of ImageNet


def imagenet(wanted: Wanted, classes: int) -> Dataset:
    """So many classes of ImageNet, `val` as test; the wnids are the classes' names.

    data.path holds train/<wnid>/*.JPEG and val/<wnid>/*.JPEG. The short side is brought to data.image_size and the
    middle cut out, so that all of it is kept; the usual test (short side 256, middle 224) would lose another eighth.
    Raises UserError if folders are missing or empty.
    """
    path = wanted.path
    if path is None:
        raise UserError(
            f"data.path is null: {wanted.name} cannot be fetched, its licence wants each user to ask for it at"
            " image-net.org; set data.path to the folder that holds train/ and val/"
        )
    if wanted.image_size is None:
        raise UserError(
            "data.image_size is null: ImageNet's images have many sizes; set data.image_size (224 is usual)"
        )
    wnids = SUBSETS[classes] if classes in SUBSETS else _all_wnids(path, classes, wanted.name)
    number = {wnid: label for label, wnid in enumerate(wnids)}
    files, labels = {}, {}
    for split, name in (("train", "train"), ("test", "val")):
        _check_folder(path, name)
        found = walk(path / name, only=number)
        report_left_out(f"{wanted.name} {name}/", found)
        counts = dict.fromkeys(wnids, 0)
        for image in found.images:
            counts[image.split("/")[0]] += 1
        missing = [wnid for wnid in wnids if not counts[wnid]]
        if missing:
            raise UserError(
                f"data.path = {path}: {len(missing):,} of the {classes:,} classes of {wanted.name} have no image in"
                f" {name}/<wnid>/: {examples(missing)}; extract them there (one folder a wnid)"
            )
        few = [f"{wnid} ({counts[wnid]:,})" for wnid in wnids if counts[wnid] < FEWEST[name]]
        if few:
            print(
                f"{wanted.name}: {len(few):,} folders of {name}/ hold fewer than {FEWEST[name]} images, which no"
                f" class of ImageNet does; was all of it extracted? {examples(few)}",
                flush=True,
            )
        files[split] = [f"{name}/{image}" for image in found.images]
        labels[split] = np.array([number[image.split("/")[0]] for image in found.images], np.int64)
    return read_files(wanted, files, labels, list(wnids), f"ImageNet (ILSVRC 2012), {classes:,} classes, val as test")


def _check_folder(path: Path, name: str) -> None:
    """Raise UserError unless the split is a folder of folders."""
    inside = [entry.name for entry in entries(path / name)] if (path / name).is_dir() else None
    if inside is None:
        raise UserError(f"data.path = {path}: it has no folder {name}/; it must hold train/<wnid>/ and val/<wnid>/")
    if not any(_is_wnid(path / name / entry) for entry in inside):
        tars = [entry for entry in inside if entry.endswith(".tar")]
        state = f"{len(tars):,} .tar files, not extracted" if tars else f"{examples(inside) or 'nothing'}"
        raise UserError(
            f"data.path = {path}: {name}/ holds no folder named as a wnid (such as n01440764/) but {state}; bring its"
            f" images into {name}/<wnid>/"
        )


def _is_wnid(path: Path) -> bool:
    return re.fullmatch(r"n\d{8}", path.name) is not None and path.is_dir()


def _all_wnids(path: Path, classes: int, name: str) -> tuple[str, ...]:
    """Every wnid in train/, if they are as many as they should be."""
    _check_folder(path, "train")
    wnids = tuple(entry.name for entry in entries(path / "train") if _is_wnid(path / "train" / entry.name))
    if len(wnids) != classes:
        raise UserError(
            f"data.path = {path}: train/ has {len(wnids):,} wnid folders, {name} needs {classes:,}; extract the others,"
            " or set data.name to folder to take what is there"
        )
    return wnids
