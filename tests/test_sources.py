"""The other sources: each dataset small in its true layout on disk, read exactly; and what a broken one is told."""

import gzip
import hashlib
import http.server
import json
import pickle
import struct
import sys
import tarfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets as published

from stages import download
from stages.images import store
from stages.images.sources import fetching, imagenet
from stages.images.sources.imagenet_wnids import SUBSETS
from stages.images.sources.registry import SOURCES
from stages.plumbing import command
from stages.plumbing.errors import UserError

DATA = {"image_size": None, "limit": None, "test_share": 0.1, "split_seed": 0, "unreadable": 0.01}
SETS = ["mnist", "kmnist", "svhn", "cifar10", "cifar20", "stl10"]
ARCHIVES = {"cifar10": published.CIFAR10, "cifar20": published.CIFAR100, "stl10": published.STL10}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def closed_network(monkeypatch):
    """Nothing is ever fetched from outside; a test that means to fetch opens the way to a server of its own."""

    def refuse(address):
        raise OSError(f"no way to {address}")

    monkeypatch.setattr(fetching, "probe", refuse)


def run(monkeypatch, tmp_path: Path, name: str, path: Path | None, **more) -> Path:
    params = tmp_path / "params.yaml"
    params.write_text(json.dumps({"data": DATA | {"name": name, "path": None if path is None else str(path)} | more}))
    flags = ["--images", tmp_path / "out/images", "--labels", tmp_path / "out/labels", "--params", params]
    monkeypatch.setattr(sys, "argv", ["download", *map(str, flags)])
    command.run(download.download)
    return tmp_path / "out"


def fails(monkeypatch, tmp_path: Path, name: str, path: Path | None, **more) -> str:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, tmp_path, name, path, **more)
    assert isinstance(stop.value.code, str), "a text as exit code is what makes Python print it and exit with 1"
    assert "\n" not in stop.value.code
    assert list((tmp_path / "out").iterdir()) == []
    return stop.value.code


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def pack(archive: Path, folder: Path) -> str:
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(folder, folder.name)
    return md5(archive.read_bytes())


def lay_idx(monkeypatch, root: Path, known: type) -> None:
    """The four idx files, packed: two zeros, 8 for bytes, the dimensions, each of them, the bytes."""
    folder = root / known.__name__ / "raw"
    folder.mkdir(parents=True)
    resources = []
    for name, _ in known.resources:
        shape = (7 if name.startswith("train") else 5, *((28, 28) if "images" in name else ()))
        array = pixels(*shape) if "images" in name else np.arange(shape[0], dtype=np.uint8)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape)
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))
        (folder / name.removesuffix(".gz")).write_bytes(header + array.tobytes())
        resources.append((name, md5((folder / name).read_bytes())))
    monkeypatch.setattr(known, "resources", resources)


def lay_svhn(monkeypatch, root: Path) -> None:
    """Matlab files with X, (32, 32, 3, N), and y, (N, 1) with 10 for the digit 0."""
    root.mkdir()
    split_list = dict(published.SVHN.split_list)
    for split, count in (("train", 12), ("test", 10)):
        address, name, _ = split_list[split]
        savemat(root / name, {"X": pixels(32, 32, 3, count), "y": (np.arange(count, dtype=np.uint8) % 10 + 1)[:, None]})
        split_list[split] = [address, name, md5((root / name).read_bytes())]
    monkeypatch.setattr(published.SVHN, "split_list", split_list)


def lay_cifar(monkeypatch, root: Path, known: type) -> None:
    """Pickles with data, (N, 3072) channel after channel, and lists of labels; and one of names."""
    folder = root / known.base_folder
    folder.mkdir(parents=True)
    coarse = known is published.CIFAR100

    def save(name: str, content: dict) -> str:
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        return md5((folder / name).read_bytes())

    for kind in ("train_list", "test_list"):
        files = []
        for name, _ in getattr(known, kind):
            content = {"data": pixels(6, 3072)}
            if coarse:
                content |= {"fine_labels": [99, 50, 0, 1, 2, 3], "coarse_labels": [19, 10, 0, 1, 2, 3]}
            else:
                content |= {"labels": RNG.permutation(10)[:6].tolist()}
            files.append([name, save(name, content)])
        monkeypatch.setattr(known, kind, files)
    names = {"label_names": [f"name {label}" for label in range(10)]}
    if coarse:
        names = {"fine_label_names": ["wrong"] * 100, "coarse_label_names": [f"coarse {label}" for label in range(20)]}
    checksum = save(known.meta["filename"], names)
    monkeypatch.setattr(known, "meta", known.meta | {"md5": checksum})


def lay_stl10(monkeypatch, root: Path) -> None:
    """Bytes of images, channel after channel and each column by column; labels from 1; names, a line each."""
    known, folder = published.STL10, root / published.STL10.base_folder
    folder.mkdir(parents=True)
    contents = {
        "train_X.bin": pixels(5, 3, 96, 96).tobytes(),
        "train_y.bin": bytes([1, 10, 3, 4, 5]),
        "unlabeled_X.bin": pixels(9, 3, 96, 96).tobytes(),
        "test_X.bin": pixels(4, 3, 96, 96).tobytes(),
        "test_y.bin": bytes([10, 1, 2, 2]),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / known.class_names_file).write_text("\n".join(f"name{label}" for label in range(10)))
    for kind in ("train_list", "test_list"):
        monkeypatch.setattr(known, kind, [[name, md5(contents[name])] for name, _ in getattr(known, kind)])


@pytest.fixture
def laid(monkeypatch, tmp_path):
    """A function that lays a dataset as torchvision does and returns its folder, the archive beside it."""

    def lay(name: str) -> Path:
        root = tmp_path / "mine"
        if name in ("mnist", "kmnist"):
            lay_idx(monkeypatch, root, {"mnist": published.MNIST, "kmnist": published.KMNIST}[name])
        elif name == "svhn":
            lay_svhn(monkeypatch, root)
        else:
            if name == "stl10":
                lay_stl10(monkeypatch, root)
            else:
                lay_cifar(monkeypatch, root, ARCHIVES[name])
            known = ARCHIVES[name]
            monkeypatch.setattr(known, "tgz_md5", pack(root / known.filename, root / known.base_folder))
        return root

    return lay


def expected(name: str, root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) and labels of a split as torchvision's own reader has them, one by one."""
    train = split == "train"
    found = {
        "mnist": lambda: published.MNIST(root, train=train),
        "kmnist": lambda: published.KMNIST(root, train=train),
        "svhn": lambda: published.SVHN(root, split=split),
        "cifar10": lambda: published.CIFAR10(root, train=train),
        "cifar20": lambda: published.CIFAR100(root, train=train),
        "stl10": lambda: published.STL10(root, split=split),
    }[name]()
    images = np.stack([np.asarray(image) for image, _ in found])
    return images.reshape(*images.shape[:3], -1), np.array([label for _, label in found])


# ------------------------------------------------------------------------------------- the sets that torchvision knows


@pytest.mark.parametrize("name", SETS)
def test_read_as_torchvision_reads_it(tmp_path, monkeypatch, laid, name):
    root = laid(name)
    out = run(monkeypatch, tmp_path, name, root)
    labels, classes = store.read_labels(out / "labels")
    assert set(labels) == {"train", "test"}
    for split in ("train", "test", "unlabeled") if name == "stl10" else ("train", "test"):
        images, values = expected(name, root, split)
        np.testing.assert_array_equal(store.read_images(out / "images", split), images)
        if name == "cifar20":
            values = [{99: 19, 50: 10}.get(value, value) for value in values]
        if split != "unlabeled":
            assert labels[split].tolist() == list(values)
    assert len(classes) == (20 if name == "cifar20" else 10)
    if name in ARCHIVES:
        assert classes[3] == {"cifar10": "name 3", "cifar20": "coarse 3", "stl10": "name3"}[name]
    assert store.read_meta(out / "images").name == name
    written = sorted(path.name for path in (out / "images").iterdir())
    assert written[:2] == ["duplicates.csv", "meta.json"], "no table, no scratch is left"


@pytest.mark.parametrize("name", sorted(ARCHIVES))
def test_the_folder_itself_and_the_archive_alone_give_the_same(tmp_path, monkeypatch, laid, name):
    root = laid(name)

    def written(path: Path) -> list[bytes]:
        out = run(monkeypatch, tmp_path, name, path)
        return [file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()]

    known = ARCHIVES[name]
    first = written(root)
    assert written(root / known.base_folder) == first
    for file in (root / known.base_folder).iterdir():
        file.unlink()
    (root / known.base_folder).rmdir()
    assert written(root) == first
    assert [path.name for path in root.iterdir()] == [known.filename], "nothing is unpacked into the user's folder"


def test_mnist_unpacked_and_packed_give_the_same(tmp_path, monkeypatch, laid):
    root = laid("mnist")
    found = []
    for gone in ((), [n for n, _ in published.MNIST.resources], [n[:-3] for n, _ in published.MNIST.resources]):
        folder = tmp_path / f"case{len(found)}"
        folder.mkdir()
        for file in (root / "MNIST/raw").iterdir():
            if file.name not in gone:
                (folder / file.name).write_bytes(file.read_bytes())
        out = run(monkeypatch, tmp_path, "mnist", folder)
        found.append([file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()])
    assert found[0] == found[1] == found[2]


def test_stl10_limited_and_resized(tmp_path, monkeypatch, laid):
    """Every split of its own, the one without labels too."""
    root = laid("stl10")
    out = run(monkeypatch, tmp_path, "stl10", root, limit=4, image_size=48, split_seed=5)
    labels, _ = store.read_labels(out / "labels")
    for split, count in (("train", 5), ("test", 4), ("unlabeled", 9)):
        rows = np.sort(np.random.RandomState(5).permutation(count)[:4])
        images, values = expected("stl10", root, split)
        found = store.read_images(out / "images", split)
        assert found.shape == (4, 48, 48, 3)
        whole = Image.fromarray(images[rows[2]]).resize((48, 48), Image.BILINEAR)
        np.testing.assert_array_equal(found[2], np.asarray(whole))
        if split in labels:
            assert labels[split].tolist() == values[rows].tolist()
    assert set(labels) == {"train", "test"}


ONE_FILE = {
    "mnist": "MNIST/raw/train-labels-idx1-ubyte.gz",
    "kmnist": "KMNIST/raw/t10k-images-idx3-ubyte.gz",
    "svhn": "test_32x32.mat",
    "cifar10": "cifar-10-batches-py/data_batch_3",
    "cifar20": "cifar-100-python/meta",
    "stl10": "stl10_binary/unlabeled_X.bin",
}


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_file_is_named(tmp_path, monkeypatch, laid, name):
    root = laid(name)
    file = root / ONE_FILE[name]
    file.write_bytes(file.read_bytes()[:-1])
    line = fails(monkeypatch, tmp_path, name, root)
    assert f"{file} is damaged" in line
    assert "expected md5" in line
    assert "set data.path to null" in line


@pytest.mark.parametrize("name", SETS)
def test_a_missing_file_is_named(tmp_path, monkeypatch, laid, name):
    """Half-extracted, with the archive at hand or not."""
    root = laid(name)
    file = root / ONE_FILE[name]
    file.unlink()
    if name.endswith("mnist"):
        file.with_suffix("").unlink()
    line = fails(monkeypatch, tmp_path, name, root)
    assert f"data.path = {root}" in line
    assert file.name in line
    assert "missing" in line


@pytest.mark.parametrize("name", SETS)
def test_an_empty_folder_says_what_to_get(tmp_path, monkeypatch, laid, name):
    laid(name)
    (tmp_path / "empty").mkdir()
    line = fails(monkeypatch, tmp_path, name, tmp_path / "empty")
    assert "http" in line
    assert "set data.path to null" in line
    assert "no such folder" in fails(monkeypatch, tmp_path, name, tmp_path / "nowhere")


def test_idx_files_that_lie_about_themselves(tmp_path, monkeypatch, laid):
    """Unpacked ones have no known md5, so their form is all there is to go by."""
    folder = laid("mnist") / "MNIST/raw"
    for name, _ in published.MNIST.resources:
        (folder / name).unlink()
    file = folder / "train-images-idx3-ubyte"
    whole = file.read_bytes()
    for broken in (whole[:-1], whole + b"x", b"", whole[:6], b"\0\0\x0d\x03" + whole[4:]):
        file.write_bytes(broken)
        assert f"{file} is damaged: {len(broken):,} bytes" in fails(monkeypatch, tmp_path, "mnist", folder)
    file.write_bytes(whole)
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 5]))
    assert "train has 7 images but 2 labels" in fails(monkeypatch, tmp_path, "mnist", folder)


# ----------------------------------------------------------------------------------------------------------- fetching


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine that holds the files of `tmp_path / "mine"` by name; its address."""
    state = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            file = next((path for path in (tmp_path / "mine").rglob(name) if path.is_file()), None)
            content = file.read_bytes() if file else b""
            self.send_response(200 if file else 404)
            self.send_header("Content-Length", str(len(content) + state.get("more", 0)))
            self.end_headers()
            for byte in [content] if "drip" not in state else [content[i : i + 1] for i in range(len(content))]:
                try:
                    self.wfile.write(byte)
                except OSError:
                    return  # the other side gave up, as it should
                time.sleep(state.get("drip", 0))

        def log_message(self, *_):
            pass

    monkeypatch.setattr(fetching, "probe", lambda address: None)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/", state
        running.shutdown()


def redirect(monkeypatch, name: str, address: str) -> None:
    """Make the server's address the one that torchvision knows."""
    if name in ARCHIVES:
        monkeypatch.setattr(ARCHIVES[name], "url", address + ARCHIVES[name].filename)
    elif name == "svhn":
        lists = {split: [address + entry[1], *entry[1:]] for split, entry in published.SVHN.split_list.items()}
        monkeypatch.setattr(published.SVHN, "split_list", lists)
    else:
        known = {"mnist": published.MNIST, "kmnist": published.KMNIST}[name]
        monkeypatch.setattr(known, "mirrors", [address + "nothing/here/", address])


@pytest.mark.parametrize("name", SETS)
def test_fetched_and_from_the_folder_give_the_same_bytes(tmp_path, monkeypatch, laid, server, name):
    root = laid(name)
    out = run(monkeypatch, tmp_path, name, root)
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    redirect(monkeypatch, name, server[0])
    out = run(monkeypatch, tmp_path, name, None)
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == first


@pytest.mark.parametrize("name", SETS)
def test_a_closed_network_says_the_way_out(tmp_path, monkeypatch, laid, name):
    laid(name)
    started = time.monotonic()
    line = fails(monkeypatch, tmp_path, name, None)
    assert "no way to http" in line
    assert "into a folder and set data.path to that folder" in line
    if name in ONE_FILE and name not in ARCHIVES:
        assert Path(ONE_FILE[name]).name in line, "every file that is needed is named, not the first alone"
    assert time.monotonic() - started < 60, "it asks each mirror a few times and waits in between, no longer"


def test_a_second_mirror_is_asked(tmp_path, monkeypatch, laid, server, capsys):
    laid("mnist")
    redirect(monkeypatch, "mnist", server[0])
    monkeypatch.setattr(published.MNIST, "mirrors", [f"{server[0]}no-", server[0]])
    run(monkeypatch, tmp_path, "mnist", None)
    assert f"mnist: fetching {server[0]}no-train" in capsys.readouterr().out


def test_a_damaged_transfer(tmp_path, monkeypatch, laid, server, capsys):
    root = laid("cifar10")
    redirect(monkeypatch, "cifar10", server[0])
    archive = root / published.CIFAR10.filename
    archive.write_bytes(archive.read_bytes()[:-3])
    assert "expected md5" in fails(monkeypatch, tmp_path, "cifar10", None)
    server[1]["more"] = 5
    capsys.readouterr()
    line = fails(monkeypatch, tmp_path, "cifar10", None)
    assert "broke off" in line or "IncompleteRead" in line
    assert "done" not in capsys.readouterr().out
    archive.unlink()
    assert "404" in fails(monkeypatch, tmp_path, "cifar10", None)


def test_a_transfer_that_never_ends(tmp_path, monkeypatch, laid, server):
    laid("cifar10")
    redirect(monkeypatch, "cifar10", server[0])
    monkeypatch.setattr(fetching, "TRANSFER_LIMIT", 0.3)
    server[1]["drip"] = 0.02
    assert "not done within 0.3 s" in fails(monkeypatch, tmp_path, "cifar10", None)


# ----------------------------------------------------------------------------------------------------------- ImageNet


def lay_imagenet(root: Path, wnids: list[str], sizes: tuple[int, int] = (12, 9)) -> Path:
    for split, count in (("train", 2), ("val", 1)):
        for place, wnid in enumerate(wnids):
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", sizes, (place % 250, 7, number))
                image.save(root / split / wnid / f"{wnid}_{number}.JPEG", format="PNG")
    return root


def test_the_subsets_are_nested_and_in_order():
    for count, wnids in SUBSETS.items():
        assert len(set(wnids)) == count
        assert list(wnids) == sorted(wnids)
    assert set(SUBSETS[50]) < set(SUBSETS[100]) < set(SUBSETS[200])


def test_imagenet_takes_its_classes_only(tmp_path, monkeypatch, capsys):
    """In the order of wnids, val as test, and whatever else lies there is left alone."""
    wnids = [*SUBSETS[50], "n00000001", "n99999999"]
    root = lay_imagenet(tmp_path / "mine", wnids)
    (root / "train/n00000001/broken.JPEG").write_bytes(b"")
    out = run(monkeypatch, tmp_path, "imagenet-50", root, image_size=8)
    labels, classes = store.read_labels(out / "labels")
    assert classes == list(SUBSETS[50])
    assert labels["train"].tolist() == np.repeat(np.arange(50), 2).tolist()
    assert labels["test"].tolist() == list(range(50))
    assert store.read_images(out / "images", "train").shape == (100, 8, 8, 3)
    assert store.read_images(out / "images", "test")[:, 0, 0, 0].tolist() == list(range(50))
    index = (out / "images/index.csv").read_text().splitlines()
    assert index[1] == f"train,0,train/{classes[0]}/{classes[0]}_0.JPEG"
    assert index[-1] == f"test,49,val/{classes[-1]}/{classes[-1]}_0.JPEG"
    assert "50 folders of train/ hold fewer than 732 images" in capsys.readouterr().out


def test_imagenet_1000_takes_every_wnid(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "imagenet-1000", lambda wanted: imagenet.imagenet(wanted, classes=3))
    root = lay_imagenet(tmp_path / "mine", ["n00000003", "n00000001", "n00000002"])
    (root / "train/notes").mkdir()
    out = run(monkeypatch, tmp_path, "imagenet-1000", root, image_size=8)
    assert store.read_labels(out / "labels")[1] == ["n00000001", "n00000002", "n00000003"]


def test_imagenet_1000_half_extracted(tmp_path, monkeypatch):
    root = lay_imagenet(tmp_path / "mine", ["n00000003", "n00000001"])
    line = fails(monkeypatch, tmp_path, "imagenet-1000", root, image_size=8)
    assert "train/ has 2 wnid folders, imagenet-1000 needs 1,000" in line
    assert "data.name to folder" in line


def test_missing_wnids_are_named_and_counted(tmp_path, monkeypatch):
    root = lay_imagenet(tmp_path / "mine", SUBSETS[50][7:])
    line = fails(monkeypatch, tmp_path, "imagenet-50", root, image_size=8)
    assert "7 of the 50 classes of imagenet-50 have no image in train/<wnid>/" in line
    assert all(wnid in line for wnid in SUBSETS[50][:5])
    assert "(2 more)" in line


def test_an_empty_wnid_folder_is_missing(tmp_path, monkeypatch):
    root = lay_imagenet(tmp_path / "mine", SUBSETS[50])
    wnid = SUBSETS[50][20]
    next((root / "val" / wnid).iterdir()).unlink()
    line = fails(monkeypatch, tmp_path, "imagenet-50", root, image_size=8)
    assert f"1 of the 50 classes of imagenet-50 have no image in val/<wnid>/: {wnid}" in line


@pytest.mark.parametrize("name", ["imagenet-50", "imagenet-1000"])
def test_imagenet_not_laid_out(tmp_path, monkeypatch, name):
    assert "data.path is null" in fails(monkeypatch, tmp_path, name, None, image_size=8)
    root = tmp_path / "mine"
    (root / "train").mkdir(parents=True)
    assert "data.image_size is null" in fails(monkeypatch, tmp_path, name, root)
    assert "holds no folder named as a wnid (such as n01440764/) but nothing" in fails(
        monkeypatch, tmp_path, name, root, image_size=8
    )
    (root / "train/n01440764.tar").write_bytes(b"x")
    assert "1 .tar files, not extracted" in fails(monkeypatch, tmp_path, name, root, image_size=8)
    (root / "train/n01440764.tar").unlink()
    (root / "train").rmdir()
    assert "no folder train/" in fails(monkeypatch, tmp_path, name, root, image_size=8)


def test_every_name_has_a_source_that_takes_what_params_say(tmp_path):
    assert list(SOURCES) == [
        *("fashion-mnist", "mnist", "kmnist", "svhn", "cifar10", "cifar20", "stl10"),
        *("imagenet-50", "imagenet-100", "imagenet-200", "imagenet-1000", "digits", "folder"),
    ]
    for name, source in SOURCES.items():
        with pytest.raises(UserError, match=r"data\.path"):
            source(download.Wanted(name, tmp_path, path=tmp_path / "nowhere", image_size=8))
