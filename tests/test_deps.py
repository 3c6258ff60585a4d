"""The command that writes the code among the deps of dvc.yaml."""

import pytest

from commands import deps

PIPELINE = """\
# A comment that stays.
stages:
  cook:
    cmd: python -m stages.cook
    deps:
      - stages/gone.py
      - data/raw
    outs:
      - data/meal

  eat:
    cmd: python -m stages.eat
    deps:
      - data/meal
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two stages: one uses all of a room, the other one a file of it."""
    files = {
        "dvc.yaml": PIPELINE,
        "baselines/dvc.yaml": "stages: {}\n",
        ".dvcignore": "__pycache__\n*~\n",
        "stages/__init__.py": "",
        "stages/cook.py": "from stages.kitchen import knife, pot\n",
        "stages/eat.py": "import json\n\nfrom stages.kitchen.knife import cut\n",
        "stages/kitchen/__init__.py": "",
        "stages/kitchen/knife.py": "def cut(): pass\n",
        "stages/kitchen/pot.py": "from pathlib import Path\n\nRECIPE = Path(__file__).with_name('recipe.txt')\n",
        "stages/kitchen/recipe.txt": "soup\n",
        "stages/kitchen/pot.py~": "an editor's copy\n",
        "stages/kitchen/__pycache__/pot.cpython-311.pyc": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(project, monkeypatch, capsys):
    """`python -m commands.deps` in the project; returns what it prints, or the line with which it ends."""

    def run(*flags: str) -> str:
        monkeypatch.setattr("sys.argv", ["deps", *flags])
        try:
            deps.main()
        except SystemExit as end:
            return end.code
        return capsys.readouterr().out.strip()

    return run


def listed(project, stage):
    return deps.YAML(typ="safe").load((project / "dvc.yaml").read_text())["stages"][stage]["deps"]


def test_a_folder_stands_for_its_files_and_data_stay(project, command):
    assert command() == "deps: dvc.yaml written"
    assert listed(project, "cook") == ["stages/cook.py", "stages/kitchen", "data/raw"]
    assert listed(project, "eat") == ["stages/eat.py", "stages/kitchen/knife.py", "data/meal"]
    assert (project / "dvc.yaml").read_text().startswith("# A comment that stays.\n")
    assert command() == "deps: nothing to change"


def test_a_file_that_nobody_uses_keeps_the_folder_out(project, command):
    (project / "stages/kitchen/spoon.py").write_text("")
    command()
    files = [f"stages/kitchen/{name}" for name in ("knife.py", "pot.py", "recipe.txt")]
    assert listed(project, "cook") == ["stages/cook.py", *files, "data/raw"]


def test_check_changes_nothing_and_says_what_to_run(project, command):
    assert command("--check").endswith("run python -m commands.deps")
    assert (project / "dvc.yaml").read_text() == PIPELINE
    command()
    assert command("--check") == "deps: nothing to change"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("stages/cook.py", "from stages.kitchen", "from .kitchen", "a relative import"),
        ("dvc.yaml", "python -m stages.eat", "python stages/eat.py", "the cmd of eat is python stages/eat.py"),
    ],
)
def test_what_hides_imports_is_refused(project, command, file, old, new, said):
    path = project / file
    path.write_text(path.read_text().replace(old, new))
    before = (project / "dvc.yaml").read_text()
    assert said in command()
    assert (project / "dvc.yaml").read_text() == before
