"""Stages as commands: flags, errors in one line, outputs whole or not at all, and an end together with DVC."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.plumbing import command, outputs
from stages.plumbing.errors import UserError
from stages.plumbing.params import Block

ROOT = Path(__file__).parents[1]


class Params(Block):
    """What the stages of these tests read."""

    loud: bool


def start(monkeypatch, stage, *flags: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["stage", *map(str, flags)])
    command.run(stage)


def refuse(**_: Path) -> None:
    raise AssertionError("the stage ran")


# ------------------------------------------------------------------------------------------------------------- flags


def test_flags_come_from_the_signature(tmp_path, monkeypatch):
    seen = {}

    def stage(first_input: Path, out: Path, params: Params, again: Path | None = None) -> None:
        seen.update(locals())

    (tmp_path / "mine.yaml").write_text("loud: true\n")
    start(monkeypatch, stage, "--first-input", "a", "--out", "b/c", "--params", tmp_path / "mine.yaml")
    assert (seen["first_input"], seen["out"], seen["again"]) == (Path("a"), Path("b/c"), None)
    assert seen["params"] == Params(loud=True)
    start(monkeypatch, stage, "--first-input=a", "--out=b", "--again=d", "--params", tmp_path / "mine.yaml")
    assert seen["again"] == Path("d")


def test_params_are_those_of_the_folder_one_is_in(tmp_path, monkeypatch):
    seen = {}

    def stage(params: Params) -> None:
        seen.update(locals())

    (tmp_path / "params.yaml").write_text("loud: false\n")
    monkeypatch.chdir(tmp_path)
    start(monkeypatch, stage)
    assert seen["params"].loud is False


@pytest.mark.parametrize(
    ("flags", "message"), [(["--out", "b"], "--source"), (["--source", "a", "--out", "b", "--typo", "c"], "--typo")]
)
def test_wrong_flags_start_nothing(monkeypatch, capsys, flags, message):
    def stage(source: Path, out: Path) -> None:
        refuse()

    with pytest.raises(SystemExit) as stop:
        start(monkeypatch, stage, *flags)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_is_the_docstring(monkeypatch, capsys):
    def stage(source: Path) -> None:
        """Turn 100 % of the source to gold."""
        refuse()

    with pytest.raises(SystemExit) as stop:
        start(monkeypatch, stage, "--help")
    assert stop.value.code == 0
    assert "Turn 100 % of the source to gold." in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------ errors

STAGE = """
import sys, time
from pathlib import Path
from stages.plumbing import command, outputs
from stages.plumbing.errors import UserError

def stage(out: Path, source: Path = None):
    with outputs.output_folder(out) as folder:
        (folder / "half").write_text("done")
        print("ready", flush=True)
        {body}

command.run(stage)
"""


@pytest.fixture
def script(tmp_path):
    """A stage as a file of its own that writes half of its output, says so, and goes on with `body`."""

    def write(body: str) -> list[str]:
        (tmp_path / "stage.py").write_text(STAGE.format(body=body))
        return [sys.executable, str(tmp_path / "stage.py"), "--out", str(tmp_path / "out")]

    return write


@pytest.fixture
def environment():
    """The environment to run such a file in: this project can be imported, and DVC is not around."""
    return {name: value for name, value in os.environ.items() if name != "DVC_STAGE"} | {"PYTHONPATH": str(ROOT)}


def test_a_user_error_is_one_line(script, environment, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "earlier").write_text("good")
    done = subprocess.run(
        script("raise UserError('data.path = x: not there; mend it')"), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "stage: data.path = x: not there; mend it\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "stage.py"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["earlier"]


def test_a_fault_of_ours_shows_where_it_is(monkeypatch):
    def stage() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        start(monkeypatch, stage)


def test_a_missing_input_names_itself_and_the_way_out(tmp_path, monkeypatch):
    def stage(source: Path) -> None:
        (source / "train.npy").read_bytes()

    with pytest.raises(SystemExit) as stop:
        start(monkeypatch, stage, "--source", tmp_path)
    assert stop.value.code.startswith(f"stage: {tmp_path / 'train.npy'}: no such file")
    assert "dvc repro" in stop.value.code


def test_a_wrong_params_file_starts_nothing(tmp_path, monkeypatch):
    def stage(params: Params) -> None:
        refuse()

    (tmp_path / "params.yaml").write_text("loud: 3\n")
    with pytest.raises(SystemExit) as stop:
        start(monkeypatch, stage, "--params", tmp_path / "params.yaml")
    assert "loud = 3" in stop.value.code


def test_interrupted_from_the_keyboard(script, environment, tmp_path):
    with subprocess.Popen(
        script("time.sleep(120)"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background hands down that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert errors.startswith("stage: interrupted;")
    assert len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["stage.py"]


# ----------------------------------------------------------------------------------------------------------- outputs


def test_an_output_folder_replaces_what_was_there(tmp_path):
    for content in ("first", "second"):
        with outputs.output_folder(tmp_path / "deep" / "out") as folder:
            (folder / content).write_text(content)
            assert not (tmp_path / "deep" / "out" / content).exists()
        assert [path.name for path in (tmp_path / "deep" / "out").iterdir()] == [content]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_output_file_replaces_what_was_there(tmp_path):
    for content in ("first", "second"):
        with outputs.output_file(tmp_path / "deep" / "out.csv") as file:
            file.write_text(content)
        assert (tmp_path / "deep" / "out.csv").read_text() == content
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.csv"]


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_failure_leaves_what_was_there(tmp_path, error, earlier):
    if earlier:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "old").write_text("old")
        (tmp_path / "out.csv").write_text("old")
    before = sorted(tmp_path.rglob("*"))

    def fail_midway(output) -> None:
        with output as partial:
            (partial / "new" if partial.is_dir() else partial).write_text("half")
            raise error

    for output in (outputs.output_folder(tmp_path / "out"), outputs.output_file(tmp_path / "out.csv")):
        with pytest.raises(error):
            fail_midway(output)
    assert sorted(tmp_path.rglob("*")) == before
    assert not earlier or (tmp_path / "out.csv").read_text() == "old"


def test_what_a_killed_run_left_is_cleared(script, environment, tmp_path):
    with subprocess.Popen(script("time.sleep(120)"), env=environment, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
    assert (tmp_path / "out.partial" / "half").exists(), "otherwise this tests nothing"
    assert not (tmp_path / "out").exists()
    with outputs.output_folder(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
    assert not (tmp_path / "out.partial").exists()


# -------------------------------------------------------------------------------------------------- the end with DVC

PARENT = (
    "import subprocess, sys; subprocess.run(sys.argv[2:], stderr=subprocess.PIPE if sys.argv[1] == 'piped' else None)"
)


@contextlib.contextmanager
def orphan(stage: list[str], environment: dict[str, str], piped: bool = False):
    """The process id of a stage that has just lost its parent, which was killed without a chance to say so."""
    parent = [sys.executable, "-c", PARENT, "piped" if piped else "plain", *stage]
    with subprocess.Popen(parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            pid = int(process.stdout.readline())
            assert alive(pid)
            time.sleep(1)  # time to start watching, and to show that a living parent is seen as one
            assert alive(pid)
        finally:
            process.kill()
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended but was not reaped (no init in a container) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


@pytest.fixture
def watched(tmp_path):
    """A stage that tells its process id once it runs, and would go on for two minutes."""
    (tmp_path / "stage.py").write_text(
        "import os, time\n"
        "from stages.plumbing import command\n"
        "def stage():\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(120)\n"
        "command.run(stage)\n"
    )
    return [sys.executable, str(tmp_path / "stage.py")]


@pytest.mark.parametrize("piped", [False, True], ids=["plain", "stderr-gone-too"])
@pytest.mark.parametrize("shell", [False, True], ids=["direct", "through-a-shell"])
def test_under_dvc_a_stage_ends_with_its_parent(watched, environment, shell, piped):
    """DVC runs a stage's command by a shell; whether the shell stays in between depends on the shell."""
    stage = ["/bin/sh", "-c", '"$0" "$1"; exit $?', *watched] if shell else watched
    with orphan(stage, environment | {"DVC_STAGE": "stage"}, piped) as pid:
        assert ends(pid, within=60)


def test_under_dvc_a_stage_that_torchrun_started_ends_with_dvc(watched, environment):
    """torchrun stays between DVC and the stage, and would outlive DVC."""
    torchrun = [sys.executable, "-c", PARENT, "plain", *watched]
    with orphan(torchrun, environment | {"DVC_STAGE": "stage", "TORCHELASTIC_RUN_ID": "1"}) as pid:
        assert ends(pid, within=60)


def test_outside_dvc_a_stage_outlives_its_parent(watched, environment):
    with orphan(watched, environment) as pid:
        assert not ends(pid, within=1.5)
