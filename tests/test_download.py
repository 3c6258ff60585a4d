"""Stage `download` and the sources: the same bytes by every route, whole or not at all, and never a hang."""

import contextlib
import gzip
import hashlib
import http.server
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from stages import download
from stages.images import store
from stages.images.sources import fashion_mnist, fetching, registry
from stages.images.sources.dataset import Dataset, Wanted
from stages.plumbing import command

ROOT = Path(__file__).parents[1]
TRAIN_IMAGES = "train-images-idx3-ubyte"
DATA = {"image_size": None, "limit": None, "test_share": 0.1, "split_seed": 0, "unreadable": 0.01}


@pytest.fixture(autouse=True)
def closed_network(monkeypatch, tmp_path):
    """No mirror, no package, no apt-get and no proxy, until a test provides them on this machine."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(fashion_mnist, "PACKAGE_FOLDER", tmp_path / "no-package")
    monkeypatch.setattr(fashion_mnist, "_mirrors", list)
    for module, limit in ((fetching, "CONNECT_LIMIT"), (fetching, "ANSWER_LIMIT"), (fashion_mnist, "APT_LIMIT")):
        monkeypatch.setattr(module, limit, 60)  # a busy machine is no failure; the tests of a limit lower it
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def files(monkeypatch):
    """A small Fashion-MNIST in the true layout, made the known one: packed idx files by name, and their arrays."""
    rng = np.random.default_rng(0)
    arrays = {
        "t10k-labels-idx1-ubyte": rng.integers(0, 10, 5, dtype=np.uint8),
        "train-labels-idx1-ubyte": rng.integers(0, 10, 7, dtype=np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (5, 6, 6), dtype=np.uint8),
        TRAIN_IMAGES: rng.integers(0, 256, (7, 6, 6), dtype=np.uint8),
    }
    plain = {name: idx(array) for name, array in arrays.items()}
    known = {name: (arrays[name].shape, hashlib.md5(content).hexdigest()) for name, content in plain.items()}
    monkeypatch.setattr(fashion_mnist, "FASHION_FILES", known)
    return {f"{name}.gz": gzip.compress(content) for name, content in plain.items()}, arrays


def idx(array: np.ndarray) -> bytes:
    """The idx form, written out: two zero bytes, 8 for unsigned bytes, the dimensions, the bytes in C order."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()


def lay(folder: Path, packed: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in packed.items():
        (folder / name).write_bytes(content)
    return folder


def run(monkeypatch, tmp_path: Path, path: Path | None, name: str = "fashion-mnist", **more) -> None:
    """The stage as a command, in this process so that fixtures reach it."""
    params = tmp_path / "params.yaml"
    params.write_text(json.dumps({"data": DATA | {"name": name, "path": None if path is None else str(path)} | more}))
    flags = ["--images", tmp_path / "data/images", "--labels", tmp_path / "data/labels", "--params", params]
    monkeypatch.setattr(sys, "argv", ["download", *map(str, flags)])
    command.run(download.download)


def fails(monkeypatch, tmp_path: Path, path: Path | None, name: str = "fashion-mnist", **more) -> str:
    """The one line with which the stage fails."""
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, tmp_path, path, name, **more)
    assert isinstance(stop.value.code, str), "a text as exit code is what makes Python print it and exit with 1"
    assert "\n" not in stop.value.code
    return stop.value.code


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_written(data: Path, arrays: dict[str, np.ndarray]) -> None:
    """The outputs hold exactly `arrays`, and nothing else lies beside them."""
    images, labels = ["duplicates.csv", "meta.json", "test.npy", "train.npy"], ["classes.json", "test.npy", "train.npy"]
    assert list(written(data)) == [f"images/{name}" for name in images] + [f"labels/{name}" for name in labels]
    labels, classes = store.read_labels(data / "labels")
    assert classes[9] == "Ankle boot"
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = store.read_images(data / "images", split)
        assert images.dtype == np.uint8
        assert labels[split].dtype == np.int64
        np.testing.assert_array_equal(images, arrays[f"{stem}-images-idx3-ubyte"][..., None])
        np.testing.assert_array_equal(labels[split], arrays[f"{stem}-labels-idx1-ubyte"])


@contextlib.contextmanager
def serving(packed: dict[str, bytes]):
    """A web server on this machine that holds `packed` by file name, whatever folder or host is asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = packed.get(self.path.rpartition("/")[2])
            self.send_response(200 if content is not None else 404)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@contextlib.contextmanager
def answering_with(chunks):
    """A server that accepts, sends what the iterator `chunks` yields, and keeps the connection open.

    It hangs up after half a minute: who has no limit of their own then finds another end than the one expected.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = []

        def answer(connection):
            with contextlib.suppress(OSError):  # the probe connects only to hang up
                for chunk in chunks():
                    connection.sendall(chunk)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(server.accept()[0])
                    threading.Thread(target=answer, args=(accepted[-1],), daemon=True).start()

        def hang_up():
            for connection in accepted:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        alarm = threading.Timer(30, hang_up)
        alarm.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            alarm.cancel()
            hang_up()


# ----------------------------------------------------------------------------------------------------------- digits


def test_digits_from_the_command_line(tmp_path, monkeypatch):
    params = {"data": DATA | {"name": "digits", "path": None}, "other": "of no concern"}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    flags = ["--images", tmp_path / "a/images", "--labels", tmp_path / "a/labels", "--params", tmp_path / "params.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "stages.download", *flags], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "1,437 train + 360 test images of 8x8x1" in done.stdout.splitlines()[-1]

    bunch = load_digits()
    labels, classes = store.read_labels(tmp_path / "a/labels")
    images = {split: store.read_images(tmp_path / "a/images", split) for split in ("train", "test")}
    assert {split: (len(images[split]), len(labels[split])) for split in images} == {
        "train": (1437, 1437),
        "test": (360, 360),
    }
    assert classes == list("0123456789")
    # Each image of the package, with its label, lies in exactly one split, its sixteenths scaled to bytes.
    rows = {split: np.column_stack([images[split].reshape(-1, 64), labels[split]]) for split in images}
    expected = np.column_stack([np.rint(bunch.images.reshape(-1, 64) / 16 * 255), bunch.target])
    found = np.concatenate([rows["train"], rows["test"]])
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
    assert images["train"].max() == 255
    assert all(np.bincount(labels[split], minlength=10).min() >= 20 for split in labels)

    run(monkeypatch, tmp_path, None, "digits")
    assert written(tmp_path / "data") == written(tmp_path / "a")


def test_the_split_of_digits_is_for_good(tmp_path):
    """Another scikit-learn or numpy must not move an image from one split to the other."""
    labels = registry.SOURCES["digits"](Wanted("digits", tmp_path)).labels
    assert labels["train"][:12].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]
    assert labels["test"][:4].tolist() == [7, 9, 4, 7]


def test_digits_read_no_folder(tmp_path, monkeypatch):
    line = fails(monkeypatch, tmp_path, tmp_path, "digits")
    assert "data.path" in line
    assert "null" in line


def test_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    line = fails(monkeypatch, tmp_path, None, "mnits")
    assert "data.name = 'mnits'" in line
    assert all(f"'{name}'" in line for name in registry.SOURCES)


def test_neither_stage_nor_sources_import_torch():
    """Seconds on every run; and DVC need not rerun a download for another torch."""
    code = "import sys, stages.download; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=300).returncode == 0


# ---------------------------------------------------------------------------------------- size and limit, all datasets


def test_size_and_limit(tmp_path, monkeypatch, capsys):
    """Rows are drawn in their own order, labels with them; then every image is resized as Pillow does it."""
    everything = registry.SOURCES["digits"](Wanted("digits", tmp_path))
    run(monkeypatch, tmp_path, None, "digits", image_size=12, limit=50, split_seed=3)
    assert "50 train + 50 test images of 12x12x1" in capsys.readouterr().out
    labels, _ = store.read_labels(tmp_path / "data/labels")
    for split, seed in (("train", 3), ("test", 3)):
        rows = np.sort(np.random.RandomState(seed).permutation(len(everything.images[split]))[:50])
        np.testing.assert_array_equal(labels[split], everything.labels[split][rows])
        images = store.read_images(tmp_path / "data/images", split)
        for row, image in zip(rows[::10], images[::10]):
            expected = Image.fromarray(everything.images[split][row, :, :, 0]).resize((12, 12), Image.BILINEAR)
            np.testing.assert_array_equal(image[..., 0], np.asarray(expected))
    assert json.loads((tmp_path / "data/images/meta.json").read_text())["source"].endswith(", resized to 12x12")
    assert sorted(written(tmp_path / "data")) == [
        *(f"images/{name}" for name in ("duplicates.csv", "meta.json", "test.npy", "train.npy")),
        *(f"labels/{name}" for name in ("classes.json", "test.npy", "train.npy")),
    ]


def test_a_limit_beyond_the_data_and_its_own_size_change_nothing(tmp_path, monkeypatch):
    run(monkeypatch, tmp_path, None, "digits")
    plain = written(tmp_path / "data")
    run(monkeypatch, tmp_path, None, "digits", image_size=8, limit=1437, split_seed=9)
    assert written(tmp_path / "data") == plain


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"image_size": 0}, "data.image_size = 0"),
        ({"limit": -1}, "data.limit = -1"),
        ({"test_share": 1.0}, "data.test_share = 1.0"),
        ({"test_share": 0.0}, "data.test_share = 0.0"),
        ({"unreadable": 1.1}, "data.unreadable = 1.1"),
        ({"split_seed": -1}, "data.split_seed = -1"),
    ],
)
def test_values_out_of_range(tmp_path, monkeypatch, more, key):
    assert key in fails(monkeypatch, tmp_path, None, "digits", **more)


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 1], "3 images but 2 labels"), ([0, 1, 2], "from 0 to 2"), ([0, -1, 1], "from -1 to 1")]
)
def test_labels_that_do_not_belong(tmp_path, monkeypatch, labels, message):
    images = {split: np.zeros((3, 4, 4, 1), np.uint8) for split in ("train", "test")}
    made_up = Dataset(images, {"test": np.array(labels)}, ["a", "b"], "made up")
    monkeypatch.setitem(registry.SOURCES, "digits", lambda wanted: made_up)
    line = fails(monkeypatch, tmp_path, None, "digits")
    assert line.startswith("download: digits: ")
    assert "test" in line
    assert message in line
    assert list((tmp_path / "data").iterdir()) == []


# ------------------------------------------------------------------------------------------------- the user's folder


def test_fashion_mnist_from_a_folder(tmp_path, monkeypatch, files):
    packed, arrays = files
    run(monkeypatch, tmp_path, lay(tmp_path / "mine", packed))
    assert_written(tmp_path / "data", arrays)


def test_fashion_mnist_from_torchvisions_layout_unpacked(tmp_path, monkeypatch, files):
    packed, arrays = files
    plain = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in packed.items()}
    lay(tmp_path / "root" / "FashionMNIST" / "raw", plain)
    run(monkeypatch, tmp_path, tmp_path / "root")
    assert_written(tmp_path / "data", arrays)


def swap_bytes(folder: Path) -> str:
    content = gzip.decompress((folder / f"{TRAIN_IMAGES}.gz").read_bytes())
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(content[:-1] + bytes([content[-1] ^ 1])))
    return fashion_mnist.FASHION_FILES[TRAIN_IMAGES][1]


def truncate(folder: Path) -> str:
    content = (folder / f"{TRAIN_IMAGES}.gz").read_bytes()
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(content[: len(content) // 2])
    return f"{len(content) // 2:,} bytes"


def cut_unpacked(folder: Path) -> str:
    content = gzip.decompress((folder / f"{TRAIN_IMAGES}.gz").read_bytes())
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(content[:100])
    return "100 bytes of md5"


def remove(folder: Path) -> str:
    (folder / f"{TRAIN_IMAGES}.gz").unlink()
    return "does not exist"


@pytest.mark.parametrize("damage", [swap_bytes, truncate, cut_unpacked, remove])
def test_a_damaged_file_is_named_and_nothing_is_written(tmp_path, monkeypatch, files, damage):
    packed, arrays = files
    mine = lay(tmp_path / "mine", packed)
    expected = damage(mine)
    line = fails(monkeypatch, tmp_path, mine)
    assert f"data.path = {mine}" in line
    assert str(mine / f"{TRAIN_IMAGES}.gz") in line
    assert expected in line
    assert "set data.path to null" in line
    assert list((tmp_path / "data").iterdir()) == []

    run(monkeypatch, tmp_path, lay(tmp_path / "good", packed))
    earlier = written(tmp_path / "data")
    fails(monkeypatch, tmp_path, mine)
    assert written(tmp_path / "data") == earlier
    assert_written(tmp_path / "data", arrays)


@pytest.mark.parametrize("wrong", [bytes([0, 0, 13, 3]), bytes([0, 0, 8, 1]), bytes([0, 0, 8, 3, 0, 0, 0, 9])])
def test_wrong_magic_or_shape(tmp_path, monkeypatch, files, wrong):
    """Even with the right md5, bytes are taken for images only under the header of such images."""
    packed, _ = files
    content = gzip.decompress(packed[f"{TRAIN_IMAGES}.gz"])
    content = wrong + content[len(wrong) :]
    known = (fashion_mnist.FASHION_FILES[TRAIN_IMAGES][0], hashlib.md5(content).hexdigest())
    monkeypatch.setitem(fashion_mnist.FASHION_FILES, TRAIN_IMAGES, known)
    mine = lay(tmp_path / "mine", packed | {f"{TRAIN_IMAGES}.gz": gzip.compress(content)})
    line = fails(monkeypatch, tmp_path, mine)
    assert f"{TRAIN_IMAGES}.gz holds {len(content):,} bytes that are no whole idx file" in line
    assert list((tmp_path / "data").iterdir()) == []


def test_no_such_folder(tmp_path, monkeypatch):
    assert f"{tmp_path / 'nowhere'} is not a folder" in fails(monkeypatch, tmp_path, tmp_path / "nowhere")


def test_a_folder_that_was_named_is_never_passed_over(tmp_path, monkeypatch, files):
    """With a good mirror at hand, a damaged folder is an error all the same."""
    packed, _ = files
    mine = lay(tmp_path / "mine", packed)
    remove(mine)
    with serving(packed) as mirror:
        monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [mirror])
        fails(monkeypatch, tmp_path, mine)


# ------------------------------------------------------------------------------------------------------------ routes


def test_equal_bytes_by_every_route(tmp_path, monkeypatch, files):
    packed, _ = files
    run(monkeypatch, tmp_path, lay(tmp_path / "mine", packed))
    by_folder = written(tmp_path / "data")

    with serving(packed) as mirror:
        monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [mirror])
        run(monkeypatch, tmp_path, None)
    assert written(tmp_path / "data") == by_folder

    monkeypatch.setattr(fashion_mnist, "_mirrors", list)
    monkeypatch.setattr(fashion_mnist, "PACKAGE_FOLDER", tmp_path / "mine")
    run(monkeypatch, tmp_path, None)
    assert written(tmp_path / "data") == by_folder
    assert "70,000" in json.loads(by_folder["images/meta.json"])["source"]


def test_a_corrupted_mirror_is_passed_over(tmp_path, monkeypatch, files, capsys):
    packed, arrays = files
    broken = packed | {f"{TRAIN_IMAGES}.gz": gzip.compress(b"<html>please log in</html>")}
    with serving(broken) as first, serving({}) as second, serving(packed) as third:
        monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [first, second, third])
        run(monkeypatch, tmp_path, None)
    assert_written(tmp_path / "data", arrays)
    assert "came from torchvision's mirrors" in capsys.readouterr().out


def test_all_routes_failed(tmp_path, monkeypatch, files):
    packed, _ = files
    broken = packed | {f"{TRAIN_IMAGES}.gz": b"not even packed"}
    with serving(broken) as first, serving({}) as second:
        monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [first, second])
        line = fails(monkeypatch, tmp_path, None)
    assert f"{first}{TRAIN_IMAGES}.gz holds, unpacked, 15 bytes" in line
    assert f"{second}: HTTP Error 404" in line
    assert f"{tmp_path / 'no-package'} is not a folder" in line
    assert "this machine has no apt-get" in line
    assert all(name in line for name in fashion_mnist.ROUTES)
    assert all(f"{name}.gz" in line for name in fashion_mnist.FASHION_FILES)
    assert "set data.path" in line
    assert list((tmp_path / "data").iterdir()) == []


def silence():
    return iter(())


def drip():
    """An answer that keeps coming, too slowly ever to end."""
    yield b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    while True:
        time.sleep(0.02)
        yield b"x"


def stall():
    yield b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\nsome bytes, and then no more"


@pytest.mark.parametrize("answer", [silence, stall, drip])
def test_a_mirror_that_never_delivers(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(fetching, "ANSWER_LIMIT", 0.3)
    with answering_with(answer) as mirror:
        monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [mirror])
        with pytest.raises(fetching.UnusableError, match=r"timed out|no answer within"):
            fashion_mnist._from_mirrors(tmp_path)


def test_a_mirror_that_speaks_no_http(tmp_path, monkeypatch):
    with answering_with(lambda: [b"SSH-2.0-OpenSSH\r\n"]) as mirror:
        monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [mirror])
        with pytest.raises(fetching.UnusableError, match="broken answer"):
            fashion_mnist._from_mirrors(tmp_path)


def test_a_mirror_that_refuses(tmp_path, monkeypatch):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound but not listening: the port is ours, and refuses
        monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [f"http://127.0.0.1:{bound.getsockname()[1]}/"])
        with pytest.raises(fetching.UnusableError, match="refused"):
            fashion_mnist._from_mirrors(tmp_path)


def test_a_name_that_never_resolves(tmp_path, monkeypatch):
    """Where packets are dropped silently, name resolution takes its time, and has no limit of its own."""
    released = threading.Event()
    monkeypatch.setattr(fetching, "CONNECT_LIMIT", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: ["http://mirror.invalid/"])
    with pytest.raises(fetching.UnusableError, match="no answer within"):
        fashion_mnist._from_mirrors(tmp_path)
    released.set()


def test_through_a_proxy_nothing_is_resolved_here(tmp_path, monkeypatch, files):
    packed, arrays = files
    with serving(packed) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: ["http://mirror.invalid/folder/"])
        found = fashion_mnist._from_mirrors(tmp_path)
    np.testing.assert_array_equal(found[TRAIN_IMAGES], arrays[TRAIN_IMAGES])


# ---------------------------------------------------------------------------------------------------- the Debian way


def program(tmp_path: Path, name: str, script: str) -> None:
    file = tmp_path / "bin" / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def unpacker(tmp_path: Path, packed: dict[str, bytes]) -> None:
    """A dpkg-deb whose package holds `packed`."""
    inside = f".{fashion_mnist.PACKAGE_FOLDER}"
    lay(tmp_path / "package", packed)
    program(tmp_path, "dpkg-deb", f"/bin/mkdir -p {inside} && /bin/cp {tmp_path}/package/* {inside}")


def test_the_debian_package_is_fetched_and_unpacked(tmp_path, monkeypatch, files):
    packed, arrays = files
    unpacker(tmp_path, packed)
    program(tmp_path, "apt-get", f'echo "$@" >> {tmp_path}/log; : > {fashion_mnist.PACKAGE}_1_all.deb')
    run(monkeypatch, tmp_path, None)
    assert_written(tmp_path / "data", arrays)
    assert len((tmp_path / "log").read_text().splitlines()) == 1, "with package lists at hand, nothing is refreshed"


def test_missing_package_lists_are_refreshed_in_private(tmp_path, monkeypatch, files):
    """Without lists apt knows no package; lists of our own need no root. A source that fails must not stop it."""
    packed, arrays = files
    unpacker(tmp_path, packed)
    script = """
    case "$*" in *Dir::State::Lists=*) ;; *) echo "E: Unable to locate package" >&2; exit 100;; esac
    case "$*" in
        *update) echo "E: Failed to fetch some other source" >&2; exit 100;;
        *) : > package.deb;;
    esac
    """
    program(tmp_path, "apt-get", script)
    run(monkeypatch, tmp_path, None)
    assert_written(tmp_path / "data", arrays)


def test_why_the_debian_archive_failed(tmp_path):
    """Of the two commands that fail the first says why: the second only finds no package."""
    script = 'case "$*" in *update) echo "E: No such host" >&2;; *) echo "E: Unable to locate" >&2;; esac; exit 100'
    program(tmp_path, "apt-get", script)
    with pytest.raises(fetching.UnusableError, match="apt-get update: E: No such host"):
        fashion_mnist._from_debian_archive(tmp_path / "scratch")


def test_an_apt_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "APT_LIMIT", 0.3)
    program(tmp_path, "apt-get", "exec /bin/sleep 60")
    with pytest.raises(fetching.UnusableError, match="not done within"):
        fashion_mnist._from_debian_archive(tmp_path / "scratch")
