"""commands.slices: the pipeline without DVC, stopped and continued, and never done by mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from project import contents, environment, make_project, run, set_params
from toy import make_toy


@pytest.fixture
def blocked(tmp_path):
    """A folder on the path that makes every import of DVC and of what comes with it fail."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys\nfor name in ('dvc', 'ruamel'): sys.modules[name] = None\n")
    return str(folder)


def slices(project, blocked, *arguments, check=True, **env):
    command = [sys.executable, "-m", "commands.slices", *arguments]
    return run(*command, cwd=project, check=check, PYTHONPATH=blocked, **env)


def worked(result):
    """The stages that were at work."""
    return [line.split(":")[0] for line in result.stdout.splitlines() if ": python toy.py " in line]


def test_a_run_in_slices_ends_in_the_bytes_of_one_in_a_piece(tmp_path, blocked):
    whole = make_project(tmp_path / "whole")
    set_params(whole, {"pretext": {"epochs": 32, "backbone": "tiny"}})
    slices(whole, blocked, "--until", "download")
    sliced = shutil.copytree(whole, tmp_path / "sliced")
    slices(whole, blocked, "--until", "pretext")

    first = slices(sliced, blocked, "--until", "pretext", "--minutes", "0.05", check=False)
    assert first.returncode == 75, first.stderr
    assert "stopped in pretext, 1 of 2 stages done" in first.stdout
    assert "download: done" in first.stdout
    # How far a slice gets in its time is up to the machine. So the second is killed as soon as it has epochs.
    command = [sys.executable, "-m", "commands.slices", "--until", "pretext", "--minutes", "5"]
    second = subprocess.Popen(command, cwd=sliced, env=environment(PYTHONPATH=blocked), start_new_session=True)
    while not list(sliced.glob(".ckpt/pretext-*/pretext.pt")):
        assert second.poll() is None, "the slice was over before it could be ended"
        time.sleep(0.01)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    last = slices(sliced, blocked, "--until", "pretext")
    assert "pretext: continuing after epoch" in last.stdout
    assert contents(sliced, "data/pretext") == contents(whole, "data/pretext")
    assert not list((sliced / ".ckpt").glob("*-*"))


def test_only_what_a_change_concerns_runs_again(tmp_path, blocked):
    project = make_toy(tmp_path / "project")
    everything = ["download", "pretext", "evaluate", "report"]
    changed = yaml.safe_load((project / "params.yaml").read_text())
    changed["data"]["name"] = "digits"
    (project / "params.yaml").write_text(yaml.safe_dump(changed))

    assert slices(project, blocked, "--minutes", "0", check=False).returncode == 75
    assert worked(slices(project, blocked, "--until", "pretext")) == everything[:2]
    assert not (project / "reports/runs").exists()
    assert worked(slices(project, blocked)) == everything[2:]
    result = json.loads((project / "reports/runs/digits.json").read_text())
    assert result["protocol"] == changed
    assert result["metrics"] == json.loads((project / "reports/metrics.json").read_text())
    assert list(result["seconds"]) == everything
    assert {"device", "torch"} <= set(result)
    assert worked(slices(project, blocked)) == []

    (project / "parts/evaluate.py").write_text("# edited\n")
    assert worked(slices(project, blocked)) == ["evaluate"], "its output is the same to the byte, so nothing follows"
    changed["pretext"]["epochs"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(changed))
    assert worked(slices(project, blocked, "--until", "pretext")) == ["pretext"]
    (project / "data/pretext").write_text("something else")
    assert worked(slices(project, blocked, "--until", "pretext")) == ["pretext"], (
        "an output that was changed is made again"
    )

    changed["seed"] = 1
    (project / "other.yaml").write_text(yaml.safe_dump(changed))
    other = slices(project, blocked, "--params", "other.yaml", "--name", "other", "--baselines")
    assert worked(other) == [*everything, "pixels"], "other params, another command"
    result = json.loads((project / "reports/runs/other.json").read_text())
    assert result["protocol"]["seed"] == 1
    assert result["baselines"] == {"pixels": json.loads((project / "reports/baselines/pixels.json").read_text())}


def test_a_stage_that_fails_ends_the_slice(tmp_path, blocked):
    project = make_toy(tmp_path / "project")
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("fashion-mnist  ", "digits  "))
    result = slices(project, blocked, check=False, BROKEN="pretext 0")
    assert result.returncode == 1
    assert "pretext failed with exit code 1" in result.stderr
    assert worked(slices(project, blocked, "--until", "evaluate")) == ["pretext", "evaluate"]
    assert slices(project, blocked, "--until", "scam", check=False).returncode == 2
