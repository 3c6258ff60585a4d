"""Presets: each is valid, keeps comments, and names only what differs."""

import subprocess
import sys

import pytest
import yaml
from project import ROOT, STAGES
from test_dag import schema

from presets.__main__ import settings

PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


def apply(name, path):
    command = [sys.executable, "-m", "presets", name, "--params", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_valid_params_and_keeps_every_comment(params, name):
    assert apply(name, params).returncode == 0
    content = yaml.safe_load(params.read_text())
    for stage in STAGES:
        schema(stage).model_validate({block: content[block] for block in schema(stage).model_fields})
    comments = [line.split("#", 1)[1] for line in (ROOT / "params.yaml").read_text().splitlines() if "#" in line]
    assert [line.split("#", 1)[1] for line in params.read_text().splitlines() if "#" in line] == comments


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_only_what_differs(name):
    def leaves(tree, where=""):
        for key, value in tree.items():
            yield from leaves(value, f"{where}{key}.") if isinstance(value, dict) else [(f"{where}{key}", value)]

    default = dict(leaves(yaml.safe_load((ROOT / "params.yaml").read_text())))
    same = [k for k, v in leaves(yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text())) if default[k] == v]
    assert not same


def test_applying_twice_changes_nothing_more(params):
    apply("digits", params)
    once = params.read_bytes()
    assert "nothing to change" in apply("digits", params).stdout
    assert params.read_bytes() == once


def test_a_second_preset_is_refused_until_the_first_is_undone(params):
    apply("digits", params)
    before = params.read_bytes()
    for other in ("cifar10", "fashion-mnist"):
        result = apply(other, params)
        assert result.returncode != 0
        assert "is for digits; what was set for it would mix with" in result.stderr
        assert "git checkout" in result.stderr
    assert params.read_bytes() == before


@pytest.mark.parametrize("name", PRESETS)
def test_settings_for_experiments_are_the_preset(name):
    tree = yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text())
    found = settings(name)
    for line in found:
        *blocks, key = line.split("=")[0].split(".")
        value = tree
        for block in blocks:
            value = value[block]
        assert yaml.safe_load(line.split("=", 1)[1]) == value[key]
    assert len(found) == sum(len(value) if isinstance(value, dict) else 1 for value in tree.values())


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
