"""Images of your own, in a folder.

Two layouts, told apart by the names of the folders directly below data.path (upper or lower case):

1. train/ and test/ (or val/, valid/, validation/) [and unlabeled/]: your own split. Whatever else lies beside them is
   ignored, and said. Only one of the two, or unlabeled/ without them, is an error: more often a mistake than a name.
2. None of these names: all images below the folder, of which the share data.test_share is drawn for test.

Labels come from folders, by one rule for train/, test/ and the whole of layout 2: if every image lies directly in a
subfolder (cat/1.jpg), and there are at least two such subfolders, they are the classes. Otherwise nobody labelled
anything. A subfolder without images is no class, and said: it may be a download that broke off. A class of test/ must
be one of train/, if that has any. Labels only serve to score, so a wrong guess here (folders 2023/, 2024/) harms no
training.
"""

from pathlib import Path

import numpy as np

from stages.images.sources.dataset import Dataset, Wanted
from stages.images.sources.reading import read_files, report_left_out
from stages.images.sources.walking import Listing, entries, is_image, say, walk
from stages.plumbing.errors import UserError
from stages.plumbing.printing import examples, printable

TEST_NAMES = ("test", "val", "valid", "validation")


def folder(wanted: Wanted) -> Dataset:
    """The images below data.path, in one of the layouts above. Raises UserError if they are in none."""
    path = wanted.path
    if path is None:
        raise UserError("data.path is null: data.name = folder reads images of your own; set data.path to their folder")
    if not path.is_dir():
        state = "this is no folder (an archive must be unpacked first)" if path.exists() else "no such folder"
        raise UserError(f"data.path = {path}: {state}; set data.path to the folder that holds the images")
    splits = _own_split(path)
    found = walk(path, only=set(splits.values()) if splits else None)
    report_left_out(wanted.name, found)
    if not found.images:
        raise UserError(
            f"data.path = {path}: no image file below it{say(found.left_out)}; expected files such as .jpg, .png, .heic"
            " or .tif"
        )
    return _read_own_split(wanted, splits, found) if splits else _read_pile(wanted, found)


def _own_split(path: Path) -> dict[str, str]:
    """The folders of train, test and perhaps unlabeled by split, or {} in a pile without such a split."""
    visible = [entry.name for entry in entries(path) if not entry.name.startswith(".")]
    folders = {name.lower(): name for name in visible if (path / name).is_dir()}
    splits = {split: folders[split] for split in ("train", "unlabeled") if split in folders}
    test = [folders[name] for name in TEST_NAMES if name in folders]
    if test:
        splits = {"train": splits.get("train"), "test": test[0], "unlabeled": splits.get("unlabeled")}
        splits = {split: name for split, name in splits.items() if name is not None}
    if not splits:
        return {}
    missing = [name for name, there in (("train/", "train" in splits), ("test/ (or val/)", bool(test))) if not there]
    if missing:
        has = ", ".join(f"{name}/" for name in splits.values())
        only = next(iter(splits.values()))
        raise UserError(
            f"data.path = {path}: it has {has} but no {' and no '.join(missing)}; add what is missing, or set data.path"
            f" to {path / only} to have data.test_share of that drawn for test, or rename {only}/ if it is a class"
        )
    extra = [name for name in visible if name not in splits.values()]
    extra = [f"{name}/" if (path / name).is_dir() else name for name in extra if _counts(path / name)]
    if extra:
        print(f"folder: ignored beside {', '.join(f'{name}/' for name in splits.values())}: {examples(extra)}")
    return splits


def _counts(path: Path) -> bool:
    return path.is_dir() or is_image(path)


def _read_own_split(wanted: Wanted, splits: dict[str, str], found: Listing) -> Dataset:
    files, classes = {}, {}
    for split, name in splits.items():
        inside = [image.removeprefix(f"{name}/") for image in found.images if image.startswith(f"{name}/")]
        if not inside:
            raise UserError(f"data.path = {wanted.path}: no image file in {name}/; put some there or remove the folder")
        files[split] = [f"{name}/{image}" for image in inside]
        if split != "unlabeled":
            empty = [sub for sub in found.folders if sub.startswith(f"{name}/") and sub.count("/") == 1]
            classes[split] = _classes(f"{name}/", inside, [sub.removeprefix(f"{name}/") for sub in empty])
    known = classes["train"] or classes["test"] or []
    strange = [name for name in classes["test"] or [] if name not in known]
    if strange:
        raise UserError(
            f"data.path = {wanted.path}: {splits['test']}/ has class folders that {splits['train']}/ lacks or has"
            f" empty: {examples(strange)}; rename or fill them so that they match, or put the images of"
            f" {splits['test']}/ into it directly, without subfolders, to go without labels there"
        )
    absent = [name for name in known if classes["test"] is not None and name not in classes["test"]]
    if absent:
        print(f"folder: classes without an image in {splits['test']}/: {examples(absent)}", flush=True)
    number = {name: label for label, name in enumerate(known)}
    labels = {
        split: np.array([number[file.split("/")[1]] for file in files[split]], np.int64)
        for split in ("train", "test")
        if classes[split] is not None
    }
    return read_files(wanted, files, labels, known, "a folder of images with a split of its own")


def _read_pile(wanted: Wanted, found: Listing) -> Dataset:
    names = found.images
    if len(names) < 2:
        raise UserError(
            f"data.path = {wanted.path}: only one image file, and train and test need one each{say(found.left_out)}"
        )
    classes = _classes("the folder", names, [sub for sub in found.folders if "/" not in sub])
    count = min(max(1, round(len(names) * wanted.test_share)), len(names) - 1)
    # RandomState's stream is frozen for good, default_rng's may change with numpy: the split must not.
    order = np.random.RandomState(wanted.split_seed).permutation(len(names))
    rows = {"train": np.sort(order[count:]), "test": np.sort(order[:count])}
    files = {split: [names[row] for row in rows[split]] for split in rows}
    labels = {}
    if classes is not None:
        number = {name: label for label, name in enumerate(classes)}
        labels = {split: np.array([number[n.split("/")[0]] for n in files[split]], np.int64) for split in files}
    share = f"{wanted.test_share:g} of it drawn for test (seed {wanted.split_seed})"
    return read_files(wanted, files, labels, classes or [], f"a folder of images, {share}")


def _classes(where: str, images: list[str], folders: list[str]) -> list[str] | None:
    """The class folders among `folders`, by the rule above, or None; what was decided is said."""
    direct = [image for image in images if image.count("/") == 0]
    deep = [image for image in images if image.count("/") > 1]
    classes = sorted({image.split("/")[0] for image in images if "/" in image})
    why = None
    if direct:
        why = f"images lie in it directly, such as {printable(direct[0])}"
    elif deep:
        why = f"images lie deeper than one subfolder, such as {printable(deep[0])}"
    elif len(classes) < 2:
        why = f"all images lie in one subfolder, {printable(classes[0])}/"
    if why is not None:
        print(f"folder: no labels for {where}: {why}", flush=True)
        return None
    print(f"folder: {len(classes):,} subfolders of {where} taken for classes: {examples(classes)}", flush=True)
    empty = [name for name in folders if name not in classes]
    if empty:
        print(f"folder: subfolders of {where} without an image, which are no classes: {examples(empty)}", flush=True)
    return classes
