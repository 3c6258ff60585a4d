"""The datasets whose files torchvision knows: MNIST, Kuzushiji-MNIST, SVHN, CIFAR-10, CIFAR-100's 20 classes, STL-10.

Addresses, names and md5s come from torchvision's classes. The files are read here, because those readers hold STL-10's
2.8 GB twice, leave CIFAR-100's 20 coarse labels out, and call every trouble "not found or corrupted".

With data.path, that folder holds the files as torchvision lays them out (cifar-10-batches-py/, MNIST/raw/, …), or is
such a folder itself, or holds what the dataset's home page offers for download, still packed.
"""

import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

from stages.images.sources import fetching, idx
from stages.images.sources.dataset import Dataset, Wanted
from stages.images.sources.fetching import UnusableError, md5, one_line
from stages.plumbing.errors import UserError

DIGITS = [str(digit) for digit in range(10)]


def mnist(wanted: Wanted) -> Dataset:
    """MNIST (LeCun, Cortes and Burges): 60,000 train and 10,000 test images of 28 x 28 grey levels."""
    from torchvision.datasets import MNIST  # imports torch: seconds that only these datasets should cost

    return _idx(wanted, MNIST, DIGITS, "MNIST (LeCun, Cortes and Burges 1998): 70,000 grey images of 28x28")


def kmnist(wanted: Wanted) -> Dataset:
    """Kuzushiji-MNIST (Clanuwat et al. 2018): ten cursive Japanese characters in MNIST's form."""
    from torchvision.datasets import KMNIST

    return _idx(wanted, KMNIST, KMNIST.classes, "Kuzushiji-MNIST (Clanuwat et al. 2018): 70,000 grey images of 28x28")


def svhn(wanted: Wanted) -> Dataset:
    """Street View House Numbers (Netzer et al. 2011), cropped: 73,257 train and 26,032 test images of 32 x 32.

    The 531,131 easier images called "extra" are left out.
    """
    from scipy.io import loadmat
    from torchvision.datasets import SVHN

    images, labels = {}, {}
    names = [SVHN.split_list[split][1] for split in ("train", "test")]
    for split in ("train", "test"):
        address, name, known = SVHN.split_list[split]
        content = loadmat(_packed(wanted, [wanted.path], name, known, [address], need=names))
        images[split] = content["X"].transpose(3, 0, 1, 2)
        labels[split] = content["y"].reshape(-1).astype(np.int64) % 10  # the files call the digit 0 ten
    return Dataset(images, labels, DIGITS, "SVHN, cropped digits (Netzer et al. 2011): 99,289 images of 32x32")


def cifar10(wanted: Wanted) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 train and 10,000 test images of 32 x 32 in 10 classes."""
    from torchvision.datasets import CIFAR10

    source = "CIFAR-10 (Krizhevsky 2009): 60,000 images of 32x32 in 10 classes"
    return _cifar(wanted, CIFAR10, "labels", "label_names", source)


def cifar20(wanted: Wanted) -> Dataset:
    """CIFAR-100 (Krizhevsky 2009) with its 20 superclasses, the coarse labels: 50,000 train and 10,000 test images."""
    from torchvision.datasets import CIFAR100

    source = "CIFAR-100 (Krizhevsky 2009) by its 20 superclasses: 60,000 images of 32x32"
    return _cifar(wanted, CIFAR100, "coarse_labels", "coarse_label_names", source)


def stl10(wanted: Wanted) -> Dataset:
    """STL-10 (Coates, Lee and Ng 2011): 5,000 train, 8,000 test and 100,000 unlabeled images of 96 x 96."""
    from torchvision.datasets import STL10

    folder = _unpacked(wanted, STL10, dict(STL10.train_list + STL10.test_list) | {STL10.class_names_file: None})
    images, labels = {}, {}
    for split in ("train", "test", "unlabeled"):
        # Read as they are needed, not all at once; the files hold each channel column by column.
        pixels = np.memmap(folder / f"{split}_X.bin", np.uint8, "r")
        if pixels.size % (3 * 96 * 96):
            raise UserError(f"stl10: {split}_X.bin does not hold whole images of 3x96x96 bytes; get it anew")
        images[split] = pixels.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        if split != "unlabeled":
            labels[split] = np.fromfile(folder / f"{split}_y.bin", np.uint8).astype(np.int64) - 1
    classes = (folder / STL10.class_names_file).read_text().split()
    return Dataset(images, labels, classes, "STL-10 (Coates, Lee and Ng 2011): images of 96x96 in 10 classes")


def _cifar(wanted: Wanted, known: type, label_key: str, names_key: str, source: str) -> Dataset:
    lists = {"train": dict(known.train_list), "test": dict(known.test_list)}
    meta = {known.meta["filename"]: known.meta["md5"]}
    folder = _unpacked(wanted, known, lists["train"] | lists["test"] | meta)
    images, labels = {}, {}
    for split, names in lists.items():
        # A pickle can run code when it is read; these have the md5s of the published ones.
        parts = [pickle.loads((folder / name).read_bytes(), encoding="latin1") for name in names]
        pixels = np.concatenate([part["data"] for part in parts])
        images[split] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels[split] = np.concatenate([np.asarray(part[label_key], np.int64) for part in parts])
    classes = pickle.loads((folder / known.meta["filename"]).read_bytes(), encoding="latin1")[names_key]
    return Dataset(images, labels, list(classes), source)


def _idx(wanted: Wanted, known: type, classes: list[str], source: str) -> Dataset:
    """MNIST and those in its form: four idx files, whose md5s are known as they are packed."""
    bases = [wanted.path / known.__name__ / "raw", wanted.path / "raw", wanted.path] if wanted.path else []
    arrays, names = {}, [name for name, _ in known.resources]
    for name, checksum in known.resources:
        stem = name.removesuffix(".gz")
        plain = next((base / stem for base in bases if (base / stem).is_file()), None)
        if plain is not None and not any((base / name).is_file() for base in bases):
            file = plain
        else:
            file = _packed(wanted, bases, name, checksum, [mirror + name for mirror in known.mirrors], need=names)
        try:
            arrays[stem] = idx.decode(idx.unpacked(file.read_bytes()), 3 if "images" in name else 1)
        except ValueError as error:
            raise UserError(f"{file} is damaged: {error}; replace it or remove it") from None
    return Dataset(
        images={split: arrays[f"{stem}-images-idx3-ubyte"][..., None] for split, stem in _STEMS.items()},
        labels={split: arrays[f"{stem}-labels-idx1-ubyte"].astype(np.int64) for split, stem in _STEMS.items()},
        classes=list(classes),
        source=source,
    )


_STEMS = {"train": "train", "test": "t10k"}


def _packed(wanted: Wanted, bases: list[Path], name: str, checksum: str, addresses: list[str], need: list[str]) -> Path:
    """A file as it is offered for download, its md5 checked: from the user's folder, or fetched if they named none.

    Raises UserError if it is not there, damaged, or cannot be fetched; it says all the names that the dataset `need`s.
    """
    if wanted.path is None:
        return _fetched(wanted, name, checksum, addresses, need)
    _need_folder(wanted)
    file = next((base / name for base in bases if (base / name).is_file()), None)
    if file is None:
        unpacked = " (or the same unpacked)" if name.endswith("-ubyte.gz") else ""
        raise UserError(
            f"data.path = {wanted.path}: {name}{unpacked} is missing there; get it from {addresses[0]}, or set"
            " data.path to null to have everything fetched"
        )
    _check(wanted, file, checksum)
    return file


def _unpacked(wanted: Wanted, known: type, members: dict[str, str | None]) -> Path:
    """The folder that holds the files of an archive, their md5s checked; from the archive, if only that is there."""
    if wanted.path is not None:
        _need_folder(wanted)
        for folder in (wanted.path / known.base_folder, wanted.path):
            missing = [name for name in members if not (folder / name).is_file()]
            if folder.name == known.base_folder and folder.is_dir() and missing:
                raise UserError(
                    f"data.path = {wanted.path}: {folder} is incomplete, {', '.join(missing)} is missing; extract"
                    f" {known.filename} once more, or set data.path to null to have it fetched"
                )
            if not missing:
                break
        else:
            if not (wanted.path / known.filename).is_file():
                raise UserError(
                    f"data.path = {wanted.path}: neither {known.base_folder}/ nor {known.filename} is there; get the"
                    f" latter from {known.url}, or set data.path to null to have it fetched"
                )
            folder = None
        if folder is not None:
            print(f"{wanted.name}: reading {folder}", flush=True)
            for name, checksum in members.items():
                if checksum is not None:
                    _check(wanted, folder / name, checksum)
            return folder
    archive = _packed(wanted, [wanted.path], known.filename, known.tgz_md5, [known.url], [known.filename])
    print(f"{wanted.name}: unpacking {archive.name}", flush=True)
    try:
        with tarfile.open(archive) as opened:
            # Its md5 is known, so nothing in it can surprise; but Python 3.14 asks, and 3.11.3 cannot be answered.
            opened.extractall(wanted.scratch, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{wanted.name}: {archive} cannot be unpacked ({one_line(error)}); get it anew") from None
    return wanted.scratch / known.base_folder


def _need_folder(wanted: Wanted) -> None:
    if not wanted.path.is_dir():
        raise UserError(f"data.path = {wanted.path}: no such folder; name the one that holds {wanted.name}, or null")


def _check(wanted: Wanted, file: Path, checksum: str) -> None:
    found = md5(file)
    if found != checksum:
        raise UserError(
            f"data.path = {wanted.path}: {file} is damaged or not the published file: {file.stat().st_size:,} bytes of"
            f" md5 {found}, expected md5 {checksum}; replace it, or set data.path to null to have it fetched"
        )


def _fetched(wanted: Wanted, name: str, checksum: str, addresses: list[str], need: list[str]) -> Path:
    file, failures = wanted.scratch / name, []
    for address in addresses:
        print(f"{wanted.name}: fetching {address}", flush=True)
        try:
            fetching.fetch(address, file)
            if (found := md5(file)) != checksum:
                raise UnusableError(f"{file.stat().st_size:,} bytes of md5 {found}, expected md5 {checksum}")
        except (UnusableError, OSError) as error:
            failures.append(f"{address}: {one_line(error)}")
        else:
            return file
    raise UserError(
        f"{wanted.name} could not be fetched ({'; '.join(failures)}); where the network is closed, fetch"
        f" {', '.join(need)} elsewhere, put {'it' if len(need) == 1 else 'them'} into a folder and set data.path"
        " to that folder"
    )
