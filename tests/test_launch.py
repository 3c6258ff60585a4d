"""torchrun's variables: whole and sound, or one line of error; leftovers never make a stage work for nothing."""

import pytest
from project import make_project, run

from stages.plumbing.errors import UserError
from stages.plumbing.launch import Launch, launch

WHOLE = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def _nobody_started_us(monkeypatch):
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_alone_and_among_others(monkeypatch):
    assert launch() == Launch(rank=0, local_rank=0, count=1)
    set_all(monkeypatch, {"MASTER_ADDR": "localhost", "RANK": ""})  # say nothing by themselves, or nothing at all
    assert launch() == Launch(0, 0, 1)
    set_all(monkeypatch, WHOLE)
    assert launch() == Launch(1, 1, 2)


@pytest.mark.parametrize(
    "left", [["RANK"], ["WORLD_SIZE"], ["LOCAL_RANK"], ["RANK", "WORLD_SIZE"], ["RANK", "LOCAL_RANK", "WORLD_SIZE"]]
)
def test_what_is_left_over_is_named_with_what_is_missing(monkeypatch, left):
    set_all(monkeypatch, {name: WHOLE[name] for name in left})
    with pytest.raises(UserError, match="unset RANK LOCAL_RANK WORLD_SIZE") as error:
        launch()
    shown, missing = str(error.value).split(" but no ")
    assert all(f"{name}={WHOLE[name]}" in shown for name in left)
    assert all(name in missing for name in WHOLE if name not in left)


@pytest.mark.parametrize(
    "wrong",
    [
        {"RANK": "2"},
        {"RANK": "-1"},
        {"RANK": "one"},
        {"WORLD_SIZE": "0"},
        {"LOCAL_RANK": "7"},
        {"RANK": "²"},
        {"WORLD_SIZE": "1.5"},
    ],
)
def test_what_is_not_sound_is_refused(monkeypatch, wrong):
    set_all(monkeypatch, WHOLE | wrong)
    with pytest.raises(UserError, match="expected whole numbers, the ranks below WORLD_SIZE"):
        launch()


@pytest.mark.parametrize("stage", ["download", "pretext", "mine"])
@pytest.mark.parametrize("left", [{"RANK": "1"}, {"WORLD_SIZE": "2"}, {"LOCAL_RANK": "3"}])
def test_no_stage_ends_well_and_writes_nothing(tmp_path_factory, stage, left):
    project = tmp_path_factory.getbasetemp() / "left-over"
    if not project.exists():
        make_project(project)
    words = {
        "download": ["--images", "data/images", "--labels", "data/labels"],
        "pretext": ["--images", "data/images", "--out", "data/pretext"],
        "mine": ["--images", "data/images", "--embeddings", "data/embeddings", "--out", "data/neighbors"],
    }[stage]
    done = run("python", "-m", f"stages.{stage}", *words, cwd=project, check=False, **left)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{stage}: the environment has {next(iter(left))}=")
    assert not (project / "data/images").exists()
