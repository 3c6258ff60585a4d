"""Fashion-MNIST, fetched by the first of several routes that works.

Whichever that is, every file must have the known md5, so the result is the same to the byte. No route hangs: a closed
network is a normal place to run this.
"""

import hashlib
import os
import subprocess
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import numpy as np

from stages.images.sources import fetching, idx
from stages.images.sources.dataset import Dataset, Wanted
from stages.images.sources.fetching import UnusableError, one_line
from stages.plumbing.errors import UserError

TRANSFER_LIMIT = 600  # seconds for any file but the first, small one
APT_LIMIT = 300  # seconds for each command of the Debian route

PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# Shape and md5 of each file once unpacked: Debian packs the same content with other gzip headers than the mirrors do.
# The smallest comes first, so that a mirror that cannot deliver is found out early.
FASHION_FILES = {
    "t10k-labels-idx1-ubyte": ((10_000,), "15d484375f8d13e6eb1aabb0c3f46965"),
    "train-labels-idx1-ubyte": ((60_000,), "9018921c3c673c538a1fc5bad174d6f9"),
    "t10k-images-idx3-ubyte": ((10_000, 28, 28), "8181f5470baa50b63fa0f6fddb340f0a"),
    "train-images-idx3-ubyte": ((60_000, 28, 28), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
}
FASHION_CLASSES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


def fashion_mnist(wanted: Wanted) -> Dataset:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 60,000 train and 10,000 test images of 28 x 28 grey levels.

    With `path`, only that folder is read: it, or FashionMNIST/raw below it (torchvision's layout), holds the four idx
    files, packed or not. Raises UserError if one is missing or damaged, or, without `path`, if every route fails.
    """
    files = _from_users_folder(wanted.path) if wanted.path is not None else _from_first_route(wanted.scratch)
    return Dataset(
        images={split: files[f"{stem}-images-idx3-ubyte"][..., None] for split, stem in _STEMS.items()},
        labels={split: files[f"{stem}-labels-idx1-ubyte"].astype(np.int64) for split, stem in _STEMS.items()},
        classes=FASHION_CLASSES,
        source="Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 70,000 grey images of 28x28, its own split",
    )


_STEMS = {"train": "train", "test": "t10k"}


def _from_users_folder(path: Path) -> dict[str, np.ndarray]:
    """The four arrays from the folder that the user named, or a UserError: never from elsewhere behind their back."""
    print(f"fashion-mnist: reading {path}", flush=True)
    try:
        return _from_folder(path)
    except (UnusableError, OSError) as error:
        raise UserError(
            f"data.path = {path}: {one_line(error)}; put the right file there, or set data.path to null to have all"
            " four fetched"
        ) from None


def _from_first_route(scratch: Path) -> dict[str, np.ndarray]:
    """The four arrays by the first route that delivers them. Raises UserError that says why each one failed."""
    failures = []
    for name, route in ROUTES.items():
        print(f"fashion-mnist: trying {name}", flush=True)
        try:
            files = route(scratch)
        except (UnusableError, OSError) as error:
            failures.append(f"{name}: {one_line(error)}")
            print(f"fashion-mnist: {failures[-1]}", flush=True)
        else:
            print(f"fashion-mnist: all {len(files)} files came from {name}", flush=True)
            return files
    wanted = ", ".join(f"{name}.gz" for name in FASHION_FILES)
    raise UserError(
        f"fashion-mnist came by none of {len(failures)} routes ({'; '.join(failures)});"
        f" put {wanted} into a folder and set data.path to that folder"
    )


def _from_folder(folder: Path) -> dict[str, np.ndarray]:
    """The four arrays from a folder; see `fashion_mnist` for the layouts."""

    def get(name: str) -> tuple[str, bytes]:
        for file in (
            base / f"{name}{end}" for base in (folder, folder / "FashionMNIST" / "raw") for end in (".gz", "")
        ):
            if file.exists():
                return str(file), file.read_bytes()
        raise UnusableError(f"{folder / name}.gz does not exist")

    if not folder.is_dir():
        raise UnusableError(f"{folder} is not a folder")
    return _collect(get)


def _from_mirrors(scratch: Path) -> dict[str, np.ndarray]:
    """The four arrays from the first of torchvision's mirrors that delivers them."""
    failures = []
    for mirror in _mirrors():
        try:
            return _from_mirror(mirror)
        except (UnusableError, OSError) as error:
            failures.append(f"{mirror}: {one_line(error)}")
    raise UnusableError("; ".join(failures))


def _mirrors() -> list[str]:
    """The addresses of folders that torchvision knows to hold the four packed files."""
    from torchvision.datasets import FashionMNIST  # imports torch: seconds that only this route should cost

    return list(FashionMNIST.mirrors)


def _from_mirror(mirror: str) -> dict[str, np.ndarray]:
    """The four arrays from one mirror, or an error within seconds if it does not answer."""
    fetching.probe(mirror)

    def fetch(url: str) -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=fetching.ANSWER_LIMIT) as response:
                return response.read()
        except HTTPException as error:
            raise UnusableError(f"broken answer ({error!r})") from None

    def get(name: str) -> tuple[str, bytes]:
        url = f"{mirror}{name}.gz"
        limit = fetching.ANSWER_LIMIT if name == next(iter(FASHION_FILES)) else TRANSFER_LIMIT
        return url, fetching.within(limit, lambda: fetch(url))

    return _collect(get)


def _from_installed_package(scratch: Path) -> dict[str, np.ndarray]:
    """The four arrays from the Debian package, where an administrator installed it."""
    return _from_folder(PACKAGE_FOLDER)


def _from_debian_archive(scratch: Path) -> dict[str, np.ndarray]:
    """The four arrays from the Debian package, fetched and unpacked in `scratch`: needs no root, installs nothing."""
    lists, cache, package = (scratch.resolve() / name for name in ("lists", "cache", "package"))
    for folder in (lists / "partial", cache / "archives" / "partial", package):
        folder.mkdir(parents=True)
    # As root, apt would fetch as the user _apt, whom the scratch folder does not let in.
    apt = ["apt-get", "-oAPT::Sandbox::User=root", "-oAcquire::Retries=0", "-oAcquire::http::Timeout=10"]
    own = [*apt, f"-oDir::State::Lists={lists}", f"-oDir::Cache={cache}"]
    try:
        _command(package, *apt, "download", PACKAGE)
    except UnusableError:
        # The machine's package lists are missing, as in a fresh container, or old: fetch lists of our own.
        stale = None
        try:
            _command(package, *own, "-oAcquire::Languages=none", "-oAPT::Update::Error-Mode=any", "update")
        except UnusableError as error:
            stale = error  # one unreachable source, or a hook that wants root, need not concern the list that matters
        try:
            _command(package, *own, "download", PACKAGE)
        except UnusableError as error:
            raise stale or error from None
    for archive in package.glob("*.deb"):
        _command(package, "dpkg-deb", "-x", archive.name, ".")
    return _from_folder(package / PACKAGE_FOLDER.relative_to("/"))


ROUTES: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    "torchvision's mirrors": _from_mirrors,
    "the installed Debian package": _from_installed_package,
    "the Debian archive": _from_debian_archive,
}


def _collect(get: Callable[[str], tuple[str, bytes]]) -> dict[str, np.ndarray]:
    """The four arrays by file name; `get` returns where a file lies and its bytes, packed or not."""
    return {name: _decode(*get(name), *expected) for name, expected in FASHION_FILES.items()}


def _decode(origin: str, content: bytes, shape: tuple[int, ...], md5: str) -> np.ndarray:
    """An idx file of bytes (packed or not) as uint8 of `shape`. Raises UnusableError unless it is the one expected."""
    try:
        plain = idx.unpacked(content)
        found = hashlib.md5(plain, usedforsecurity=False).hexdigest()
        if found == md5:
            return idx.decode(plain, len(shape))
    except ValueError as error:
        raise UnusableError(f"{origin} holds {error}") from None
    raise UnusableError(
        f"{origin} holds, unpacked, {len(plain):,} bytes of md5 {found}; expected an array of {shape}, md5 {md5}"
    )


def _command(folder: Path, *command: str) -> None:
    """Run a command in `folder`, without input. Raises UnusableError with the first error it printed if it fails."""
    name = " ".join(part for part in command if not part.startswith("-"))
    try:
        subprocess.run(
            command,
            cwd=folder,
            timeout=APT_LIMIT,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise UnusableError(f"this machine has no {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise UnusableError(f"{name}: not done within {APT_LIMIT} s") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.splitlines() or ["no message"]
        raise UnusableError(f"{name}: {next((line for line in lines if line.startswith('E:')), lines[-1])}") from None
