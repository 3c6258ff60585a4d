"""The live view: what a training writes of itself while it runs, and that DVC reads it beside the training."""

import csv
import json
import os
import signal
import subprocess
import time

import pytest
from project import environment, make_project, run, run_stage, set_params

from stages.plumbing import live

TERMS = {"lr": 0.1, "loss": 2.0}


def history(epochs, terms=TERMS):
    return [{"epoch": epoch, **terms} for epoch in range(1, epochs + 1)]


def rows(path):
    """The rows of a table with tabs."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the live view is written, which is not there yet."""
    monkeypatch.setenv("LIVE", str(tmp_path / "live"))
    return tmp_path / "live"


def test_a_file_for_every_term_and_a_row_for_every_epoch(folder):
    epochs = [{"epoch": 1, "lr": 0.1, "loss": 1 / 3}, {"epoch": 2, "lr": 0.05, "loss": -12.5}]
    live.record("scan, heads", epochs[:1])
    live.record("scan, heads", epochs)
    assert sorted(path.name for path in (folder / "plots/scan-heads").iterdir()) == ["loss.tsv", "lr.tsv"]
    assert (folder / "plots/scan-heads/loss.tsv").read_text() == "step\tloss\n1\t0.333333\n2\t-12.5\n"


def test_a_term_that_an_epoch_lacks_has_no_row_there(folder):
    live.record("selflabel", [{"epoch": 1, "confident": 0.0}, {"epoch": 2, "confident": 0.1, "loss": 1.0}])
    assert rows(folder / "plots/selflabel/loss.tsv") == [{"step": "2", "loss": "1"}]
    assert len(rows(folder / "plots/selflabel/confident.tsv")) == 2


def test_a_new_training_replaces_the_older_one_of_its_phase_only(folder):
    for phase in ("pretext", "scan"):
        for epochs in range(1, 6):
            live.record(phase, history(epochs, TERMS | {"accuracy": 0.5}))
    live.record("pretext", history(1))
    live.record("pretext", history(2))
    assert sorted(path.name for path in (folder / "plots/pretext").iterdir()) == ["loss.tsv", "lr.tsv"]
    assert len(rows(folder / "plots/pretext/loss.tsv")) == 2
    assert len(rows(folder / "plots/scan/accuracy.tsv")) == 5


def test_a_training_that_goes_on_elsewhere_writes_its_whole_history(folder):
    live.record("pretext", history(4))
    assert [row["step"] for row in rows(folder / "plots/pretext/loss.tsv")] == ["1", "2", "3", "4"]


def test_seconds_of_every_stage_add_up_to_one_file(folder):
    assert live.seconds_by_stage() == {}
    live.took("embed", 2.04)
    live.took("mine", 1.0)
    live.took("embed", 3.96)
    assert live.seconds_by_stage() == {"embed": 4.0, "mine": 1.0}


@pytest.mark.parametrize("broken", [b"", b'{"embed": 1', b"\xff\xfe"])
def test_broken_seconds_count_as_none_and_are_replaced(folder, broken):
    folder.mkdir()
    (folder / "seconds.json").write_bytes(broken)
    assert live.seconds_by_stage() == {}
    live.took("embed", 2.0)
    assert live.seconds_by_stage() == {"embed": 2.0}


SECOND = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize("variables", [{"LIVE": ""}, SECOND])
def test_nothing_is_written_where_it_is_off_or_another_process_does(tmp_path, monkeypatch, variables):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIVE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    live.record("pretext", history(1))
    live.took("pretext", 1.0)
    assert live.seconds_by_stage() == {}
    assert not list(tmp_path.iterdir())
    for name in variables:
        monkeypatch.delenv(name)
    live.record("pretext", history(1))
    assert (tmp_path / "dvclive/plots/pretext/loss.tsv").exists()  # the default, so the silence above was a choice


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project with the digits in it and a pretext that takes a second for each of its epochs, or less."""
    project = make_project(tmp_path_factory.mktemp("live") / "project")
    set_params(project, {"data": {"limit": 400}, "pretext": {"backbone": "tiny", "epochs": 6, "batch_size": 100}})
    run("git", "add", "--all", cwd=project)
    run("git", "commit", "--quiet", "--message", "live", cwd=project)
    run_stage(project, "download")
    return project


def losses(project):
    """The loss of every epoch so far, as `dvc plots diff` has it beside the training."""
    found = json.loads(run("dvc", "plots", "diff", "HEAD", "--json", "--out", "../plots", cwd=project).stdout)["data"]
    plot = found["dvclive/plots/pretext/loss.tsv"][0]
    assert plot["revisions"] == ["workspace"]
    content = plot["content"] if isinstance(plot["content"], dict) else json.loads(plot["content"])
    assert content["encoding"]["x"]["field"] == "step"
    return [(row["step"], row["loss"]) for row in content["data"]["values"]]


def test_dvc_plots_a_training_while_it_runs_and_git_sees_nothing_of_it(project):
    term = project / "dvclive/plots/pretext/loss.tsv"
    before = run("git", "status", "--porcelain", cwd=project).stdout
    training = subprocess.Popen(
        ["python", "-m", "stages.pretext", "--images", "data/images", "--out", "data/pretext"],
        cwd=project,
        env=environment(LIVE="dvclive"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seen = []
    try:
        for epochs in (1, 3):
            until(lambda epochs=epochs: term.exists() and len(rows(term)) >= epochs, training)
            # It waits while DVC looks, so that a slow DVC does not find it at its end.
            os.kill(training.pid, signal.SIGSTOP)
            seen.append(losses(project))
            os.kill(training.pid, signal.SIGCONT)
        assert training.wait(timeout=120) == 0
    finally:
        training.kill()
        training.wait()
    seen.append(losses(project))

    first, second, last = seen
    assert 1 <= len(first) < len(second) < len(last) == 6
    assert second[: len(first)] == first
    assert last[: len(second)] == second
    with open(project / "data/pretext/history.csv", newline="") as file:
        assert last == [(row["epoch"], row["loss"]) for row in csv.DictReader(file)]
    assert set(json.loads((project / "dvclive/seconds.json").read_text())) == {"pretext"}
    assert run("git", "status", "--porcelain", cwd=project).stdout == before == ""

    # A shorter training in the same place leaves nothing of the longer one; off, nothing changes at all.
    set_params(project, {"pretext": {"epochs": 2}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVE", str(project / "dvclive"))
        run_stage(project, "pretext")
        assert len(rows(term)) == 2
        patch.setenv("LIVE", "")
        set_params(project, {"pretext": {"epochs": 1}})
        run_stage(project, "pretext")
        assert len(rows(term)) == 2


def until(condition, process):
    """Wait for something that a process is to bring about."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"it ended with {process.returncode} before"
        assert time.monotonic() < deadline
        time.sleep(0.02)
