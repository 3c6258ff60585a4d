"""params.yaml against a schema: what is accepted, and what each mistake is told."""

from pathlib import Path
from typing import Literal

import pytest

from stages.plumbing import params
from stages.plumbing.errors import UserError


class Inner(params.Block):
    depth: params.Count


class Net(params.Block):
    name: Literal["small", "large"]
    epochs: params.Count
    rate: params.Positive
    dropout: params.Fraction
    frozen: bool
    path: str | None
    layers: list[int]
    inner: Inner


class Schema(params.Block):
    net: Net
    seed: int


GOOD = {
    "name": "small",
    "epochs": "5",
    "rate": "1.0e-4",
    "dropout": "0.5",
    "frozen": "false",
    "path": "null",
    "layers": "[3, 4]",
    "inner": "{depth: 2}",
}


def write(tmp_path: Path, seed: str = "seed: 1", **changed: str | None) -> Path:
    """params.yaml with some values of the block `net` changed, or left out where None."""
    lines = [f"  {key}: {value}" for key, value in (GOOD | changed).items() if value is not None]
    path = tmp_path / "params.yaml"
    path.write_text("\n".join(["other: [what, other, stages, read]", "net:", *lines, seed]) + "\n", encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    """The one line with which the file is refused."""
    with pytest.raises(UserError) as refused:
        params.read(Schema, path)
    line = str(refused.value)
    assert line.startswith(f"{path}:")
    assert "\n" not in line
    assert len(line) < len(str(path)) + 200, "a message is read at a glance"
    return line.removeprefix(f"{path}:").strip()


def test_a_good_file(tmp_path):
    found = params.read(Schema, write(tmp_path))
    assert found.net.model_dump() == {
        "name": "small",
        "epochs": 5,
        "rate": 1e-4,
        "dropout": 0.5,
        "frozen": False,
        "path": None,
        "layers": [3, 4],
        "inner": {"depth": 2},
    }
    with pytest.raises(ValueError, match="frozen"):
        found.net.epochs = 6


def test_whole_numbers_are_fine_for_floats(tmp_path):
    """`dvc exp run -S net.rate=2.0` writes 2."""
    rate = params.read(Schema, write(tmp_path, rate="2")).net.rate
    assert (rate, type(rate)) == (2.0, float)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"epochs": "'8'"}, ["net.epochs = '8'", "integer"]),
        ({"epochs": "8.0"}, ["net.epochs = 8.0", "integer"]),
        ({"epochs": "8.5"}, ["net.epochs = 8.5", "integer"]),
        ({"epochs": "true"}, ["net.epochs = True", "integer"]),
        ({"epochs": "0"}, ["net.epochs = 0", "greater than or equal to 1"]),
        ({"epochs": "null"}, ["net.epochs = None", "integer"]),
        ({"epochs": "[1]"}, ["net.epochs = [1]", "integer"]),
        ({"rate": "1e-4"}, ["net.rate = '1e-4'", "number", "write 1.0e-4"]),
        ({"rate": "true"}, ["net.rate = True", "number"]),
        ({"rate": "0"}, ["net.rate = 0", "greater than 0"]),
        ({"rate": ".inf"}, ["net.rate = inf", "finite"]),
        ({"rate": ".nan"}, ["net.rate = nan"]),
        ({"dropout": "1.5"}, ["net.dropout = 1.5", "less than or equal to 1"]),
        ({"dropout": "-0.1"}, ["net.dropout = -0.1", "greater than or equal to 0"]),
        ({"frozen": "1"}, ["net.frozen = 1", "boolean"]),
        ({"frozen": "'yes'"}, ["net.frozen = 'yes'", "boolean"]),
        ({"path": "3"}, ["net.path = 3", "string"]),
        ({"name": "medium"}, ["net.name = 'medium'", "'small' or 'large'"]),
        ({"layers": "[3, x]"}, ["net.layers.1 = 'x'", "integer"]),
        ({"layers": "3"}, ["net.layers = 3", "list"]),
        ({"inner": "{depth: -1}"}, ["net.inner.depth = -1"]),
        ({"inner": "5"}, ["net.inner = 5"]),
        ({"inner": "{}"}, ["net.inner.depth is missing"]),
        ({"frozen": None}, ["net.frozen is missing"]),
        ({"learning": "1"}, ["net.learning is not a known key", "known keys here: name, epochs"]),
        ({"droput": "0.5"}, ["net.droput is not a known key", "did you mean dropout?"]),
        ({"inner": "{depht: 1}"}, ["net.inner.depht is not a known key", "did you mean depth?"]),
    ],
)
def test_each_mistake_is_named(tmp_path, changed, expected):
    line = refusal(write(tmp_path, **changed))
    assert all(part in line for part in expected), line


def test_a_misspelled_key_is_not_called_missing(tmp_path):
    """It is both: an unknown key, and one that is not there. What was meant tells more."""
    line = refusal(write(tmp_path, dropout=None, droput="0.5", epochs="0"))
    assert line == "net.droput is not a known key; did you mean dropout?"


def test_words_are_not_advised_on_exponents(tmp_path):
    line = refusal(write(tmp_path, rate="fast"))
    assert "net.rate = 'fast'" in line
    assert "1.0e-4" not in line


@pytest.mark.parametrize("text", ["seed: 1\n", "seed: 1\nnets: {}\n"])
def test_missing_block(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    assert refusal(tmp_path / "params.yaml").startswith("net is missing; add it")


def test_empty_block(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 1\nnet:\n")
    assert refusal(tmp_path / "params.yaml").startswith("net = None: ")


def test_missing_key_at_the_top(tmp_path):
    assert refusal(write(tmp_path, seed="")).startswith("seed is missing")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"net:\n  rate: [1, 2\nseed: 1\n", "line 3 is not valid YAML"),
        (b"net:\n  rate: 1: 2\n", "line 2 is not valid YAML (mapping values are not allowed here)"),
        (b"net:\n\trate: 1\n", "line 2 is not valid YAML"),
        (b"net: \x00\n", "is not valid YAML"),
        (b"net: caf\xe9\n", "is not valid YAML"),
        (b"- net\n- seed\n", "expected keys and values, found list"),
        (b"just words\n", "expected keys and values, found str"),
        (b"", "expected keys and values, found NoneType"),
    ],
)
def test_files_that_are_no_params(tmp_path, content, expected):
    (tmp_path / "params.yaml").write_bytes(content)
    assert expected in refusal(tmp_path / "params.yaml")


def test_no_such_file(tmp_path):
    assert "no such file" in refusal(tmp_path / "params.yaml")
    assert "--params" in refusal(tmp_path / "params.yaml")


def test_a_folder_for_a_file(tmp_path):
    assert "--params" in refusal(tmp_path)


def test_load_returns_everything(tmp_path):
    assert params.load(write(tmp_path))["other"] == ["what", "other", "stages", "read"]
