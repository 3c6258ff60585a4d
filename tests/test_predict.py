"""The command predict: the pipeline's own answers on files, a table that is whole, and files sorted without loss."""

import csv
import errno
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from project import ROOT, TINY, environment, params_text, run_stage, set_params
from test_unlabelled import draw_pictures

from commands.predict import sorting, streaming
from commands.predict.__main__ import main
from stages.images.sources import pictures
from stages.images.views import PlainView
from stages.networks.classifier import Classifier
from stages.networks.encoder import Encoder, Input
from stages.networks.model import save_model
from stages.scoring.matching import assign
from stages.scoring.names import model_id
from stages.training.inference import write_probabilities

CLUSTERS = 4


def make_model(folder: Path, size: int = 12, channels: int = 3, backbone: str = "tiny") -> Classifier:
    """A model of fresh weights whose clusters tell colours apart, in a folder as selflabel leaves it."""
    torch.manual_seed(0)
    input = Input(size, channels, [0.4, 0.5, 0.6][:channels], [0.2, 0.3, 0.25][:channels])
    model = Classifier(Encoder(backbone, 8, input, "none"), "backbone", 1, CLUSTERS).eval()
    with torch.no_grad():
        shades = PlainView(input.mean, input.std)(255 * torch.rand(200, channels, 1, 1).expand(-1, -1, size, size))
        model.heads.weight.mul_(20)
        model.heads.bias.sub_(model(shades).mean(dim=1, keepdim=True))
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / "model.pt", model)
    return model


def paint(path: Path, seed: int = 0, size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 200, 3) + random.integers(0, 56, (*size[::-1], 3))  # a colour, and noise
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with a model and a folder of 30 pictures, one of which is none."""
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "data/selflabel")
    for number in range(30):
        paint(tmp_path / f"photos/{number % 3}/{number:02d}.png", number)
    (tmp_path / "photos/broken.jpg").write_bytes(b"no picture")
    return tmp_path


def predict(*words: str | Path) -> list[dict[str, str]]:
    main([*map(str, words), "--out", "p.csv"])
    return table(Path("p.csv"))


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def fails(*words: str | Path) -> str:
    """The one line with which the command fails, leaving everything as it was."""
    before = tree(Path())
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, words)))
    assert isinstance(stop.value.code, str), "a text as exit code is what makes Python print it and exit with 1"
    assert stop.value.code.startswith("predict: ")
    assert "\n" not in stop.value.code
    assert tree(Path()) == before
    return stop.value.code


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder: the bytes of files, the targets of links, None for folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = content
    return found


def files_of(folder: Path) -> Counter:
    """How often each content occurs among the files below a folder."""
    return Counter(content for content in tree(folder).values() if content is not None)


# ------------------------------------------------------------------------------------------------ the same answers


def test_files_get_the_answers_that_the_pipeline_gave_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw_pictures(tmp_path / "pictures", 120)
    (tmp_path / "params.yaml").write_text(params_text())
    set_params(tmp_path, TINY)
    set_params(
        tmp_path, {"data": {"name": "folder", "path": str(tmp_path / "pictures"), "image_size": 16}, "clusters": 3}
    )
    set_params(tmp_path, {"pretext": {"epochs": 3, "batch_size": 64}, "scan": {"batch_size": 64}})
    for stage in ("download", "pretext", "embed", "mine", "scan", "selflabel"):
        run_stage(tmp_path, stage)
    index = table(Path("data/images/index.csv"))
    expected = {}
    for split in ("train", "test"):
        found = assign(np.load(f"data/selflabel/probabilities-{split}.npy"))
        paths = [row["path"] for row in index if row["split"] == split]
        expected |= {path: row for path, *row in zip(paths, found.cluster, found.confidence, found.margin)}
    assert len(expected) == 120

    capsys.readouterr()
    rows = predict("--images", "pictures")
    summary = capsys.readouterr().out.splitlines()[-1]
    assert summary.startswith("predict: 121 images; cluster ")
    assert summary.endswith("; 1 could not be read, first pictures/broken.jpg: empty file; see p.csv")
    assert [row["path"] for row in rows] == [f"pictures/{name}" for name in sorted([*expected, "broken.jpg"])]
    assert len({row["cluster"] for row in rows}) > 2
    for row in rows:
        if row["path"] == "pictures/broken.jpg":
            assert list(row.values()) == ["pictures/broken.jpg", "", "", "", "", "", "empty file"]
            continue
        cluster, confidence, margin = expected[Path(row["path"]).name]
        assert (row["cluster"], row["name"], row["error"]) == (str(cluster), f"cluster {cluster}", "")
        assert float(row["confidence"]) == pytest.approx(confidence, abs=6e-4)  # of float16, and four digits
        assert float(row["margin"]) == pytest.approx(margin, abs=1.2e-3)
        assert row["unsure"] == str(bool(confidence < 0.5)).lower()


def test_a_grey_model_gives_picture_files_the_answers_of_stored_images(place):
    model = make_model(Path("grey"), 14, 1)
    random = np.random.default_rng(0)
    pixels = (random.integers(0, 200, (40, 1, 1, 1)) + random.integers(0, 56, (40, 14, 14, 1))).astype(np.uint8)
    Path("data/images").mkdir()
    for split in ("train", "test"):
        np.save(f"data/images/{split}.npy", pixels)
    write_probabilities(Path("grey"), "grey", Path("data/images"), model)
    expected = assign(np.load("grey/probabilities-test.npy"))
    assert len(set(expected.cluster)) > 1
    Path("grey-files").mkdir()
    for row, image in enumerate(pixels[..., 0]):
        # Grey, and in three equal channels: the same picture.
        Image.fromarray(image).convert("L" if row % 2 else "RGB").save(f"grey-files/{row:02d}.png")
    rows = predict("--images", "grey-files", "--model", "grey")
    assert [int(row["cluster"]) for row in rows] == expected.cluster.tolist()
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], expected.confidence, atol=6e-4)
    # Colours become their luma, and grey stays what it is to the bit.
    colours = np.random.default_rng(1).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(colours).save("colours.png")
    luma = pictures.read("colours.png", 9, 1)
    assert np.abs(luma[..., 0] - colours @ np.array([0.299, 0.587, 0.114])).max() <= 1
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for mode in ("L", "RGB"):
        Image.fromarray(every).convert(mode).save("every.png")
        assert (pictures.read("every.png", 16, 1)[..., 0] == every).all()


def test_names_and_unsure_images(place, capsys):
    rows = predict("--images", "photos")
    clusters = [int(row["cluster"]) for row in rows if not row["error"]]
    assert len(set(clusters)) > 1
    names = f"model: {model_id(Path('data/selflabel/model.pt'))}\nclusters: {{0: coat, 1: [merge, 3]}}\n"
    Path("names.yaml").write_text(names)
    called = {0: "coat", 1: "cluster 1", 2: "cluster 2", 3: "cluster 1"}
    named = predict("--images", "photos", "--threshold", "0.7")
    assert [row["name"] for row in named if not row["error"]] == [called[cluster] for cluster in clusters]
    unsure = [row["unsure"] for row in named if not row["error"]]
    assert unsure == [str(float(row["confidence"]) < 0.7).lower() for row in named if not row["error"]]
    assert set(unsure) == {"true", "false"}
    assert f"{unsure.count('true')} unsure" in capsys.readouterr().out
    Path("other.yaml").write_text(names.replace("model: ", "model: 0"))
    stale = predict("--images", "photos", "--names", "other.yaml")
    assert [row["name"] for row in stale] == [row["name"] for row in rows]
    assert "other.yaml: it was written for another model, so its names are left out" in capsys.readouterr().out


def test_folders_and_files_each_once_in_their_order(place):
    paint(Path("more/z.PNG"), 5)
    Path("more/notes.txt").write_text("no picture")
    Path("more/.hidden.png").write_bytes(b"")
    Path("odd-name").write_bytes(Path("more/z.PNG").read_bytes())  # a file that is named is tried, whatever its ending
    rows = predict("--images", "odd-name", "photos/1/01.png", "photos", "more", "photos/../photos/2/02.png")
    paths = [row["path"] for row in rows]
    assert paths[:2] == ["odd-name", "photos/1/01.png"]
    assert paths[-1] == "more/z.PNG"
    assert len(paths) == 33
    assert Counter(paths).most_common(1)[0][1] == 1
    assert rows[0]["cluster"] == rows[-1]["cluster"]


def test_the_summary_counts_what_was_left_out(place, capsys):
    Path("more").mkdir()
    paint(Path("more/1.png"), 5).rename("more/no-extension")
    for name in ("notes.txt", "photo.txt", "film.mp4", ".1.png"):
        Path("more", name).write_bytes(Path("more/no-extension").read_bytes())
    Path("photos/README").write_text("no picture")
    assert len(predict("--images", "photos", "more", "more/photo.txt")) == 33  # what is named is read
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("predict: 33 images; ")
    left_out, _, out = said.partition("; left out: ")[2].partition("; ")
    assert set(left_out.split(", ")) == {"1 no extension", "2 .txt", "1 .mp4", "1 hidden"}
    assert out == "see p.csv"
    Path("more/no-extension").unlink()
    assert "more: no image file below it; left out: " in fails("--images", "more", "--out", "q.csv")
    predict("--images", "photos/1")
    assert "left out" not in capsys.readouterr().out


def test_any_file_name_comes_out_as_it_went_in(place):
    names = [
        "a,b.png",
        'a"b.png',
        "a\nb.png",
        "a\rb.png",
        "a\r\nb.png",
        os.fsdecode(b"\xff\xfe.png"),
        " é .png",
        "NA.png",
        "=1+1.png",
        "\t.png",
        "\u2028\u202e.png",
        "\x1b[31m.png",
    ]
    for seed, name in enumerate(names):
        source = paint(Path(f"{seed}.png"), seed)
        Path("odd").mkdir(exist_ok=True)
        source.rename(Path("odd") / name)
    (Path("odd") / os.fsdecode(b"\xfe\n.png")).write_bytes(b"broken")
    rows = predict("--images", "odd", "--sort-into", "sorted", "--move")
    assert sorted(row["path"] for row in rows) == sorted([*(f"odd/{name}" for name in names), "odd/\udcfe\n.png"])
    assert [row["path"] for row in rows if row["error"]] == ["odd/\udcfe\n.png"]
    assert os.listdir("odd") == ["\udcfe\n.png"]
    main(["--undo", "sorted/undo.csv"])
    assert sorted(os.listdir("odd")) == sorted([*names, "\udcfe\n.png"])


def test_odd_places_for_what_is_written(place, capsys):
    odd = os.fsdecode(b"caf\xe9\r")
    main(["--images", "photos", "--out", f"{odd}.csv", "--sort-into", odd, "--move"])
    assert len(table(Path(f"{odd}.csv"))) == 31
    main(["--undo", f"{odd}/undo.csv"])
    said = capsys.readouterr().out
    assert "see caf??.csv" in said
    assert "--undo caf??/undo.csv" in said
    assert len(list(Path("photos").rglob("*.png"))) == 30
    assert "no?e?: no such file" in fails("--images", "no\ne\udce9", "--out", "p.csv")


# ------------------------------------------------------------------------------------------------------ many files


def test_no_more_than_a_batch_is_decoded_ahead(place, monkeypatch):
    decoded = []
    monkeypatch.setattr(streaming, "read", lambda path, *of: decoded.append(path) or np.zeros((8, 8, 3), np.uint8))
    paths = [f"{number}.png" for number in range(1000)]
    taken = []
    for batch in streaming.batches(paths, 8, 3, 128):
        taken += batch.paths
        assert batch.pixels.shape == (min(128, 1000 - len(taken) + len(batch.paths)), 8, 8, 3)
        assert len(decoded) <= len(taken) + 128
    assert taken == paths
    given_up = streaming.batches(paths, 8, 3, 128)
    decoded.clear()
    next(given_up)
    given_up.close()
    assert len(decoded) <= 256


def test_memory_does_not_grow_with_the_files(place):
    original = paint(Path("many/0.png"), 1, (64, 64))
    make_model(Path("large"), 64)

    def peak(count: int) -> int:
        for number in range(1, count):
            if not (link := Path(f"many/{number}.png")).exists():
                os.link(original, link)
        tracemalloc.start()
        try:
            main(["--images", "many", "--model", "large", "--out", "many.csv"])
            assert Path("many.csv").read_bytes().count(b"\n") == count + 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(1500), peak(3900)
    assert (many - few) / 2400 < 1000, f"{few} {many} file names, but neither images of 12,288 bytes nor answers"


def test_interrupted_it_leaves_nothing(place, monkeypatch):
    read = pictures.read

    def interrupted(path, *of):
        if Path(path).name == "20.png":
            raise KeyboardInterrupt
        return read(path, *of)

    monkeypatch.setattr(streaming, "read", interrupted)
    assert (
        fails("--images", "photos", "--out", "p.csv", "--sort-into", "s") == "predict: interrupted; nothing was written"
    )


# -------------------------------------------------------------------------------------------------------- bad input


def test_what_has_to_be_mended_is_one_line(place):
    usual = ("--images", "photos", "--out", "p.csv")
    assert fails(*usual, "--model", "none") == (
        "predict: none/model.pt: no such file; run `dvc repro selflabel` first, or name another folder with --model"
    )
    assert fails("--images", "photos", "none", "--out", "p.csv") == (
        "predict: none: no such file or folder; --images takes image files, and folders that hold some"
    )
    Path("empty/deeper").mkdir(parents=True)
    Path("empty/notes.txt").write_text("no picture")
    assert "empty: no image file below it" in fails("--images", "photos", "empty", "--out", "p.csv")
    assert "--out photos: a folder" in fails("--images", "photos", "--out", "photos")
    assert "one of the images" in fails("--images", "photos", "--out", "photos/1/01.png")
    assert "notes.txt" in fails("--images", "photos", "--out", "empty/notes.txt/p.csv")
    assert "none.yaml: no such file" in fails(*usual, "--names", "none.yaml")
    assert "--sort-into empty/notes.txt: no folder" in fails(*usual, "--sort-into", "empty/notes.txt")
    for into in ("photos", ".", "photos/../photos"):
        assert "sort into another folder" in fails(*usual, "--sort-into", into)
    Path("names.yaml").write_text("clusters: {4: coat}")
    assert "names.yaml: cluster 4 does not exist" in fails(*usual)
    Path("names.yaml").unlink()
    input = Input(12, 3, [0.5] * 3, [0.5] * 3)
    save_model(Path("empty/model.pt"), Encoder("tiny", 8, input))
    assert "holds Encoder in format 1, expected Classifier" in fails(*usual, "--model", "empty")
    save_model(Path("empty/model.pt"), Classifier(Encoder("absent:9", 1, input, "none"), "backbone", 1, CLUSTERS))
    assert "the embeddings were made elsewhere" in fails(*usual, "--model", "empty")
    assert "none.csv: no such file" in fails("--undo", "none.csv")
    main(list(usual))
    assert "not the undo.csv of a move" in fails("--undo", "p.csv")
    assert "not the undo.csv of a move" in fails("--undo", "photos/1/01.png")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--images a", "--images and --out are needed"),
        ("--out p.csv", "--images and --out are needed"),
        ("--images --out p.csv", "expected at least one argument"),
        ("--images a --out p.csv --copy", "--copy needs --sort-into"),
        ("--images a --out p.csv --move", "--move needs --sort-into"),
        ("--images a --out p.csv --sort-into s --copy --move", "not allowed with"),
        ("--images a --out p.csv --threshold 1.5", "expected a number from 0 to 1"),
        ("--images a --out p.csv --threshold nan", "expected a number from 0 to 1"),
        ("--images a --out p.csv --threshold high", "high: expected a number"),
        ("--undo s/undo.csv --out p.csv", "--undo goes with no other flag"),
    ],
)
def test_wrong_flags_start_nothing(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_as_a_command_all_files_unreadable_is_no_failure(place):
    Path("bad").mkdir()
    Path("bad/a.png").write_bytes(b"GIF89a")
    Path("bad/b.png").symlink_to("nowhere")
    command = [sys.executable, "-m", "commands.predict", "--images", "bad", "--out", "new/folder/p.csv"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(PYTHONPATH=str(ROOT)))
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 images; 0 unsure; 2 could not be read, first bad/a.png: " in done.stdout
    assert [bool(row["error"]) for row in table(Path("new/folder/p.csv"))] == [True, True]


# ---------------------------------------------------------------------------------------------------- into folders


def sort(*words: str) -> dict[str, str]:
    """Sort the photos; the group that each has to be in, by its path."""
    rows = predict("--images", "photos", "--threshold", "0.7", "--sort-into", "sorted", *words)
    return {row["path"]: "unsure" if row["unsure"] == "true" else row["name"] for row in rows if not row["error"]}


def test_links_and_again(place, capsys):
    before = tree(Path("photos"))
    groups = sort()
    assert {"unsure"} < set(groups.values())
    found = {path: folder for folder in os.listdir("sorted") for path in os.listdir(f"sorted/{folder}")}
    assert found == {Path(path).name: group for path, group in groups.items()}
    for name, group in found.items():
        link = Path("sorted") / group / name
        assert link.is_symlink()
        assert link.readlink().is_absolute()
        assert link.readlink() == next(Path(path).absolute() for path in groups if path.endswith(name))
    linked = tree(Path("sorted"))
    sort()
    assert tree(Path("sorted")) == linked
    assert "0 files linked into sorted, 30 were there already" in capsys.readouterr().out
    assert tree(Path("photos")) == before


def test_copies_of_equal_names_and_again(place):
    for folder in ("0", "1"):
        paint(Path(f"photos/{folder}/same.png"), int(folder) + 50)
    shutil.copy("photos/0/same.png", "photos/same.png")  # the same picture, in the same group
    before = tree(Path("photos"))
    groups = sort("--copy")
    assert len(groups) == 33
    assert files_of(Path("sorted")) == files_of(Path("photos")) - Counter([b"no picture"])
    assert Path(f"sorted/{groups['photos/same.png']}/same (2).png").exists()
    copied = tree(Path("sorted"))
    sort("--copy")
    assert tree(Path("sorted")) == copied
    assert tree(Path("photos")) == before
    # What somebody put there is kept, too.
    name = next(name for name, content in copied.items() if content is not None and "same" not in name)
    Path("sorted", name).write_bytes(b"my own")
    sort("--copy")
    assert Path("sorted", name).read_bytes() == b"my own"
    stem, ending = os.path.splitext(name)
    assert tree(Path("sorted"))[f"{stem} (2){ending}"] == copied[name]


def test_moves_and_back(place, capsys):
    Path("photos/0/link.png").symlink_to(paint(Path("outside.png"), 3).absolute())
    before = tree(Path("photos"))
    groups = sort("--move")
    left = tree(Path("photos"))
    assert {name for name, content in left.items() if content is not None} == {"broken.jpg", "0/link.png"}
    del groups["photos/0/link.png"]
    for path, group in groups.items():
        assert Path("sorted", group, Path(path).name).read_bytes() == before[path.removeprefix("photos/")]
    said = capsys.readouterr().out
    assert "30 files moved into sorted, 1 links stay where they are; back with --undo sorted/undo.csv" in said

    # A second run with new files of the old names adds to the same undo.csv, and overwrites nothing.
    for number in range(6):
        paint(Path(f"photos/{number % 3}/{number:02d}.png"), number + 100)
    second = files_of(Path("photos"))
    sort("--move")
    everything = files_of(Path("sorted")) + files_of(Path("photos"))
    del everything[Path("sorted/undo.csv").read_bytes()]
    assert everything == files_of_tree(before) + second - Counter([b"no picture", before["0/link.png"]])
    # Back in reverse: the six of the second run take their places, where those of the first one then find them.
    with pytest.raises(SystemExit) as stop:
        main(["--undo", "sorted/undo.csv"])
    line = stop.value.code
    assert line.startswith("predict: 6 files stay where they are, and in sorted/undo.csv: ")
    assert "something stands at its old place" in line
    assert len(table(Path("sorted/undo.csv"))) == 6
    for number in range(6):
        Path(f"photos/{number % 3}/{number:02d}.png").unlink()
    Path("sorted").rename("elsewhere")  # the undo file goes with its folder
    main(["--undo", "elsewhere/undo.csv"])
    assert tree(Path("photos")) == before
    assert tree(Path("elsewhere")) == {}


def files_of_tree(found: dict) -> Counter:
    return Counter(content for content in found.values() if content is not None)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_move_can_be_undone(place, monkeypatch, when):
    before = tree(Path("photos"))
    moved = []

    def interrupted(source, target):
        moved.append(source)
        assert source in Path("sorted/undo.csv").read_text(), "the line has to be on disk before the file moves"
        if when == "after" or len(moved) < 9:
            os.rename(source, target)
        if len(moved) == 9:
            raise KeyboardInterrupt

    monkeypatch.setitem(sorting.PLACE, "move", interrupted)
    with pytest.raises(SystemExit) as stop:
        sort("--move")
    assert stop.value.code == "predict: interrupted; 8 files were sorted by then, as sorted/undo.csv has it"
    assert len(table(Path("p.csv"))) == 31, "the table was complete before anything moved"
    assert tree(Path("photos")) != before
    monkeypatch.undo()
    monkeypatch.chdir(place)
    main(["--undo", "sorted/undo.csv"])
    assert tree(Path("photos")) == before
    assert tree(Path("sorted")) == {}


def test_no_file_moves_whose_line_does_not_fit_on_the_disk(place, monkeypatch):
    write, count = os.write, [0]

    def full(handle, line):
        count[0] += 1
        if count[0] == 5:
            return write(handle, line[:10])
        return write(handle, line)

    monkeypatch.setattr(sorting.os, "write", full)
    with pytest.raises(SystemExit) as stop:
        sort("--move")
    assert os.strerror(errno.ENOSPC) in stop.value.code
    lines = table(Path("sorted/undo.csv"))
    assert len(lines) == 3
    assert all(Path("sorted", line["to"]).exists() and not Path(line["from"]).exists() for line in lines)
    assert len(list(Path("photos").rglob("*.png"))) == 27


def test_moves_to_another_disk_are_copies_first(place, monkeypatch):
    rename = os.rename

    def one_disk(source, target):
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, "another disk", source)
        rename(source, target)

    monkeypatch.setattr(sorting.os, "rename", one_disk)
    before = tree(Path("photos"))
    sort("--move")
    assert files_of(Path("photos")) == Counter([b"no picture"])
    Path("sorted/unsure/.killed.partial").write_bytes(b"the half of a copy")
    main(["--undo", "sorted/undo.csv"])
    assert tree(Path("photos")) == before
    assert tree(Path("sorted")) == {}
    # What cannot be taken away from its place is not left in two.
    unlink = os.unlink
    monkeypatch.setattr(sorting.os, "unlink", lambda path: fail(path) if "/photos/" in str(path) else unlink(path))
    with pytest.raises(SystemExit) as stop:
        sort("--move")
    assert "no right to do that" in stop.value.code
    assert files_of(Path("photos")) == files_of_tree(before)
    assert not list(Path("sorted").rglob("*.png"))


def fail(path: str) -> None:
    raise PermissionError(errno.EACCES, "no right to do that", path)


def test_what_was_sorted_below_the_images_is_not_read_again(place, capsys):
    words = ("--images", "photos", "--sort-into", "photos/sorted", "--copy")
    first = predict(*words)
    copied = tree(Path("photos"))
    assert predict(*words) == first
    assert tree(Path("photos")) == copied
    assert "left out 30 images below photos/sorted" in capsys.readouterr().out


def test_thousands_of_files_of_one_name(place):
    source = paint(Path("frames/0000/frame.png"), 1)
    for number in range(1, 700):
        Path(f"frames/{number:04d}").mkdir()
        os.link(source, f"frames/{number:04d}/frame.png")
    predict("--images", "frames", "--sort-into", "sorted", "--threshold", "0")
    [folder] = Path("sorted").iterdir()
    expected = {"frame.png", *(f"frame ({number}).png" for number in range(2, 701))}
    assert set(os.listdir(folder)) == expected
    linked = tree(Path("sorted"))
    predict("--images", "frames", "--sort-into", "sorted", "--threshold", "0")
    assert tree(Path("sorted")) == linked


def test_folders_are_safe_and_their_own(tmp_path):
    names = [
        "coat",
        "Coat",
        "a/b",
        "a:b",
        "..",
        ".",
        "../../up",
        "/etc",
        ".hidden",
        " x. ",
        "unsure",
        "undo.csv",
        "nul",
    ]
    names += ["com1.txt", "é" * 200, "a\nb", "\u202eb", "junk", "\\", "x" * 300 + "1", "x" * 300 + "2"]
    folders = sorting.folder_names(names)
    assert list(folders) == names
    assert (folders["coat"], folders["junk"], folders["a/b"]) == ("coat", "junk", "a_b")
    made = list(folders.values())
    assert len({name.lower() for name in made} | {"unsure", "undo.csv"}) == len(names) + 2
    for name in made:
        (tmp_path / name).mkdir()
        assert (tmp_path / name).resolve().parent == tmp_path
        assert not name.startswith(".")
        assert name.isprintable()
        assert name.split(".")[0].lower() not in ("nul", "com1")
    assert len(list(tmp_path.iterdir())) == len(names)
    long = "y" * 251 + ".png"
    assert len(sorting._numbered(long, 12)) == 255
    assert sorting._numbered(long, 12).endswith("y (12).png")
