"""The first minutes: what make offers and hands on, which Pythons it takes, and what is installed."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

from install import ABOUT, NEWEST, OLDEST, dotted, pinned

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE).group(1).split()
RUN, TEST = "requirements.txt", "requirements-test.txt"
FILES = ["Makefile", "install.py", RUN, TEST]
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words, cwd=ROOT, **env):
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *words], cwd=cwd, env=outside | env, capture_output=True, text=True)


@pytest.fixture
def clone(tmp_path) -> Path:
    """What make needs of a fresh clone, at a path that a shell could misread."""
    folder = tmp_path / 'it\'s a "clone" $HOME'
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def installed(clone: Path, dvc: str = "exit 0") -> Path:
    """The clone, after an installation of a dvc that does the given."""
    script(clone / ".venv/bin/dvc", dvc)
    script(clone / ".venv/bin/python", "exit 0")
    for stamp in ("installed", "installed-tests"):
        (clone / ".venv" / stamp).touch()
    return clone


def fake_python(path: Path, change: str) -> Path:
    """This Python, but for what a line of code changes before it runs a file."""
    code = f"import runpy, sys; {change}; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    return script(path, f'exec "{sys.executable}" -c "{code}" "$@"')


# ------------------------------------------------------------------------------------------------------------ targets


@needs_make
def test_make_alone_lists_every_target():
    lines = make().stdout.splitlines()
    listed = {line.split()[1] for line in lines if line.startswith("make ")}
    assert listed == set(TARGETS) - {"help"}
    assert lines == make("help").stdout.splitlines()


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_targets_install_what_they_need_and_no_more(clone, target):
    plan = make("-n", target, cwd=clone)
    assert plan.returncode == 0, plan.stderr
    tested = ("test", "lint", "format", "proofs", "pictures")
    wanted = [] if target == "help" else [RUN, TEST] if target in tested else [RUN]
    assert re.findall(r"install\.py (\S+)", plan.stdout) == wanted
    assert "install.py" not in make("-n", target, cwd=installed(clone)).stdout


@needs_make
def test_a_run_begins_and_ends_with_where_the_page_is(clone):
    run = make("repro", cwd=installed(clone))
    page = str(clone / "reports/index.html")
    first, *_, done, pictures = run.stdout.splitlines()
    assert run.returncode == 0
    assert first.startswith("Nine stages")
    assert first.endswith(page)
    assert done.startswith("Done")
    assert done.endswith(page)
    assert "make predict" in pictures


@needs_make
def test_new_pictures_and_the_model_need_no_names_of_modules(clone):
    plans = [make("-n", *words, cwd=installed(clone)) for words in (["predict", "IMAGES=my new ones"], ["export"])]
    predict, export = (plan.stdout.splitlines()[-1] for plan in plans)
    assert predict == '.venv/bin/python -m commands.predict --images "$IMAGES" --out "${OUT:-predictions.csv}"'
    assert export == '.venv/bin/python -m commands.export ${OUT:+--out "$OUT"}'
    without = make("predict", cwd=installed(clone))
    assert without.returncode
    assert "make predict IMAGES=" in without.stdout


@needs_make
@pytest.mark.parametrize("words", [[], ["IMAGES=pictures"]])
def test_without_git_a_run_says_so_at_its_start(clone, words):
    shutil.rmtree(clone / ".git")
    run = make("repro", *words, cwd=installed(clone), GIT_CEILING_DIRECTORIES=str(clone.parent))
    assert run.returncode
    assert run.stdout.startswith("This is not a git checkout")
    assert "git init" in run.stdout
    assert "Nine stages" not in run.stdout


@needs_make
@pytest.mark.parametrize("words", [[], ["IMAGES=pictures"]])
def test_a_failed_run_fails_and_is_not_done(clone, words):
    run = make("repro", *words, cwd=installed(clone, dvc="exit 255"))
    assert run.returncode
    assert "Error 255" in run.stderr
    assert "Done" not in run.stdout


def test_the_readme_tells_the_same_time():
    time = re.search(r"^TIME := about (\d+ minutes)", MAKEFILE, re.MULTILINE).group(1)
    assert f"without a label: {time} on two CPU cores" in (ROOT / "README.md").read_text()


# -------------------------------------------------------------------------------------------------------- installation


@needs_make
@pytest.mark.parametrize("version", [(3, 10, 13), (2, 7, 18), (NEWEST[0], NEWEST[1] + 1, 0)])
def test_another_python_is_refused_in_one_line(clone, tmp_path, version):
    fake_python(tmp_path / "bin/python3", f"sys.version_info = {version}")
    run = make("repro", cwd=clone, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    line, after = run.stderr.splitlines()
    assert line.startswith(f"Python {dotted(OLDEST)} to {dotted(NEWEST)} is needed; this is {dotted(version)}.")
    assert after.startswith("make: ***")
    assert not (clone / ".venv").exists()


@needs_make
def test_the_python_that_is_named_is_taken(clone, tmp_path):
    python = fake_python(tmp_path / "python3.9", "sys.version_info = (3, 9, 1)")
    assert "this is 3.9.1." in make("repro", f"PYTHON={python}", cwd=clone).stderr
    assert "no-such-python is not to be found" in make("repro", "PYTHON=no-such-python", cwd=clone).stdout


@needs_make
def test_an_installation_that_broke_off_is_done_again(clone, tmp_path):
    fails_once = 'case "$*" in *requirements.txt) [ -e "$0.again" ] || { touch "$0.again"; exit 1; };; esac'
    pip = script(tmp_path / "pip", fails_once)
    venv = script(tmp_path / "venv", f'mkdir -p .venv/bin; [ -e .venv/bin/python ] || cp "{pip}" .venv/bin/python')
    python = fake_python(tmp_path / "python3", f"sys.executable = '{venv}'")
    words = (".venv/installed", f"PYTHON={python}")
    broken = make(*words, cwd=clone)
    assert broken.returncode
    assert "Installing failed" in broken.stderr
    assert "GB are free here" in broken.stderr
    assert not (clone / ".venv/installed").exists()
    again = make(*words, cwd=clone)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("Installing into .venv: PyTorch, DVC, faiss and ")
    assert "up to date" in make(*words, cwd=clone).stdout


# -------------------------------------------------------------------------------------------------------- requirements


def requirements(name: str) -> dict[str, str]:
    """Package → version of the lines that pin one; an extra is not part of a name."""
    lines = [
        line for line in (ROOT / name).read_text().splitlines() if line and line[0] not in "#-" and " @ " not in line
    ]
    found = [re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", line) for line in lines]
    assert all(found), f"{name} holds a line that pins nothing: {lines[found.index(None)]}"
    assert len({match[1] for match in found}) == len(lines) == pinned(ROOT / name)
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in found}


def imported(*patterns: str) -> dict[str, str]:
    """Module → a file that imports it, of what is neither Python's own nor this project's."""
    own = {path.stem for path in [*ROOT.iterdir(), *ROOT.glob("tests/*.py")]}
    modules = {}
    for path in [path for pattern in patterns for path in ROOT.glob(pattern)]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            modules |= {name.split(".")[0]: str(path.relative_to(ROOT)) for name in names}
    return {name: path for name, path in modules.items() if name not in {*sys.stdlib_module_names, *own}}


def missing(modules: dict[str, str], packages: dict[str, str]) -> list[str]:
    """The modules that come with none of the packages themselves, each with a file that imports it."""
    origin = importlib.metadata.packages_distributions()
    named = {name: {re.sub(r"[-_.]+", "-", package).lower() for package in origin[name]} for name in modules}
    return [f"{name} in {path}" for name, path in modules.items() if not named[name] & set(packages)]


def test_both_files_pin_and_share_no_package():
    assert not set(requirements(RUN)) & set(requirements(TEST))
    assert "-r requirements.txt" in (ROOT / TEST).read_text().splitlines()
    assert set(ABOUT) == {RUN, TEST}


def test_the_page_on_sharing_names_the_tested_packages_for_remotes():
    named = dict(re.findall(r"(dvc-\w+)==([\w.]+)", (ROOT / "docs/experiments.md").read_text()))
    assert set(named) == {"dvc-s3", "dvc-ssh"}
    assert named.items() <= requirements(TEST).items()


def test_what_runs_imports_what_is_pinned_for_a_run():
    modules = imported("*.py", *(f"{path.parent.name}/**/*.py" for path in ROOT.glob("*/__init__.py")))
    assert {"torch", "faiss", "onnxruntime"} <= set(modules)
    assert not missing(modules, requirements(RUN))


def test_tests_import_what_is_pinned_in_either_file():
    modules = imported("tests/*.py")
    assert "pytest" in modules
    assert not missing(modules, requirements(RUN) | requirements(TEST))


def test_pip_stops_under_the_same_pythons_as_make():
    line = next(line for line in (ROOT / RUN).read_text().splitlines() if " @ " in line)
    after = (NEWEST[0], NEWEST[1] + 1)
    assert line.endswith(f'; python_version < "{dotted(OLDEST)}" or python_version >= "{dotted(after)}"')
    assert f"python-{dotted(OLDEST)}-to-{dotted(NEWEST)}-is-needed @" in line
