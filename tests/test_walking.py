"""Which files below a folder are taken for images, and how what is left out is counted and said."""

import os

import numpy as np
import pytest
from heic_files import HEIC
from PIL import Image
from test_folder import fails, paint, paths, run

from stages.images.sources import pictures, walking
from stages.images.sources.pictures import FORMATS, SUFFIXES, format_of
from stages.images.sources.walking import OTHERS, Listing, is_image, say, walk

SAVED = {  # extension → the format that Pillow writes for it
    **{"jpg": "JPEG", "mpo": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"},
    **{"ppm": "PPM", "pgm": "PPM", "pbm": "PPM", "jp2": "JPEG2000", "j2k": "JPEG2000", "avif": "AVIF"},
}
TEXTS = {
    "empty": b"",
    "text": b"Dear diary,\n",
    "BM": b"BMW and Porsche are cars that are made in Germany.\n",
    "P1": b"P1 is the first of our points, P2 the second.\n",
    "MM": b"MM. Mister and Master\n",
    "short": b"\xff\xd8",
    "elf": b"\x7fELF" + bytes(100),
    "film": b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + bytes(100),
    "movie": b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(100),
    "sound": b"RIFF\0\0\0\0WAVEfmt " + bytes(100),
    "zip": b"PK\3\4" + bytes(100),
    "pdf": b"%PDF-1.7\n" + bytes(100),
    "apple-double": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100),
}


def save(folder, suffix):
    """A picture of this kind in a file without extension."""
    mode = {"pgm": "L", "pbm": "1"}.get(suffix, "RGB")
    path = folder / f"picture.{suffix}"
    Image.new(mode, (20, 12), 1).save(path)
    return path.rename(folder / suffix)


@pytest.mark.parametrize("suffix", SAVED)
def test_the_format_by_the_first_bytes(tmp_path, suffix):
    path = save(tmp_path, suffix)
    assert format_of(path) == SAVED[suffix]
    assert is_image(path)


def test_the_format_of_rarer_kinds(tmp_path):
    image = Image.fromarray(np.full((12, 20), 300, np.uint16))
    image.save(tmp_path / "big-endian", format="TIFF", tiffinfo={}, big_tiff=True)
    assert format_of(tmp_path / "big-endian") == "TIFF"
    (tmp_path / "mm").write_bytes(b"MM\0*" + bytes(100))
    assert format_of(tmp_path / "mm") == "TIFF"
    for name, content in HEIC.items():
        (tmp_path / name).write_bytes(content)
        assert format_of(tmp_path / name) == "HEIF"
    shared = HEIC["plain"].replace(b"ftypheic", b"ftypmif1", 1)
    (tmp_path / "shared").write_bytes(shared)
    assert format_of(tmp_path / "shared") == "HEIF"
    whole = save(tmp_path, "avif").read_bytes()
    (tmp_path / "avif").write_bytes(whole.replace(b"ftypavif", b"ftypmif1", 1))
    assert format_of(tmp_path / "avif") == "AVIF"


def test_every_format_but_tga_has_a_mark():
    assert set(pictures._MARKS) == set(FORMATS) - {"TGA"}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_picture(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name])
    assert format_of(tmp_path / name) is None
    assert walk(tmp_path) == Listing([], [], {"no extension": 1})


def test_no_ending_means_two_things():
    assert not SUFFIXES & OTHERS


def test_files_without_an_extension_that_says_something(tmp_path, monkeypatch, capsys):
    root = tmp_path / "mine"
    names = ["IMG_0001", "photo.jpg_large", "shot at 10.15.32", "Mr. Smith", "old.jpg~", "x.JPG.bak", "y.tmp", "z."]
    for name in names:
        paint(root / "x.png").rename(root / name)
    paint(root / "deep/down/x.png").rename(root / "deep/down/LINKED")
    (root / "phone").write_bytes(HEIC["plain"])
    (root / "link").symlink_to(paint(tmp_path / "x.png").rename(tmp_path / "elsewhere"))
    for name in ("README", "Makefile", "notes at 10.15", "Icon\r", "core.xyz"):
        (root / name).write_text("no picture")
    (root / "empty").write_bytes(b"")
    out = run(monkeypatch, tmp_path, root, image_size=4)
    assert sorted(paths(out, "train") + paths(out, "test")) == sorted([*names, "deep/down/LINKED", "link", "phone"])
    assert "folder: 11 image files; left out: 5 no extension, 1 .xyz\n" in capsys.readouterr().out


def test_files_of_other_kinds_are_counted_and_not_opened(tmp_path, monkeypatch):
    for name in ("a.txt", "b.TXT", "Thumbs.db", "desktop.ini", "c.mp4", "d.MOV", "e.nef", "f.json", "g.zip"):
        paint(tmp_path / "x.png").rename(tmp_path / name)  # pictures, even
    (tmp_path / ".hidden").mkdir()
    for name in (".DS_Store", "._IMG_1.jpg", ".photo.jpg", ".hidden/1.jpg"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(walking, "format_of", None)
    found = walk(tmp_path)
    assert found.images == []
    assert found.left_out == {
        **{".txt": 2, ".db": 1, ".ini": 1, ".mp4": 1, ".mov": 1, ".nef": 1, ".json": 1, ".zip": 1},
        "hidden": 4,
    }


def test_links_pipes_and_files_that_may_not_be_read(tmp_path):
    paint(tmp_path / "a.png")
    (tmp_path / "again").symlink_to("a.png")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "gone.png").symlink_to("nowhere")  # as an image that cannot be read it is told later
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "text").symlink_to("notes.txt")
    (tmp_path / "notes.txt").write_text("no picture")
    for name in ("pipe", "pipe.png"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "to-pipe").symlink_to("pipe")
    found = walk(tmp_path)
    assert found.images == ["a.png", "gone.png"]
    assert found.left_out == {
        **{"links to what is there already": 1, "links that lead nowhere": 2, "pipes or devices": 3},
        **{".txt": 1, "no extension": 1},
    }


def test_a_file_that_may_not_be_read_is_none(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError

    (tmp_path / "locked").write_bytes(b"x")
    monkeypatch.setattr(walking, "format_of", refuse)
    assert walk(tmp_path).left_out == {"no extension": 1}


def test_pictures_without_extension_beside_a_split_are_said(tmp_path, monkeypatch, capsys):
    root = tmp_path / "mine"
    for name in ("train/1.png", "train/2.png", "test/3.png", "4.png"):
        paint(root / name)
    (root / "4.png").rename(root / "four")
    (root / "README").write_text("no picture")
    run(monkeypatch, tmp_path, root)
    assert "ignored beside train/, test/: four\n" in capsys.readouterr().out


def test_nothing_to_read_and_what_lies_there_instead(tmp_path, monkeypatch):
    root = tmp_path / "mine"
    paint(root / ".1.png")
    (root / "notes.txt").write_text("no picture")
    assert "no image file below it; left out: 1 hidden, 1 .txt;" in fails(monkeypatch, tmp_path, root)
    paint(root / "one.png")
    line = fails(monkeypatch, tmp_path, root)
    assert "only one image file" in line
    assert line.endswith("; left out: 1 hidden, 1 .txt")


def test_a_few_kinds_are_named_and_the_rest_is_counted():
    found = Listing()
    assert say(found.left_out) == ""
    for number in range(9):
        found.left_out[f".{chr(97 + number)}"] = 1000 * (9 - number)
    said = "; left out: 9,000 .a, 8,000 .b, 7,000 .c, 6,000 .d, 5,000 .e, 4,000 .f and 6,000 of other kinds"
    assert say(found.left_out) == said
