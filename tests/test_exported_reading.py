"""Picture files of every kind, read beside an exported model and without this project: as the pipeline reads them."""

import ast
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_export
import test_folder
from heic_files import HEIC
from PIL import Image

from commands.export.portable import Portable
from commands.predict.streaming import batches
from stages.images import store
from stages.images.sources import pictures

SIZE = 16  # of the models that are exported here


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def channels(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def exported(channels, tmp_path_factory) -> Path:
    """A folder with nothing but an export in it, of a model of so many channels."""
    project = test_export.make_project(tmp_path_factory.mktemp("project"), channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        test_export.export()
    return Path(shutil.move(project / "exported", tmp_path_factory.mktemp("elsewhere")))


def python(folder: Path, code: str, *words: str) -> str:
    """What plain Python prints in a folder. -E and -s are -I, but for the folder being on the path, as for users."""
    command = [sys.executable, "-E", "-s", "-c", code, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_kinds(root: Path) -> dict[str, str]:
    """A file of every kind, in the folders grey and colour below `root`; and the mode in which Pillow opens it."""
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (40, 61, 3), dtype=np.uint8))  # neither square nor of even sides
    clear = Image.fromarray(random.integers(0, 256, (40, 61), dtype=np.uint8))
    deep = random.integers(0, 2**16, (40, 61), dtype=np.uint16)
    see_through = noise.convert("RGBA")
    see_through.putalpha(clear)
    grey_see_through = noise.convert("LA")
    grey_see_through.putalpha(clear)
    palette = noise.quantize(32)
    waves = np.sin(np.add.outer(np.arange(901), 2 * np.arange(1207))[..., None] / [7, 9, 11])  # finer than a pixel
    turned = Image.Exif()
    turned[0x0112] = 6
    modes = {}

    def save(name: str, image: Image.Image, mode: str, **options) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name, **options)
        modes[name] = mode

    save("grey/bits.png", noise.convert("1"), "1")
    save("grey/grey.png", noise.convert("L"), "L")
    save("grey/grey.jpg", noise.convert("L"), "L")
    save("grey/grey.gif", noise.convert("L"), "P")
    save("grey/alpha.png", grey_see_through, "LA")
    save("grey/alpha.tif", grey_see_through, "LA")
    save("grey/deep.png", Image.fromarray(deep), "I;16")
    save("grey/deep.tif", Image.fromarray(deep), "I;16")
    save("grey/deep.pgm", Image.fromarray(deep), "I")
    save("grey/deep-big-endian.tif", Image.frombytes("I;16B", (61, 40), deep.astype(">u2").tobytes()), "I;16B")
    save("colour/rgb.png", noise, "RGB")
    save("colour/rgb.tif", noise, "RGB")
    save("colour/rgb.bmp", noise, "RGB")
    save("colour/rgb.jp2", noise, "RGB")
    save("colour/rgb-clear.png", noise, "RGB", transparency=noise.getpixel((30, 20)))
    save("colour/alpha.png", see_through, "RGBA")
    save("colour/alpha.tif", see_through, "RGBA")
    save("colour/alpha.webp", see_through, "RGBA", lossless=True)
    save("colour/palette.png", palette, "P")
    save("colour/palette-clear.png", palette, "P", transparency=3)
    save("colour/palette-clear.gif", palette, "P", transparency=3)
    save("colour/palette-alpha.png", palette, "P", transparency=bytes(range(0, 256, 8)))
    save("colour/palette-alpha.tif", palette.convert("PA"), "PA")
    save("colour/moving.gif", palette, "P", save_all=True, append_images=[palette.rotate(180)])
    save("colour/cmyk.jpg", noise.convert("CMYK"), "CMYK")
    save("colour/cmyk.tif", noise.convert("CMYK"), "CMYK")
    save("colour/ycbcr.jpg", noise.convert("YCbCr"), "RGB")
    save("colour/ycbcr.tif", noise.convert("YCbCr"), "YCbCr")
    save("colour/turned.jpg", noise, "RGB", exif=turned)
    save("colour/turned.png", see_through, "RGBA", exif=turned)
    save("colour/camera.mpo", noise, "RGB", save_all=True, append_images=[noise.rotate(180)])
    save("colour/large.jpg", Image.fromarray((127 + 120 * waves).astype(np.uint8)), "RGB")
    for name, content in HEIC.items():
        path = f"{'grey' if 'grey' in name else 'colour'}/{name}.heic"
        (root / path).write_bytes(content)
        with Image.open(root / path) as image:
            modes[path] = image.mode
    return modes


READ_ALL = """
import importlib.util, json, sys
import numpy as np
from pictures import read

assert importlib.util.find_spec("stages") is None, "the project can be imported, which this is to be without"
input = json.load(open("config.json"))["input"]
np.save(sys.argv[1], np.stack([read(path, input["size"], input["channels"]) for path in sys.argv[2:]]))
"""


def test_files_of_every_kind_are_what_predict_and_download_take(exported, channels, tmp_path, monkeypatch):
    modes = write_kinds(tmp_path / "all")
    for name, mode in modes.items():
        with Image.open(tmp_path / "all" / name) as image:
            assert image.mode == mode, name
    files = [str(tmp_path / "all" / name) for name in modes]
    python(exported, READ_ALL, str(tmp_path / "found.npy"), *files)
    found = dict(zip(modes, np.load(tmp_path / "found.npy"), strict=True))

    for paths, pixels, reasons in batches(files, SIZE, channels, 256):
        assert not any(reasons)
        for path, expected in zip(paths, pixels, strict=True):
            name = Path(path).relative_to(tmp_path / "all").as_posix()
            np.testing.assert_array_equal(found[name], expected, err_msg=name)

    # Download stores one channel where all files are grey.
    below = "grey/" if channels == 1 else ""
    out = test_folder.run(monkeypatch, tmp_path, tmp_path / "all" / below, image_size=SIZE, unreadable=0.0)
    stored = {}
    for split in ("train", "test"):
        images = store.read_images(out / "images", split)
        stored |= {below + name: image for name, image in zip(test_folder.paths(out, split), images, strict=True)}
    assert set(stored) == {name for name in modes if name.startswith(below)}
    for name, expected in stored.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_among_these_files_is_a_jpeg_that_is_decoded_at_a_fraction(tmp_path):
    write_kinds(tmp_path)
    with Image.open(tmp_path / "colour/large.jpg") as image:
        whole = np.asarray(image.crop((153, 0, 1054, 901)).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    assert (pictures.read(tmp_path / "colour/large.jpg", SIZE) != whole).any()


def test_the_code_of_the_card_runs_as_it_stands(exported, channels, tmp_path):
    prepare, onnx, with_torch, answer = re.findall(
        r"```python\n(.*?)```", (exported / "MODEL_CARD.md").read_text(), re.DOTALL
    )
    # Turned, transparent and not square: what the card makes of it has to be what predict makes of it.
    write_kinds(tmp_path)
    picture = shutil.copy(tmp_path / "colour/turned.png", exported / "picture.png")
    [decoded] = batches([str(picture)], SIZE, channels, 256)
    [expected] = Portable(test_export.classifier("tiny", SIZE, channels)).eval().run(decoded.pixels)
    names = json.loads((exported / "config.json").read_text())["names"]
    for way in (onnx, with_torch):
        name, _, confidence = python(exported, prepare + way + answer).strip().rpartition(" ")
        assert name == names[expected.argmax()]
        assert float(confidence) == pytest.approx(expected.max(), abs=1e-4)


def test_the_file_is_the_projects_own_and_imports_nothing_of_it(exported):
    source = (exported / "pictures.py").read_bytes()
    assert source == Path(pictures.__file__).read_bytes()
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy", "PIL", "pi_heif"}


def test_errors_name_the_file_and_the_reason(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "link.png").symlink_to("gone")
    reasons = {"empty.png": "empty file", "link.png": "the link leads nowhere", "absent.png": "no such file"}
    for name, reason in reasons.items():
        with pytest.raises(pictures.UnreadableError) as caught:
            pictures.read(tmp_path / name, SIZE)
        assert caught.value.reason == reason
        assert str(caught.value) == f"{tmp_path / name}: {reason}"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "as processes hand it on"
