"""Presets laid over params.yaml: comments stay, and keys that a preset does not name.

A preset, presets/<name>.yaml, holds only what differs from the committed params.yaml, which is for Fashion-MNIST.
Presets are overlays on that file, not on each other, so a second one is refused until the first is undone.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarfloat import ScalarFloat

from presets.checkout import committed
from stages.plumbing.errors import UserError
from stages.plumbing.printing import printable

FOLDER = Path(__file__).parent
DEFAULT = "fashion-mnist"  # the dataset that params.yaml is committed for
NULL = "tag:yaml.org,2002:null"


def names() -> list[str]:
    """Every preset there is."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str) -> dict:
    """A preset: block → key → value."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def dataset(name: str) -> str:
    """The data.name that a preset is for."""
    return read(name).get("data", {}).get("name", DEFAULT)


def settings(name: str) -> list[str]:
    """A preset as what `dvc exp run -S` takes, `key=value` each, without spaces."""

    def leaves(tree: dict, where: str = "") -> Iterator[str]:
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{where}{key}.")
            else:
                yield f"{where}{key}={json.dumps(value, separators=(',', ':'))}"

    return list(leaves(read(name)))


def refusal(name: str, present: str) -> str | None:
    """Why a preset may not be laid over params that are for the dataset `present`; None where it may."""
    if present in (DEFAULT, dataset(name)):
        return None
    return (
        f"params.yaml is for {present}; what was set for it would mix with {name}. Go back first: "
        f"python -m presets {DEFAULT}, which puts back the committed params.yaml"
    )


def overlay(params: CommentedMap, changes: dict, where: str = "") -> list[str]:
    """Write the changes into params, block by block; returns a line per change. KeyError for an unknown key."""
    lines = []
    for key, value in changes.items():
        name = f"{where}{key}"
        if key not in params:
            raise KeyError(name)
        if isinstance(value, dict):
            lines += overlay(params[key], value, f"{name}.")
        elif params[key] != value:
            lines.append(f"{name}: {_shown(params[key])} → {_shown(value)}")
            params[key] = value
    return lines


def _shown(value: object) -> str:
    return f"{float(value):g}" if isinstance(value, ScalarFloat) else printable(str(value))


def load(path: Path) -> CommentedMap:
    """The params file with its comments."""
    return _yaml().load(path.read_text(encoding="utf-8"))


def save(params: CommentedMap, path: Path) -> None:
    """Write params with their comments."""
    with open(path, "w", encoding="utf-8") as file:
        dump(params, file)


def dump(params: CommentedMap, file: TextIO) -> None:
    """The same into an open file."""
    _yaml().dump(params, file)


def _yaml() -> YAML:
    round_trip = YAML()
    round_trip.preserve_quotes, round_trip.width = True, 1000
    round_trip.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))
    return round_trip


def merge(name: str, params: CommentedMap, path: Path) -> list[str]:
    """Lay the preset over params, read from `path`; returns a line per change. UserError where it may not be."""
    if reason := refusal(name, params["data"]["name"]):
        raise UserError(reason)
    try:
        return overlay(params, load(FOLDER / f"{name}.yaml"))
    except KeyError as error:
        raise UserError(f"presets/{name}.yaml: {error.args[0]} is not a key of {path}") from None


def apply(name: str, path: Path) -> list[str]:
    """Lay the preset over the params file; returns a line per change. UserError where it may not be."""
    params = load(path)
    lines = merge(name, params, path)
    save(params, path)
    return lines


def go_back(path: Path) -> list[str]:
    """Put back the params file as it is committed; returns a line per change. UserError where it cannot be."""
    content = committed(path)
    old, new = (YAML().load(text) for text in (path.read_bytes(), content))
    if new["data"]["name"] != DEFAULT:
        raise UserError(
            f"{path} is committed for {new['data']['name']}; an older commit has it for {DEFAULT}: "
            f"git log -- {path.name}, then git checkout <commit> -- {path.name}"
        )
    lines = overlay(old, {key: value for key, value in new.items() if key in old})
    path.write_bytes(content)
    return lines
