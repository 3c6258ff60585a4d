"""HEIC files: read as other pictures are, and refused with the way out where the package for them is missing."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from heic_files import GREY, HEIC, QUARTERS
from PIL import Image
from test_folder import paint, paths, run, table

from stages.images import store
from stages.images.sources import pictures


def write(path, name="plain"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEIC[name])
    return path


def near(found, expected):
    return np.abs(np.subtract(found, expected, dtype=int)).max() <= 6  # it is compressed with losses


@pytest.mark.parametrize("name", ["plain", "turned", "alpha", "deep", "several"])
def test_quarters_are_where_they_belong(tmp_path, name):
    """Turned once and not twice, of 10 bits, and the primary one of several."""
    path = write(tmp_path / "x.heic", name)
    assert pictures.side_lengths(path) == (96, 64)
    found = pictures.read(path, 64)
    for row, column in np.ndindex(2, 2):
        expected = QUARTERS[row][column] if name != "alpha" or row + column else (255, 255, 255)
        assert near(found[16 + 32 * row, 16 + 32 * column], expected), (row, column)


def test_exif_data_that_turns_is_in_the_file():
    """Or the test above would not notice that it is applied a second time."""
    assert b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06" in HEIC["turned"]
    assert b"irot" in HEIC["turned"]


@pytest.mark.parametrize("name", ["grey", "deep-grey", "deep-grey-alpha"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_stays_grey(tmp_path, name, channels):
    found = pictures.read(write(tmp_path / "x.heic", name), 16, channels)
    assert found.shape == (16, 16, channels)
    assert near(found, GREY)
    assert (found == found[..., :1]).all()


def test_other_brands(tmp_path):
    """Files that begin with the brand that AVIF and HEIC share, and sequences."""
    for brand in (b"mif1", b"heix", b"hevc"):
        (tmp_path / "x.heic").write_bytes(HEIC["plain"].replace(b"ftypheic", b"ftyp" + brand, 1))
        assert near(pictures.read(tmp_path / "x.heic", 64)[16, 16], QUARTERS[0][0])
    Image.new("RGB", (8, 8), (9, 200, 77)).save(tmp_path / "y.avif")
    whole = (tmp_path / "y.avif").read_bytes()
    (tmp_path / "y.avif").write_bytes(whole.replace(b"ftypavif", b"ftypmif1", 1))
    assert near(pictures.read(tmp_path / "y.avif", 8), (9, 200, 77))


def test_the_content_decides_and_not_the_extension(tmp_path, monkeypatch, capsys):
    root = tmp_path / "mine"
    for name in ("a.heic", "b.HEIC", "c.heif", "d.HIF", "e.jpg", "g.PNG"):
        write(root / name)
    paint(root / "png.png").rename(root / "h.HEIC")
    paint(root / "jpeg.jpg").rename(root / "i.heic")
    out = run(monkeypatch, tmp_path, root, image_size=8)
    names = ["a.heic", "b.HEIC", "c.heif", "d.HIF", "e.jpg", "g.PNG", "h.HEIC", "i.heic"]
    assert sorted(paths(out, "train") + paths(out, "test")) == names
    assert "left out" not in capsys.readouterr().out


def test_jpegs_of_which_some_are_called_heic(tmp_path, monkeypatch):
    """And they give the pixels that they would under their own name."""
    images = []
    for root, names in (("called", ("JPG", "HEIC", "HEIC")), ("own", ("JPG", "jpg", "jpeg"))):
        for number in range(12):
            path = paint(tmp_path / f"{root}/x.jpg", (20 * number, 9, 99), (40, 30))
            path.rename(path.with_name(f"IMG_{number:02}.{names[number % 3]}"))
        out = run(monkeypatch, tmp_path, tmp_path / root, image_size=8)
        images.append(np.concatenate([store.read_images(out / "images", split) for split in ("train", "test")]))
    assert len(images[0]) == 12
    np.testing.assert_array_equal(*images)


def test_what_cannot_be_read_is_listed(tmp_path, monkeypatch):
    root = tmp_path / "mine"
    for number in range(4):
        write(root / f"{number}.heic")
    (root / "torn.heic").write_bytes(HEIC["plain"][:500])
    (root / "torn-early.heic").write_bytes(HEIC["plain"][:100])
    (root / "film.heic").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    (root / "film.jpg").write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + bytes(500))
    (root / "empty.heif").write_bytes(b"")
    out = run(monkeypatch, tmp_path, root, image_size=8, unreadable=0.9)
    skipped = dict(table(out, "skipped.csv")[1:])
    assert "Unexpected end of file" in skipped.pop("torn.heic")
    assert skipped == {
        "empty.heif": "empty file",
        "film.heic": "no image that can be read here",
        "film.jpg": "no image that can be read here",
        "torn-early.heic": "no image that can be read here",
    }


WITHOUT = """
import sys

sys.modules["pi_heif"] = None  # importing it fails as if it were not installed
import pictures

for path in sys.argv[1:]:
    try:
        print(pictures.read(path, 8).shape)
    except pictures.UnreadableError as error:
        print(error.reason)
"""


def test_without_the_package_for_it_the_way_out_is_told(tmp_path):
    """In a folder with nothing but the copy that goes into exported models."""
    shutil.copy(pictures.__file__, tmp_path)
    write(tmp_path / "a.heic")
    write(tmp_path / "b.jpg")
    (tmp_path / "c.heic").write_bytes(HEIC["plain"].replace(b"ftypheic", b"ftypmif1", 1))
    paint(tmp_path / "jpeg.jpg").rename(tmp_path / "d.HEIC")
    Image.new("RGB", (8, 8)).save(tmp_path / "e.avif")
    (tmp_path / "f.heic").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    names = ["a.heic", "b.jpg", "c.heic", "d.HEIC", "e.avif", "f.heic"]
    words = [sys.executable, "-E", "-s", "-c", WITHOUT, *names]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    refused = "HEIC, which takes one package more: pip install pi-heif"
    expected = [refused, refused, refused, "(8, 8, 3)", "(8, 8, 3)", "no image that can be read here"]
    assert done.stdout.splitlines() == expected
