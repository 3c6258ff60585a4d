"""A folder of one's own: what is looked at, chosen, written and said, and what happens when it is asked for again."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from project import ROOT, STAGES, make_project, params_text, run
from test_dag import schema

from commands.own import __main__ as own
from commands.own import estimate, plan
from commands.own.speed import Speed, measure
from commands.own.summary import say_survey
from commands.own.survey import Survey, look

COMMITTED = yaml.safe_load(params_text())
# What a step takes, made up: choices are to follow from it, and not from how busy the machine is just now.
SPEED = Speed(1e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-9, 1e-5, 1e5, 10**6, 128)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("own") / "project")
    (folder / "params.yaml").write_text(params_text())
    run("git", "commit", "--quiet", "--all", "--message", "params", cwd=folder)
    return folder


@pytest.fixture
def call(project, monkeypatch, capfd):
    """`python -m commands.own` in the project; returns what it prints, or the line with which it ends."""
    run("git", "checkout", "--quiet", "params.yaml", cwd=project)
    shutil.rmtree(project / ".ckpt", ignore_errors=True)
    monkeypatch.chdir(project)
    torch.set_num_threads(1)

    def own_command(*words, fails=False):
        monkeypatch.setattr(sys, "argv", ["own", *map(str, words)])
        if fails:
            with pytest.raises(SystemExit) as stop:
                own.main()
            assert isinstance(stop.value.code, str), "a text as exit code is what makes Python print it and exit with 1"
            assert "\n" not in stop.value.code
            return stop.value.code
        capfd.readouterr()
        own.main()
        return capfd.readouterr().out

    return own_command


def paint(folder, count, size=(40, 30), start=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def params(project):
    return yaml.safe_load((project / "params.yaml").read_text())


def valid(content):
    for stage in STAGES:
        schema(stage).model_validate(
            {block: content[block] for block in schema(stage).model_fields if block in content}
        )


# ------------------------------------------------------------------------------------------------------- the whole way


def test_a_folder_is_prepared_and_asked_for_again_it_stays(call, project, tmp_path):
    folder = paint(tmp_path / "it's my photos", 38)
    paint(folder, 1, (90, 60), start=38)
    (folder / "broken.jpg").write_bytes(b"no picture")
    shutil.copy(folder / "000.png", folder / "copy.png")
    said = call(folder, "--clusters", "3", "--hours", "0.02")
    assert f"41 in {folder}: 37 to learn from, 4 set aside to test" in said
    assert "median 40 × 30, smallest 40 × 30, largest 90 × 60 pixels" in said
    assert "That is few" in said
    assert re.search(r"Time +about \d+ \w+ for a whole run: .*pretext \d+ s.*the rest \d+ s", said)
    assert re.search(r"Memory +about [\d,.]+ [MG]B of [\d,.]+ [MG]B free", said)
    assert re.search(r"Disk +about [\d,.]+ [MG]B of [\d,.]+ [MG]B free", said)
    assert "1 unreadable, listed in data/images/skipped.csv" in said
    assert "1 exact, 0 near, listed in data/images/duplicates.csv" in said
    chosen = params(project)
    valid(chosen)
    assert chosen["clusters"] == 3
    assert chosen["data"]["name"] == "folder"
    assert chosen["data"]["path"] == str(folder)
    assert chosen["data"]["image_size"] == 30  # what most of them have
    assert chosen["views"]["flip"] == 0.5  # of the preset
    assert chosen["selflabel"]["epochs"] == 0
    assert len(np.load(project / "data/images/train.npy")) + len(np.load(project / "data/images/test.npy")) == 40
    comments = [line.split("#", 1)[1] for line in params_text().splitlines() if "#" in line]
    text = (project / "params.yaml").read_text()
    assert [line.split("#", 1)[1] for line in text.splitlines() if "#" in line] == comments

    before = {name: (project / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    link = tmp_path / "link"
    link.symlink_to(folder)
    for words in ((os.path.relpath(folder), "--hours", "0.02"), (link, "--size", "30")):
        said = call(*words, "--clusters", "3")
        assert "kept as they were" in said
        assert "Data and pipelines are up to date" in said
        assert {name: (project / name).read_bytes() for name in before} == before

    said = call(folder, "--clusters", "5")
    assert "params.yaml: 1 value changed: clusters: 3 → 5" in said
    assert (project / "params.yaml").read_text() == text.replace("clusters: 3\n", "clusters: 5\n")

    # Pictures that came are noticed, though DVC does not look there; what was set by hand stays.
    (project / "params.yaml").write_text(text.replace("knn: 20 ", "knn: 7 "))
    paint(folder, 2, start=50)
    said = call(folder, "--clusters", "5")
    assert "Running stage 'download'" in said
    assert "38 train + 4 test" in said
    assert params(project) == chosen | {"clusters": 5, "evaluate": chosen["evaluate"] | {"knn": 7}}

    said = call(folder, "--clusters", "5", "--size", "16")
    assert "16 pixels: as asked for" in said
    assert params(project)["data"]["image_size"] == 16
    assert params(project)["evaluate"]["knn"] == 7


def test_folders_named_by_a_list_with_windows_line_ends(call, project, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "measure", lambda *of: SPEED)
    for start, name in enumerate(("cats\r", "dogs\r")):
        paint(tmp_path / "my\rphotos" / name, 10, start=10 * start)
    said = call(tmp_path / "my\rphotos", "--clusters", "2", "--size", "8")
    assert "Read       18 train + 2 test; 0 unreadable" in said
    assert "my?photos" in said
    assert json.loads((project / "data/labels/classes.json").read_text()) == ["cats", "dogs"]
    assert params(project)["data"]["path"] == str(tmp_path / "my\rphotos")


def test_what_follows_from_the_number_of_pictures_is_of_those_that_can_be_read(call, project, tmp_path, monkeypatch):
    folder = paint(tmp_path / "photos", 32)
    for number in range(8):
        (folder / f"{number:03}.png").write_bytes(b"broken")
    (project / "params.yaml").write_text(params_text().replace("unreadable: 0.01 ", "unreadable: 0.5 "))
    monkeypatch.setattr(plan, "measure", lambda *_: SPEED)
    said = call(folder, "--clusters", "2")
    assert re.search(r"params\.yaml: .*for \d\d pictures to learn from could be read", said)
    train = len(np.load(project / "data/images/train.npy"))
    assert params(project)["mine"]["k"] == plan.from_counts({"train": train}, 2, 20, 16)["mine"]["k"] < train


def save(folder, pictures):
    """Arrays as PNG files; 16 bits where they are uint16."""
    folder.mkdir()
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda rng: rng.integers(0, 256, (30, 900, 3), np.uint8), "97% of a typical one is cut away"),
        (lambda rng: rng.integers(0, 256, (900, 30, 3), np.uint8), "97% of a typical one is cut away"),
        (lambda rng: (100 + rng.integers(0, 300, (40, 40))).astype(np.uint16), "nearly black as they are stored"),
        (lambda rng: np.full((40, 40, 3), rng.integers(40, 256), np.uint8), "pictures looked at are of one colour"),
        (lambda rng: rng.integers(0, 256, (30, 40, 3), np.uint8), None),  # as of a camera
        (lambda rng: rng.integers(0, 65536, (40, 40), np.uint16), None),
    ],
    ids=["wide", "high", "few of 16 bits", "blank", "photographs", "all of 16 bits"],
)
def test_what_reading_destroys_is_said_before_anything_trains(call, project, tmp_path, monkeypatch, make, said):
    monkeypatch.setattr("commands.own.prepare.measure", lambda *of: SPEED)
    monkeypatch.setattr("commands.own.plan.measure", lambda *of: SPEED)
    rng = np.random.default_rng(0)
    out = call(save(tmp_path / "in", [make(rng) for _ in range(40)]), "--clusters", "2", "--size", "32")
    warnings = ["cut away", "nearly black", "of one colour"]
    assert [warning for warning in warnings if warning in out] == [word for word in warnings if said and word in said]
    assert said is None or said in out


def test_copies_leave_neighbours_enough(call, project, tmp_path, monkeypatch):
    folder = paint(tmp_path / "photos", 4)
    for number in range(26):
        shutil.copy(folder / "000.png", folder / f"copy-{number}.png")
    monkeypatch.setattr(plan, "measure", lambda *_: SPEED)
    call(folder, "--clusters", "2")
    assert params(project)["mine"]["k"] == 6  # of 27, for clusters of 13; nothing keeps copies from being neighbours


def test_copies_of_one_picture_are_refused_before_anything_trains(call, project, tmp_path, monkeypatch):
    folder = paint(tmp_path / "photos", 1)
    for number in range(30):
        shutil.copy(folder / "000.png", folder / f"copy-{number}.png")
    monkeypatch.setattr(plan, "measure", lambda *_: SPEED)
    assert "all 28 training images are copies of one" in call(folder, "--clusters", "2", fails=True)
    assert (project / "params.yaml").read_bytes() == params_text().encode()


def test_without_git_nothing_is_changed_and_the_way_out_is_told(call, project, tmp_path, monkeypatch):
    (project / ".git").rename(tmp_path / "git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    try:
        line = call(paint(tmp_path / "photos", 6), "--clusters", "2", fails=True)
        presets = run(
            sys.executable, "-m", "presets", "digits", cwd=ROOT, check=False, **{"GIT_DIR": str(tmp_path / "no")}
        )
    finally:
        (tmp_path / "git").rename(project / ".git")
    for said in (line, presets.stderr):
        assert "is not a git checkout" in said
        assert "git init" in said
    assert presets.returncode == 1
    assert (project / "params.yaml").read_bytes() == params_text().encode()


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{}/none", "--clusters", "3"], "none does not exist: IMAGES names the folder"),
        (["{}/one.png", "--clusters", "3"], "is no folder"),
        (["{}/empty", "--clusters", "3"], "no image file below it"),
        (["{}/half", "--clusters", "3"], "it has train/ but no test/"),
        (["{}/photos"], "CLUSTERS is missing: how many groups to look for"),
        (["--clusters", "3"], "IMAGES is missing"),
        (["{}/photos", "--clusters", "10"], "only 5 of the 6 pictures are there to learn from"),
        (["{}/photos", "--clusters", "three"], "CLUSTERS = 'three': expected a whole number"),
        (["{}/photos", "--clusters", "1"], "CLUSTERS = '1'"),
        (["{}/photos", "--clusters", "3", "--size", "4"], "SIZE = '4'"),
        (["{}/photos", "--clusters", "3", "--hours", "nan"], "HOURS = 'nan'"),
    ],
)
def test_bad_input_is_told_in_a_line_and_changes_nothing(call, project, tmp_path, words, expected):
    paint(tmp_path / "photos", 6)
    paint(tmp_path / "half/train", 3)
    paint(tmp_path, 1)
    (tmp_path / "000.png").rename(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    assert expected in call(*(word.format(tmp_path) for word in words), fails=True)
    assert (project / "params.yaml").read_bytes() == params_text().encode()


def test_params_of_another_dataset_are_refused(call, project, tmp_path):
    text = (project / "params.yaml").read_text().replace("name: fashion-mnist ", "name: digits ")
    (project / "params.yaml").write_text(text)
    assert "params.yaml is for digits" in call(paint(tmp_path / "photos", 6), "--clusters", "2", fails=True)
    assert (project / "params.yaml").read_text() == text


def test_a_mistake_in_params_is_told_before_they_are_changed(call, project, tmp_path):
    text = (project / "params.yaml").read_text().replace("  momentum: 0.9", "  momentun: 0.9")
    (project / "params.yaml").write_text(text)
    assert "did you mean momentum" in call(paint(tmp_path / "photos", 6), "--clusters", "2", fails=True)
    assert (project / "params.yaml").read_text() == text


def test_what_cannot_be_read_leaves_params_as_they_were(call, project, tmp_path, monkeypatch, capfd):
    folder = paint(tmp_path / "photos", 17)
    for number in range(3):
        (folder / f"broken-{number}.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(plan, "measure", lambda *_: SPEED)
    assert "could not be read" in call(folder, "--clusters", "2", fails=True)
    assert "3 of 20 image files cannot be read" in capfd.readouterr().err
    assert (project / "params.yaml").read_bytes() == params_text().encode()


def test_too_little_disk_is_told_before_anything_is_done(call, project, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(plan, "measure", lambda *_: SPEED)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    line = call(paint(tmp_path / "photos", 20), "--clusters", "2", fails=True)
    assert re.search(r"needs \d+ MB of disk in .*, and 1 MB are free; .* smaller SIZE than 30", line)
    assert "Running stage" not in capfd.readouterr().out
    assert (project / "params.yaml").read_bytes() == params_text().encode()


# ------------------------------------------------------------------------------------------------------ found, chosen


def test_a_split_of_its_own_is_counted_as_the_source_reads_it(tmp_path):
    for name, count in {"Train/a": 3, "Train/b": 2, "val/a": 2, "unlabeled": 4, "other": 5}.items():
        paint(tmp_path / name, count)
    found = look(tmp_path, 0.1)
    assert found.counts == {"train": 5, "test": 2, "unlabeled": 4}
    assert found.classes == 2
    assert found.channels == 3
    assert found.short_side == 30
    assert len(found.sides) == 11


def test_the_first_line_counts_what_is_left_out(tmp_path, capsys):
    """Pictures, too: those that are hidden, called something else, or lie beside the folders of a split."""
    for number in range(3):
        paint(tmp_path / "pile", 1, start=number)
    for name in ("IMG_1.txt", "notes.txt", ".hidden.png", "._000.png", "Thumbs.db"):
        shutil.copy(tmp_path / "pile/000.png", tmp_path / "pile" / name)
    shutil.copy(tmp_path / "pile/000.png", tmp_path / "pile/no-extension")
    say_survey(tmp_path / "pile", look(tmp_path / "pile", 0.1))
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"Pictures   4 in {tmp_path / 'pile'}: 3 to learn from, 1 set aside to test; left out: ")
    assert set(first.partition("left out: ")[2].split(", ")) == {"2 .txt", "2 hidden", "1 .db"}

    for name, count in {"train": 3, "test": 2, "other": 5}.items():
        paint(tmp_path / "split" / name, count)
    found = look(tmp_path / "split", 0.1)
    assert found.left_out == {"images beside the folders of the split": 5}

    paint(tmp_path / "all", 3)
    say_survey(tmp_path / "all", look(tmp_path / "all", 0.1))
    assert capsys.readouterr().out.splitlines()[0].endswith("2 to learn from, 1 set aside to test")


def test_the_listing_changes_with_the_pictures_and_not_otherwise(tmp_path):
    folder = paint(tmp_path / "photos", 5)
    listing = look(folder, 0.1).listing
    assert look(folder, 0.1).listing == listing
    os.utime(folder / "001.png", (1, 1))
    assert look(folder, 0.1).listing != listing


def pile(count, side=100):
    test = max(1, round(0.1 * count))
    return Survey({"train": count - test, "test": test}, [(side, side)], 3, 0, 1e-3, "", Counter())


def test_choices_start_from_the_committed_params():
    for block, values in plan.STARTS.items():
        assert {key: COMMITTED[block][key] for key in values} == values


@pytest.mark.parametrize("count", [30, 100, 499, 5_000, 100_000, 1_000_000])
@pytest.mark.parametrize("clusters", [2, 25])
def test_every_number_of_pictures_gets_params_that_can_run(monkeypatch, count, clusters):
    monkeypatch.setattr(plan, "measure", lambda *_: SPEED)
    found = pile(count)
    committed = COMMITTED | {"clusters": clusters}
    content = plan.merged(committed, plan.choose(found, None, 3.0, committed).changes)
    valid(content)
    train = found.counts["train"]
    assert content["mine"]["k"] < train
    for block, key in {"pretext": "batch_size", "scan": "head_batch_size", "selflabel": "batch_size"}.items():
        assert min(clusters, train) <= content[block][key] <= train
    assert plan.FEWEST <= content["pretext"]["epochs"] <= plan.MOST
    steps = train // content["scan"]["head_batch_size"] * content["scan"]["head_epochs"]
    assert steps >= 250
    if content["pretext"]["epochs"] > plan.FEWEST:
        assert sum(estimate.seconds(found, content, SPEED).values()) <= 3 * 3600


def test_little_time_means_a_cheaper_network_and_fewer_epochs(monkeypatch):
    cost = {"small": 1e-3, "tiny": 2e-4}
    monkeypatch.setattr(
        plan, "measure", lambda size, backbone, *_: SPEED._replace(pretext=cost[backbone] * (size / 32) ** 2)
    )
    chosen = [plan.choose(pile(20_000), None, hours, COMMITTED).changes for hours in (30, 1.5, 0.5, 0.01)]
    rungs = [(c["data"]["image_size"], c["pretext"]["backbone"]) for c in chosen]
    assert rungs == [(64, "small"), (48, "small"), (32, "tiny"), (32, "tiny")]
    epochs = [c["pretext"]["epochs"] for c in chosen]
    assert epochs[0] == plan.MOST
    assert epochs[-1] == plan.FEWEST
    assert epochs[2] > plan.FEWEST
    assert plan.choose(pile(20_000), 80, 3.0, COMMITTED).changes["data"]["image_size"] == 80
    assert plan.choose(pile(20_000, side=20), None, 3.0, COMMITTED).changes["data"]["image_size"] == 20


def test_a_gpu_takes_a_network_for_gpus(monkeypatch):
    monkeypatch.setattr(plan, "kind", lambda: "gpu")
    monkeypatch.setattr(plan, "measure", lambda *_: SPEED)
    for side, size, expected in [(500, None, "resnet18-stl"), (32, None, "resnet18-cifar"), (500, 224, "resnet18")]:
        changes = plan.choose(pile(20_000, side), size, 9.0, COMMITTED).changes
        assert changes["pretext"]["backbone"] == expected
        assert changes["data"]["image_size"] == (size or min(side, 96))


def test_a_batch_fits_the_memory(monkeypatch):
    monkeypatch.setattr(plan, "measure", lambda *_: SPEED._replace(activations=1e6))
    large = plan.choose(pile(20_000), None, 3.0, COMMITTED).changes["pretext"]
    monkeypatch.setattr(plan, "free_memory", lambda: 5e8)
    small = plan.choose(pile(20_000), None, 3.0, COMMITTED).changes["pretext"]
    assert large["batch_size"] == 512
    assert small["batch_size"] == 128
    assert small["lr"] == pytest.approx(large["lr"] / 4)


def test_speeds_are_measured_and_memory_grows_with_the_area():
    torch.set_num_threads(1)
    narrow, wide = (measure(size, "tiny", 3, COMMITTED | {"clusters": 5}, 8) for size in (16, 32))
    assert all(value > 0 for value in narrow)
    assert narrow.dim == wide.dim == 64
    assert narrow.weights == wide.weights
    assert 2 < wide.activations / narrow.activations <= 4.5


# --------------------------------------------------------------------------------------------------------------- make


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_hands_over_what_was_typed(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    run("git", "init", "--quiet", cwd=tmp_path)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("python", "dvc"):
        script = tmp_path / ".venv/bin" / name
        script.write_text(f'#!/bin/sh\nprintf "{name}"; printf "|%s" "$@"; echo\n')
        script.chmod(0o755)
    (tmp_path / ".venv/installed").touch()

    def make(*words):
        env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        out = subprocess.run(
            ["make", "repro", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        return [line for line in out.stdout.splitlines() if "|" in line]

    path = '/tmp/it\'s (my) "$HOME", photos'
    flags = "python|-m|commands.own|--clusters=3|--size=|--hours=0.5|--|"
    assert make(f"IMAGES={path}", "CLUSTERS=3", "HOURS=0.5") == [f"{flags}{path}", "dvc|repro"]
    assert make() == ["dvc|repro"]
