"""What tests of the whole project share: a temporary copy of it on the digits, and DVC run in it for real."""

import atexit
import importlib
import inspect
import io
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
import yaml

from presets import overlay as presets
from stages.plumbing.params import read

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = ["download", "pretext", "embed", "mine", "kmeans", "scan", "selflabel", "evaluate", "report"]

# Small enough for a run of all nine stages in seconds. No stage is skipped and nothing is replaced.
TINY = {
    "data": {"name": "digits"},
    "pretext": {"epochs": 2, "batch_size": 128, "projection_dim": 16},
    "scan": {"heads": 3, "consensus": 2, "head_epochs": 3, "epochs": 2, "batch_size": 128, "entropy_weight": 4.0},
    "selflabel": {"threshold": 0.3, "epochs": 2, "batch_size": 200},
    "mine": {"k": 10},
}


@cache
def head() -> Path:
    """A clone of the project as it is committed: that is under test, and not what a run left in the tree."""
    folder = Path(tempfile.mkdtemp(prefix="head-")) / "project"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--no-local", "--depth", "1", ROOT, folder], check=True)
    return folder


@cache
def params_text() -> str:
    """The committed params.yaml, whatever a run or a folder of one's own made of it in the tree.

    Keys that somebody has added or removed but not yet committed are as in the tree: the schemas there want them so.
    """
    committed = (head() / "params.yaml").read_text()
    old, new = yaml.safe_load(committed), presets.load(ROOT / "params.yaml")
    if keys(old) == keys(new):
        return committed
    presets.overlay(new, {block: common(values, new[block]) for block, values in old.items() if block in new})
    buffer = io.StringIO()
    presets.dump(new, buffer)
    return buffer.getvalue()


def keys(params: dict) -> set[tuple[str, ...]]:
    """The names of blocks and of keys in them."""
    return {(block, key) for block, values in params.items() for key in (values if isinstance(values, dict) else [""])}


def common(values: object, known: dict) -> object:
    """The values of a block whose keys are known."""
    return {key: of for key, of in values.items() if key in known} if isinstance(values, dict) else values


def environment(**more: str) -> dict[str, str]:
    """The environment of a project's commands: this interpreter's folder first on the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1", **more}


def run(*command: str, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess:
    """Run a command in a project; its output is text. With `check`, a failure shows what it printed."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment(**env), timeout=300)
    if check and result.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result


def ran_stages(output: str) -> list[str]:
    """The stages that `dvc repro` or `dvc exp run` says it ran, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def make_project(folder: Path) -> Path:
    """A copy of the project in its own git repository, without data, with the tiny params; nothing has run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stages", "commands", "baselines"):
        ignored = shutil.ignore_patterns("__pycache__", "*.yaml", "*.lock")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    exhibit = folder / "stages/page/exhibit.py"  # t-SNE of all digits would take longer than the other stages
    exhibit.write_text(exhibit.read_text().replace("POINTS = 1500 ", "POINTS = 150 "))
    files = [
        "dvc.yaml",
        "baselines/dvc.yaml",
        "dvclive/dvc.yaml",
        "dvclive/plots/.gitignore",
        ".dvcignore",
        ".gitignore",
        ".gitattributes",
        ".dvc/config",
        ".dvc/.gitignore",
    ]
    for name in [*files, "data/.gitignore", "reports/.gitignore"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(head() / "names.yaml", folder)
    (folder / "params.yaml").write_text(params_text())
    set_params(folder, TINY)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    run("git", "config", "user.name", "test", cwd=folder)
    run("git", "config", "user.email", "test@example.org", cwd=folder)
    commit(folder, "start")
    return folder


def set_params(folder: Path, changes: dict) -> None:
    """Change keys of the project's params.yaml, block by block."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for block, values in changes.items():
        if isinstance(values, dict):
            params[block].update(values)
        else:
            params[block] = values
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def commit(folder: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--message", message, cwd=folder)


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    """The bytes of every file below the named folders."""
    files = (path for name in names for path in sorted((folder / name).rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def signature(module: str) -> dict[str, Path]:
    """The paths in the signature of a module's stage, by the parameters' names."""
    stage = getattr(importlib.import_module(module), module.rpartition(".")[2])
    parameters = inspect.signature(stage).parameters.items()
    return {name: parameter.default for name, parameter in parameters if isinstance(parameter.default, Path)}


def default_paths(module: str) -> list[str]:
    """The same as texts, but for the folder of the checkpoints, which is neither input nor output."""
    return [path.as_posix() for name, path in signature(module).items() if name != "checkpoints"]


def run_stage(folder: Path, name: str) -> None:
    """The function of a stage with its default paths, below a project's folder, in this process: it starts at once."""
    module = importlib.import_module(f"stages.{name}")
    paths = {name: folder / path for name, path in signature(f"stages.{name}").items()}
    for path in paths.values():
        path.parent.mkdir(exist_ok=True)
    torch.set_num_threads(1)  # as in `environment`: tests run side by side
    getattr(module, name)(params=read(module.Params, folder / "params.yaml"), **paths)
