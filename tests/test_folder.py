"""Source `folder`: every layout, every kind of image file, and what bad input is told."""

import json
import os
import re
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import download
from stages.images import store
from stages.images.sources import filling, pictures
from stages.plumbing import command, progress
from stages.plumbing.csv_files import read_rows

DATA = {"name": "folder", "image_size": None, "limit": None, "test_share": 0.25, "split_seed": 0, "unreadable": 0.01}


def run(monkeypatch, tmp_path: Path, path: Path | None, **more) -> Path:
    """The stage as a command; returns its folder of outputs."""
    params = tmp_path / "params.yaml"
    params.write_text(json.dumps({"data": DATA | {"path": None if path is None else str(path)} | more}))
    flags = ["--images", tmp_path / "out/images", "--labels", tmp_path / "out/labels", "--params", params]
    monkeypatch.setattr(sys, "argv", ["download", *map(str, flags)])
    command.run(download.download)
    return tmp_path / "out"


def fails(monkeypatch, tmp_path: Path, path: Path | None, **more) -> str:
    """The one line with which the stage fails, leaving nothing behind."""
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, tmp_path, path, **more)
    line = stop.value.code
    assert isinstance(line, str), "a text as exit code is what makes Python print it and exit with 1"
    assert "\n" not in line
    assert list((tmp_path / "out").iterdir()) == []
    return line


def paint(path: Path, value: int | tuple = (10, 20, 30), size: tuple[int, int] = (4, 4), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def table(out: Path, name: str) -> list[list[str]]:
    return list(read_rows(out / "images" / name))


def paths(out: Path, split: str) -> list[str]:
    rows = [row for row in table(out, "index.csv")[1:] if row[0] == split]
    assert [int(row[1]) for row in rows] == list(range(len(store.read_images(out / "images", split))))
    return [row[2] for row in rows]


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def labelled(root: Path) -> Path:
    """train/ and test/ with the classes cat and dog; each image's red is its place in the order of paths."""
    names = ["train/cat/b.png", "train/cat/a.png", "train/dog/c.png", "test/cat/x.png", "test/dog/y.jpg"]
    for name in names:
        paint(root / name, (sorted(names).index(name) * 40, 9, 9))
    return root


# ------------------------------------------------------------------------------------------------------------ layouts


def test_a_split_of_its_own_with_classes(tmp_path, monkeypatch, capsys):
    out = run(monkeypatch, tmp_path, labelled(tmp_path / "mine"))
    assert paths(out, "train") == ["train/cat/a.png", "train/cat/b.png", "train/dog/c.png"]
    assert paths(out, "test") == ["test/cat/x.png", "test/dog/y.jpg"]
    assert store.read_images(out / "images", "train")[:, 0, 0, 0].tolist() == [80, 120, 160]
    labels, classes = store.read_labels(out / "labels")
    assert classes == ["cat", "dog"]
    assert {split: values.tolist() for split, values in labels.items()} == {"train": [0, 0, 1], "test": [0, 1]}
    assert table(out, "skipped.csv") == [["path", "reason"]]
    assert sorted(path.name for path in (out / "images").iterdir()) == [
        *("duplicates.csv", "index.csv", "meta.json", "skipped.csv", "test.npy", "train.npy")
    ]
    printed = capsys.readouterr().out
    assert "2 subfolders of train/ taken for classes: cat, dog" in printed
    assert printed.splitlines()[-1].startswith("folder: 3 train + 2 test images of 4x4x3")


@pytest.mark.parametrize("name", ["val", "Valid", "validation", "TEST"])
def test_names_of_the_test_split_and_unlabeled(tmp_path, monkeypatch, name, capsys):
    root = tmp_path / "mine"
    for file in ("Train/1.png", "Train/2.png", f"{name}/3.png", "unlabeled/deep/down/4.png", "more/5.png", "6.png"):
        paint(root / file)
    out = run(monkeypatch, tmp_path, root)
    assert paths(out, "train") == ["Train/1.png", "Train/2.png"]
    assert paths(out, "test") == [f"{name}/3.png"]
    assert paths(out, "unlabeled") == ["unlabeled/deep/down/4.png"]
    assert written(out / "labels") == {"classes.json": b"[]\n"}
    printed = capsys.readouterr().out
    assert f"ignored beside Train/, {name}/, unlabeled/: 6.png, more/" in printed
    assert "no labels for Train/: images lie in it directly, such as 1.png" in printed


def test_classes_in_train_only(tmp_path, monkeypatch):
    root = labelled(tmp_path / "mine")
    (root / "test/cat/x.png").rename(root / "test/x.png")
    labels, classes = store.read_labels(run(monkeypatch, tmp_path, root) / "labels")
    assert classes == ["cat", "dog"]
    assert list(labels) == ["train"]


def test_a_class_that_train_lacks(tmp_path, monkeypatch):
    root = labelled(tmp_path / "mine")
    paint(root / "test/eel/z.png")
    (root / "train/eel").mkdir()
    line = fails(monkeypatch, tmp_path, root)
    assert "test/ has class folders that train/ lacks or has empty: eel" in line
    assert "rename" in line


def test_a_class_that_test_lacks_is_said(tmp_path, monkeypatch, capsys):
    root = labelled(tmp_path / "mine")
    paint(root / "train/eel/z.png")
    labels, classes = store.read_labels(run(monkeypatch, tmp_path, root) / "labels")
    assert classes == ["cat", "dog", "eel"]
    assert labels["test"].tolist() == [0, 1]
    assert "classes without an image in test/: eel" in capsys.readouterr().out


def test_an_empty_class_folder_is_said(tmp_path, monkeypatch, capsys):
    root = labelled(tmp_path / "mine")
    (root / "train/eel").mkdir()
    assert store.read_labels(run(monkeypatch, tmp_path, root) / "labels")[1] == ["cat", "dog"]
    assert "subfolders of train/ without an image, which are no classes: eel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "classes", "printed"),
    [
        (
            ["a/1.png", "a/2.png", "b/3.png", "b/4.png"],
            ["a", "b"],
            "2 subfolders of the folder taken for classes: a, b",
        ),
        (["1.png", "2.png", "a/3.png", "b/4.png"], [], "images lie in it directly, such as 1.png"),
        (["a/x/1.png", "a/2.png", "b/3.png", "b/4.png"], [], "deeper than one subfolder, such as a/x/1.png"),
        (["a/1.png", "a/2.png", "a/3.png", "a/4.png"], [], "all images lie in one subfolder, a/"),
    ],
)
def test_a_pile(tmp_path, monkeypatch, capsys, names, classes, printed):
    for name in names:
        paint(tmp_path / "mine" / name)
    out = run(monkeypatch, tmp_path, tmp_path / "mine")
    assert printed in capsys.readouterr().out
    assert len(paths(out, "test")) == 1
    assert sorted(paths(out, "train") + paths(out, "test")) == sorted(names)
    labels, found = store.read_labels(out / "labels")
    assert found == classes
    assert set(labels) == ({"train", "test"} if classes else set())
    for split, values in labels.items():
        assert [found[value] for value in values] == [path.split("/")[0] for path in paths(out, split)]


def test_split_and_limit_follow_their_seed(tmp_path, monkeypatch):
    names = [f"{number:02}.png" for number in range(20)]
    for number, name in enumerate(names):
        paint(tmp_path / "mine" / name, (number, 0, 1))
    found = {}
    for seed in (0, 1):
        out = run(monkeypatch, tmp_path, tmp_path / "mine", split_seed=seed)
        found[seed] = paths(out, "test")
        assert found[seed] == sorted(found[seed])
        assert len(found[seed]) == 5
        order = np.random.RandomState(seed).permutation(20)
        assert found[seed] == [names[row] for row in sorted(order[:5])]
    assert found[0] != found[1]
    full = paths(out, "train")
    out = run(monkeypatch, tmp_path, tmp_path / "mine", split_seed=1, limit=6)
    assert [len(paths(out, split)) for split in ("train", "test")] == [6, 5]
    assert set(paths(out, "train")) < set(full)
    assert paths(out, "train") == sorted(paths(out, "train"))
    reds = store.read_images(out / "images", "train")[:, 0, 0, 0]
    assert [names[red] for red in reds] == paths(out, "train")


def test_equal_folders_give_equal_bytes(tmp_path, monkeypatch):
    """Whatever the order of creation, the time and the folder's own name."""
    found = []
    for root, names in (("one", "abcdefgh"), ("two", "hgfedcba")):
        for name in names:
            paint(tmp_path / root / f"{ord(name) % 2}" / f"{name}.png", (ord(name), 3, 4), (5, 5))
        found.append(written(run(monkeypatch, tmp_path, tmp_path / root)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/1.png"], "it has train/ but no test/ (or val/)"),
        (["test/1.png", "cat/2.png"], "it has test/ but no train/"),
        (["unlabeled/1.png"], "it has unlabeled/ but no train/ and no test/ (or val/)"),
        (["train/1.png", "test/notes.txt"], "no image file in test/"),
        (["1.png"], "only one image file"),
        (["a.txt", "b.doc"], "no image file below it; left out: 1 .txt, 1 .doc; expected"),
        ([], "no image file below it"),
    ],
)
def test_half_a_dataset(tmp_path, monkeypatch, names, message):
    (tmp_path / "mine").mkdir()
    for name in names:
        if name.endswith("png"):
            paint(tmp_path / "mine" / name)
        else:
            (tmp_path / "mine" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "mine" / name).write_text("x")
    line = fails(monkeypatch, tmp_path, tmp_path / "mine")
    assert message in line
    assert f"data.path = {tmp_path / 'mine'}" in line


def test_no_folder(tmp_path, monkeypatch):
    assert "data.path is null" in fails(monkeypatch, tmp_path, None)
    assert "no such folder" in fails(monkeypatch, tmp_path, tmp_path / "nowhere")
    assert "this is no folder" in fails(monkeypatch, tmp_path, paint(tmp_path / "file.png"))


# --------------------------------------------------------------------------------------------------- what is no image


def test_other_and_hidden_files(tmp_path, monkeypatch, capsys):
    root = labelled(tmp_path / "mine")
    for name in ("train/notes.txt", "train/cat/more.TXT", "train/IMG.NEF", "test/README", "train/cat/Thumbs.db"):
        (root / name).write_text("x")
    for name in ("train/.DS_Store", "train/cat/._a.png", "train/.thumbs/1.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x")
    os.mkfifo(root / "train/cat/pipe.png")
    out = run(monkeypatch, tmp_path, root)
    assert [len(paths(out, split)) for split in ("train", "test")] == [3, 2]
    assert store.read_labels(out / "labels")[1] == ["cat", "dog"]
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("folder: 5 image files; left out: ")
    counts = {"3 hidden", "2 .txt", "1 .nef", "1 no extension", "1 .db", "1 pipes or devices"}
    assert set(first.partition("left out: ")[2].split(", ")) == counts


def test_links(tmp_path, monkeypatch, capsys):
    """A loop ends, nothing comes twice, and what stands in its own place goes before links to it."""
    root = labelled(tmp_path / "mine")
    outside = paint(tmp_path / "elsewhere/9.png").parent
    (root / "train/cat/loop").symlink_to(root)
    (root / "train/cat/up").symlink_to("../../..")  # the folder that holds data.path, with all that lies beside
    (root / "train/aaa").symlink_to(root / "train/dog")  # first by name, but dog/ is the place
    (root / "train/cat/copy.png").symlink_to("a.png")
    (root / "train/self.png").symlink_to("self.png")
    (root / "train/eel").symlink_to(outside)
    (root / "train/fox").symlink_to(outside)
    (root / "train/dog/one.png").symlink_to(paint(tmp_path / "single.png"))
    (root / "train/dog/gone.png").symlink_to(tmp_path / "gone.png")
    (root / "train/self.png").unlink()
    out = run(monkeypatch, tmp_path, root, unreadable=0.2)
    assert paths(out, "train") == [
        *("train/cat/a.png", "train/cat/b.png", "train/dog/c.png", "train/dog/one.png", "train/eel/9.png")
    ]
    assert table(out, "skipped.csv")[1:] == [["train/dog/gone.png", "the link leads nowhere"]]
    assert "left out: 5 links to what is there already" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------- kinds of images


def kinds(folder: Path) -> dict[str, tuple[int, int, int]]:
    """An image file of every kind by name, and the colour that it has all over."""
    folder.mkdir()

    def save(name: str, image: Image.Image, **options) -> None:
        image.save(folder / name, **options)

    size = (6, 6)
    save("rgb.png", Image.new("RGB", size, (9, 200, 77)))
    save("grey.png", Image.new("L", size, 66))
    save("bits.png", Image.new("1", size, 1))
    save("alpha.png", Image.new("RGBA", size, (255, 0, 0, 0)))
    save("half.png", Image.new("RGBA", size, (0, 0, 0, 51)))
    save("grey-alpha.png", Image.new("LA", size, (0, 51)))
    palette = Image.new("P", size, 1)
    palette.putpalette([0, 0, 0, 12, 34, 56])
    save("palette.png", palette)
    save("palette-clear.png", palette, transparency=1)
    save("rgb-clear.png", Image.new("RGB", size, (5, 5, 5)), transparency=(5, 5, 5))
    save("deep.png", Image.fromarray(np.full(size, 30_000, np.uint16)))
    save("deep-white.tif", Image.fromarray(np.full(size, 65_535, np.uint16)))
    save("deep.pgm", Image.fromarray(np.full(size, 257 * 99, np.uint16)))
    save("cmyk.jpg", Image.new("CMYK", size, (255, 0, 0, 0)), quality=100)
    save("cmyk.tif", Image.new("CMYK", size, (0, 255, 0, 0)))
    save("luma.jpg", Image.new("L", size, 44), quality=100)
    frames = [Image.new("RGB", size, colour) for colour in ((0, 0, 255), (255, 0, 0))]
    save("moving.gif", frames[0], save_all=True, append_images=frames[1:])
    save("moving.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    save("pages.tif", frames[0], save_all=True, append_images=frames[1:])
    save("misnamed.jpg", Image.new("RGB", size, (1, 2, 3)), format="BMP")
    save("UPPER.JPEG", Image.new("L", size, 128), quality=100)
    return {
        "rgb.png": (9, 200, 77),
        "grey.png": (66, 66, 66),
        "bits.png": (255, 255, 255),
        "alpha.png": (255, 255, 255),
        "half.png": (204, 204, 204),
        "grey-alpha.png": (204, 204, 204),
        "palette.png": (12, 34, 56),
        "palette-clear.png": (255, 255, 255),
        "rgb-clear.png": (255, 255, 255),
        "deep.png": (117, 117, 117),
        "deep-white.tif": (255, 255, 255),
        "deep.pgm": (99, 99, 99),
        "cmyk.jpg": (0, 255, 255),
        "cmyk.tif": (255, 0, 255),
        "luma.jpg": (44, 44, 44),
        "moving.gif": (0, 0, 255),
        "moving.webp": (0, 0, 255),
        "pages.tif": (0, 0, 255),
        "misnamed.jpg": (1, 2, 3),
        "UPPER.JPEG": (128, 128, 128),
    }


def test_every_kind_of_image(tmp_path, monkeypatch):
    expected = kinds(tmp_path / "mine")
    out = run(monkeypatch, tmp_path, tmp_path / "mine", test_share=0.5)
    found = {}
    for split in ("train", "test"):
        images = store.read_images(out / "images", split)
        assert images.shape[1:] == (6, 6, 3)
        for name, image in zip(paths(out, split), images):
            assert (image == image[0, 0]).all(), f"{name} is not of one colour"
            found[name] = tuple(image[0, 0].tolist())
    assert found.keys() == expected.keys()
    for name, colour in expected.items():
        assert np.abs(np.subtract(found[name], colour)).max() <= (1 if name.endswith(".jpg") else 0), name


@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_as_exif_says(tmp_path, turn):
    """The quarters of the stored file, once turned, are those of the scene."""
    quarters = np.kron(np.array([[10, 90], [170, 250]], np.uint8), np.ones((8, 8), np.uint8))
    scene = np.pad(quarters, ((0, 0), (8, 8)), mode="edge")  # wider than high, so that width and height show
    back = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.T,
        6: np.rot90(scene, 1),
        7: np.rot90(scene.T, 2),
        8: np.rot90(scene, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(back)).save(tmp_path / "x.png", exif=exif)
    found = pictures.read(tmp_path / "x.png", 16)
    np.testing.assert_array_equal(found[..., 0], quarters)


def test_all_grey_gives_one_channel(tmp_path, monkeypatch):
    """Also where grey is stored as colour; one coloured pixel anywhere gives three."""
    for number in range(8):
        paint(tmp_path / f"mine/{number}.png", (number, number, number))
    out = run(monkeypatch, tmp_path, tmp_path / "mine")
    for split in ("train", "test"):
        images = store.read_images(out / "images", split)
        assert images.shape[1:] == (4, 4, 1)
        assert [f"{value}.png" for value in images[:, 0, 0, 0]] == paths(out, split)
    image = Image.new("RGB", (4, 4), (7, 7, 7))
    image.putpixel((3, 3), (7, 7, 8))
    image.save(tmp_path / "mine/7.png")
    out = run(monkeypatch, tmp_path, tmp_path / "mine")
    assert store.read_images(out / "images", "train").shape[1:] == (4, 4, 3)
    assert store.read_images(out / "images", "test").shape[1:] == (4, 4, 3)


def test_short_side_and_middle(tmp_path, monkeypatch):
    """Equal to resizing the short side and cutting; stripes show that it is the middle, and smoothed."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    wide[:, ::2, 1] = 255
    (tmp_path / "mine").mkdir()
    Image.fromarray(wide).save(tmp_path / "mine/wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "mine/high.png")
    paint(tmp_path / "mine/strip.png", (1, 2, 3), (5000, 1))
    paint(tmp_path / "mine/small.png", (1, 2, 3), (2, 2))
    out = run(monkeypatch, tmp_path, tmp_path / "mine", image_size=5)
    images = {
        name: image
        for split in ("train", "test")
        for name, image in zip(paths(out, split), store.read_images(out / "images", split))
    }
    assert all(image.shape == (5, 5, 3) for image in images.values())
    assert (images["wide.png"][..., 0] == 200).all()
    assert (np.abs(images["wide.png"][..., 1].astype(int) - 228) < 45).all(), "stripes finer than a pixel blend"
    np.testing.assert_array_equal(images["high.png"], images["wide.png"].transpose(1, 0, 2))
    assert (images["strip.png"] == [1, 2, 3]).all()


def test_large_jpegs_are_as_good_as_pillows_own_resizing(tmp_path):
    """Though decoded at a fraction of their size."""
    ramp = np.add.outer(np.arange(512), np.arange(700)) * 255 / 1210
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "x.jpg", quality=95)
    found = pictures.read(tmp_path / "x.jpg", 32)[..., 0].astype(int)
    with Image.open(tmp_path / "x.jpg") as image:
        exact = np.asarray(image.crop((94, 0, 606, 512)).resize((32, 32), Image.BILINEAR)).astype(int)
    assert np.abs(found - exact).max() <= 2


def test_sizes_that_differ_need_a_size(tmp_path, monkeypatch):
    for number, size in enumerate([(4, 4), (4, 4), (6, 5)]):
        paint(tmp_path / f"mine/{number}.png", size=size)
    line = fails(monkeypatch, tmp_path, tmp_path / "mine")
    assert "data.image_size is null, but the images have 2 sizes: 4x4 (2 images), 6x5 (1 images)" in line
    assert "set data.image_size" in line
    for number in range(3):
        paint(tmp_path / f"mine/{number}.png", size=(6, 5))
    line = fails(monkeypatch, tmp_path, tmp_path / "mine")
    assert "the images are 6x5, not square" in line
    assert "to 5 for" in line


# ------------------------------------------------------------------------------------------------------ damaged images


def bomb(path: Path) -> None:
    """A PNG of a few bytes that claims 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def damaged(root: Path) -> dict[str, str]:
    """Twelve good images and one of every damage below `root`; by name what the reason says."""
    for number in range(12):
        paint(root / f"{number:02}.png", (number, 0, 1), (8, 8))
    whole = paint(root / "11.jpg", (9, 9, 99), (64, 64)).read_bytes()
    (root / "11.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "05-empty.png").write_bytes(b"")
    (root / "05-text.jpg").write_text("<html>please log in</html>")
    (root / "05-torn.png").write_bytes((root / "03.png").read_bytes()[:50])
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(root / "06-float.tif")
    Image.fromarray(np.full((8, 8), 2**20, np.int32)).save(root / "06-deep.tif")
    bomb(root / "07-bomb.png")
    return {
        "05-empty.png": "empty file",
        "05-text.jpg": "no image that can be read here",
        "05-torn.png": "",
        "06-deep.tif": "more than 16 bits",
        "06-float.tif": "floating-point",
        "07-bomb.png": "more than 178,956,970 pixels",
        "11.jpg": "truncated",
    }


def test_damaged_images_are_left_out_and_listed(tmp_path, monkeypatch, capsys, recwarn):
    root = tmp_path / "mine"
    reasons = damaged(root)
    monkeypatch.setattr(filling, "TASK", 3)
    monkeypatch.setattr(filling, "BYTES_AT_ONCE", 400)  # several rows at once, several times
    out = run(monkeypatch, tmp_path, root, unreadable=0.5, image_size=8)
    skipped = table(out, "skipped.csv")
    assert skipped[0] == ["path", "reason"]
    assert sorted(path for path, _ in skipped[1:]) == sorted(reasons)
    assert all(why and reasons[path] in why.lower() for path, why in skipped[1:])
    assert str(root) not in str(skipped), "a path of this machine would make equal data give other bytes"
    assert "7 of 19 image files cannot be read and are left out" in capsys.readouterr().out
    for split in ("train", "test"):
        images = store.read_images(out / "images", split)
        assert [f"{red:02}.png" for red in images[:, 0, 0, 0]] == paths(out, split)
        np.save(tmp_path / "again.npy", images)
        assert (tmp_path / "again.npy").read_bytes() == (out / f"images/{split}.npy").read_bytes()
    assert len(paths(out, "train") + paths(out, "test")) == 12
    assert not recwarn.list


def test_labels_of_damaged_images_go_with_them(tmp_path, monkeypatch):
    root = labelled(tmp_path / "mine")
    (root / "train/cat/b.png").write_bytes(b"")
    out = run(monkeypatch, tmp_path, root, unreadable=0.2)
    assert paths(out, "train") == ["train/cat/a.png", "train/dog/c.png"]
    assert store.read_labels(out / "labels")[0]["train"].tolist() == [0, 1]


def test_too_many_damaged_images(tmp_path, monkeypatch):
    damaged(tmp_path / "mine")
    line = fails(monkeypatch, tmp_path, tmp_path / "mine", unreadable=0.36, image_size=8)
    assert "7 of 19 image files cannot be read (36.8%, data.unreadable allows 36.0%)" in line
    assert "raise data.unreadable" in line
    assert any(f"first {name}: " in line for name in ("05-empty.png", "05-text.jpg", "05-torn.png", "06-deep.tif"))
    run(monkeypatch, tmp_path, tmp_path / "mine", unreadable=0.37, image_size=8)


def test_no_image_of_a_split_is_readable(tmp_path, monkeypatch):
    root = labelled(tmp_path / "mine")
    for name in ("cat/x.png", "dog/y.jpg"):
        (root / "test" / name).write_text("no image")
    assert "no image of test can be read" in fails(monkeypatch, tmp_path, root, unreadable=1.0)


def test_a_disk_without_room(tmp_path, monkeypatch):
    root = labelled(tmp_path / "mine")
    line = fails(monkeypatch, tmp_path, root, image_size=2_000_000)
    assert "GB left" in line
    assert "lower data.image_size" in line


def test_a_plain_line_now_and_then(tmp_path, monkeypatch, capsys):
    root = labelled(tmp_path / "mine")
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0.0)
    monkeypatch.setattr(filling, "TASK", 1)
    monkeypatch.setattr(
        filling.os, "sched_getaffinity", lambda process: {0, 1}, raising=False
    )  # two at once, so not all three
    read = pictures.read
    monkeypatch.setattr(pictures, "read", lambda *of: time.sleep(0.1) or read(*of))
    run(monkeypatch, tmp_path, root)
    assert re.search(r"folder: reading train · +(33|67) % · \d+ images/s", capsys.readouterr().out)


ODD = [
    b"K\xc3\xa4fer, klein",
    b'say "hi"',
    b"two\nlines",
    b"\xff\xfe",
    b"a\rb",
    b"\r",
    b"\t",
    b"\x1b[31m",
    b" a ",
    b"=1+1",
]
ODD += ["\u2028".encode(), "\u202egnp".encode()]


def test_odd_names(tmp_path, monkeypatch):
    root = tmp_path / "mine"
    for name in ODD:
        os.rename(paint(root / "plain.png"), os.fsencode(root) + b"/" + name + b".png")
    out = run(monkeypatch, tmp_path, root)
    found = [row[2] for row in table(out, "index.csv")[1:]]
    assert sorted(found) == sorted(os.fsdecode(name + b".png") for name in ODD)


def test_odd_folders_are_classes_that_can_be_shown(tmp_path, monkeypatch, capsys):
    root = tmp_path / "mine"
    for name in [*ODD, b"cats", b"cats\r", b"cats\n"]:
        os.rename(paint(root / "plain/x.png").parent, os.fsencode(root) + b"/" + name)
        (root / os.fsdecode(name) / "y\r.png").write_bytes((root / os.fsdecode(name) / "x.png").read_bytes())
    out = run(monkeypatch, tmp_path, root)
    assert "\r" not in capsys.readouterr().out
    rows = table(out, "index.csv")[1:]
    assert len(rows) == 2 * len({row[2] for row in rows if row[2].endswith("x.png")}) == 2 * len(ODD) + 6
    labels, classes = store.read_labels(out / "labels")
    assert len(set(classes)) == len(ODD) + 3
    assert all(name.isprintable() and name.strip() == name != "" for name in classes)
    assert {"cats", "cats (2)", "cats (3)", "Käfer, klein", "two?lines", "??", "=1+1"} <= set(classes)
    folders = {(split, int(row)): path.split("/")[0] for split, row, path in rows}
    shown = {(folders[split, row], classes[label]) for split, of in labels.items() for row, label in enumerate(of)}
    assert len(shown) == len(classes), "a folder and a class belong to each other"
    assert ("cats", "cats") in shown


@pytest.mark.parametrize("name", ["in\r", "in\n", "\t", "in\u2028\u202e", os.fsdecode(b"caf\xe9"), "=1"])
def test_an_odd_folder_of_images(tmp_path, monkeypatch, name):
    paint(tmp_path / name / "a.png")
    paint(tmp_path / name / "b.png")
    out = run(monkeypatch, tmp_path, tmp_path / name)
    assert len(table(out, "index.csv")) == 3


def test_a_folder_that_dvc_would_forget(tmp_path, monkeypatch):
    paint(tmp_path / "a\x85b" / "a.png")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, tmp_path, tmp_path / "a\x85b")
    assert "data.path = " in stop.value.code
    assert "it holds an old line end (U+0085), which DVC cannot keep; rename the folder" in stop.value.code
