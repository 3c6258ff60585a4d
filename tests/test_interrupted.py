"""Training that is killed without warning continues from its last finished epoch and ends in the same bytes."""

import os
import signal
import subprocess
import time

import pytest
import torch
from project import contents, environment, make_project, run, set_params

# Long enough to be killed in the middle, short enough for a test.
LONG = {
    "pretext": {"epochs": 12, "batch_size": 256},
    "scan": {"head_epochs": 5, "epochs": 12, "batch_size": 256},
    "selflabel": {"epochs": 12, "batch_size": 256, "ema": 0.9},
}
LAST_PHASE = {"pretext": "pretext", "scan": "scan, network", "selflabel": "selflabel"}


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """The same project twice: one runs undisturbed, the other is killed."""
    folder = tmp_path_factory.mktemp("interrupted")
    quiet, killed = (make_project(folder / name) for name in ("quiet", "killed"))
    for project in (quiet, killed):
        set_params(project, LONG)
    return quiet, killed


def children(process: int) -> list[int]:
    with open(f"/proc/{process}/task/{process}/children") as file:
        return [int(child) for child in file.read().split()]


def alive(process: int) -> bool:
    """Whether it runs; what nobody has waited for yet (a zombie) does not."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def epochs_saved(project, stage) -> int:
    for path in project.glob(f".ckpt/{stage}-*/{LAST_PHASE[stage]}.pt"):
        return len(torch.load(path, weights_only=True)["history"])
    return 0


# Killing DVC leaves the stage without a parent, killing the stage leaves DVC to report it: both happen.
@pytest.mark.parametrize(
    ("stage", "victim"),
    [
        ("pretext", "dvc"),
        pytest.param("scan", "stage", marks=pytest.mark.slow),
        pytest.param("selflabel", "dvc", marks=pytest.mark.slow),
    ],
)
def test_a_killed_stage_continues_and_ends_in_the_same_bytes(projects, stage, victim):
    quiet, killed = projects
    run("dvc", "repro", "--no-commit", stage, cwd=quiet)
    command = ["dvc", "repro", "--no-commit", stage]
    dvc = subprocess.Popen(command, cwd=killed, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: epochs_saved(killed, stage) >= 2 or dvc.poll() is not None)
    workers = children(dvc.pid)
    assert workers, f"the stage was over before it could be killed: {dvc.communicate()}"
    for process in [dvc.pid] if victim == "dvc" else workers:
        os.kill(process, signal.SIGKILL)
    dvc.communicate()
    wait_until(lambda: not any(alive(worker) for worker in workers), seconds=10)  # no orphan goes on in secret
    saved = epochs_saved(killed, stage)
    assert 2 <= saved < 12
    assert not (killed / "data" / stage).exists()

    output = run(*command, cwd=killed).stdout
    assert f"continuing after epoch {saved} of 12" in output
    assert contents(killed, f"data/{stage}") == contents(quiet, f"data/{stage}")


def test_a_checkpoint_of_other_params_is_left_alone(projects, tmp_path):
    _, killed = projects
    other = killed / ".ckpt" / "pretext-0000000000000000"
    other.mkdir(parents=True)
    (other / "pretext.pt").write_bytes(b"not even a checkpoint")
    output = run("dvc", "repro", "--no-commit", "--force", "--single-item", "pretext", cwd=killed).stdout
    assert "continuing" not in output
    assert (other / "pretext.pt").exists()
