"""Presets: each is valid, keeps comments, names only what differs, and never mixes with another."""

import itertools
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from project import ROOT, STAGES, make_project, params_text, run
from test_dag import schema

from presets.overlay import DEFAULT, dataset, names, read, settings

OTHERS = [name for name in names() if name != DEFAULT]
# Every line of docs/experiments.md that queues experiments, without its comment.
RECIPES = re.findall(r"^dvc exp run --queue [^#\n]*", (ROOT / "docs/experiments.md").read_text(), re.MULTILINE)


def apply(name, path, *more):
    command = [sys.executable, "-m", "presets", name, "--params", str(path), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def leaves(tree, where=""):
    for key, value in tree.items():
        yield from leaves(value, f"{where}{key}.") if isinstance(value, dict) else [(f"{where}{key}", value)]


@pytest.fixture
def params(tmp_path):
    """A copy of params.yaml that is committed to a repository of its own."""
    path = tmp_path / "params.yaml"
    path.write_text(params_text())
    run("git", "init", "--quiet", cwd=tmp_path)
    run("git", "add", "params.yaml", cwd=tmp_path)
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run("git", *author, "commit", "--quiet", "--message", "start", cwd=tmp_path)
    return path


@pytest.mark.parametrize("name", names())
def test_a_preset_gives_valid_params_and_keeps_every_comment(params, name):
    result = apply(name, params)
    assert result.returncode == 0, result.stderr
    content = yaml.safe_load(params.read_text())
    assert content["data"]["name"] == dataset(name) == name
    for stage in STAGES:
        schema(stage).model_validate({block: content[block] for block in schema(stage).model_fields})
    comments = [line.split("#", 1)[1] for line in params_text().splitlines() if "#" in line]
    assert [line.split("#", 1)[1] for line in params.read_text().splitlines() if "#" in line] == comments


@pytest.mark.parametrize("name", names())
def test_a_preset_names_only_what_differs_and_says_what_it_is(name):
    default = dict(leaves(yaml.safe_load(params_text())))
    assert not [key for key, value in leaves(read(name)) if default[key] == value]
    assert (ROOT / f"presets/{name}.yaml").read_text().startswith("# ")


def test_applying_twice_changes_nothing_more(params):
    apply("digits", params)
    once = params.read_bytes()
    assert "nothing to change" in apply("digits", params).stdout
    assert params.read_bytes() == once


def test_what_a_preset_does_not_name_stays(params):
    params.write_text(params.read_text().replace("knn: 20 ", "knn: 7 "))
    apply("digits", params)
    assert yaml.safe_load(params.read_text())["evaluate"]["knn"] == 7


def test_a_second_preset_is_refused_until_one_went_back(params):
    committed = params.read_bytes()
    apply("digits", params)
    before = params.read_bytes()
    result = apply("cifar10", params)
    assert result.returncode != 0
    assert "is for digits; what was set for it would mix with cifar10" in result.stderr
    assert "python -m presets fashion-mnist" in result.stderr
    assert params.read_bytes() == before
    back = apply(DEFAULT, params)
    assert back.returncode == 0
    assert "pretext.epochs: 40 → 8" in back.stdout
    assert params.read_bytes() == committed
    assert apply("cifar10", params).returncode == 0


def test_going_back_needs_a_commit_to_go_back_to(params, tmp_path_factory):
    apply("digits", params)
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run("git", *author, "commit", "--quiet", "--all", "--message", "digits", cwd=params.parent)
    result = apply(DEFAULT, params)
    assert result.returncode != 0
    assert "is committed for digits; an older commit has it" in result.stderr
    alone = tmp_path_factory.mktemp("alone") / "params.yaml"
    alone.write_bytes(params.read_bytes())
    result = apply(DEFAULT, alone)
    assert result.returncode != 0
    assert "is not a git checkout" in result.stderr
    assert "git init" in result.stderr
    assert alone.read_bytes() == params.read_bytes()


def test_paper_presets_share_what_the_paper_shares():
    """Each preset stands alone; what should be the same in several is held together here."""
    small = [read(name) for name in ("cifar10", "cifar20", "stl10")]
    assert all(preset["views"] == small[0]["views"] for preset in small)
    imagenet = [read(f"imagenet-{classes}") for classes in (50, 100, 200, 1000)]
    assert [preset["clusters"] for preset in imagenet] == [50, 100, 200, 1000]
    for block in ("views", "strong", "pretext", "mine", "selflabel"):
        assert all(preset[block] == imagenet[0][block] for preset in imagenet)


@pytest.mark.parametrize("name", names())
def test_settings_for_experiments_are_the_preset(params, name):
    assert {key: yaml.safe_load(value) for key, value in (line.split("=", 1) for line in settings(name))} == dict(
        leaves(read(name))
    )
    printed = apply(name, params, "--set").stdout
    assert printed.split() == [word for setting in settings(name) for word in ("-S", setting)]


def test_an_unknown_preset_or_key_is_told(params):
    result = apply("digitz", params)
    assert result.returncode != 0
    assert "digits" in result.stderr
    params.write_text(params.read_text().replace("  k: 20", "  kay: 20"))
    before = params.read_bytes()
    result = apply("digits", params)
    assert result.returncode != 0
    assert "mine.k is not a key" in result.stderr
    assert params.read_bytes() == before


def test_every_recipe_queues_and_names_params_that_exist_and_are_valid(tmp_path):
    project = make_project(tmp_path / "project")
    defaults = yaml.safe_load((project / "params.yaml").read_text())
    assert len(RECIPES) >= 6
    queued = 0
    for recipe in RECIPES:
        words = shlex.split(recipe)
        changes = [word.partition("=") for flag, word in itertools.pairwise(words) if flag == "-S"]
        for key, _, values in changes:
            block, _, leaf = key.rpartition(".")
            assert leaf in (defaults[block] if block else defaults), f"{recipe}: there is no {key}"
            for value in [values] if values.startswith("[") else values.split(","):
                for stage in STAGES:
                    fields = schema(stage).model_fields
                    if (block or leaf) in fields:
                        content = {name: defaults[name] for name in fields}
                        if block:
                            content[block] = {**content[block], leaf: yaml.safe_load(value)}
                        else:
                            content[leaf] = yaml.safe_load(value)
                        schema(stage).model_validate(content)
        queued += run(*words, cwd=project).stdout.count("Queued experiment")
    removed = run("dvc", "queue", "remove", "--queued", cwd=project).stdout
    assert queued == removed.count(",") + 1 > len(RECIPES)
