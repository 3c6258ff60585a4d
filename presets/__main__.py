"""Apply a preset to params.yaml: `python -m presets digits`. Comments stay, keys that it does not name stay.

A preset, presets/<name>.yaml, holds only what differs from the committed params.yaml, which is for Fashion-MNIST.
Presets are overlays on that file, not on each other, so a second one is refused until the first is undone.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarfloat import ScalarFloat

FOLDER = Path(__file__).parent
DEFAULT = "fashion-mnist"  # the dataset that params.yaml is committed for
NULL = "tag:yaml.org,2002:null"


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
    return f"{float(value):g}" if isinstance(value, ScalarFloat) else str(value)


def settings(name: str) -> list[str]:
    """A preset as what `dvc exp run -S` takes, `key=value` each; see presets/*.yaml for the names."""

    def leaves(tree: dict, where: str = "") -> Iterator[str]:
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{where}{key}.")
            else:
                yield f"{where}{key}={json.dumps(value)}"

    return list(leaves(YAML(typ="safe").load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))))


def main() -> None:
    """Merge the named preset into params.yaml in the current folder and say what changed."""
    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    parser = argparse.ArgumentParser(prog="python -m presets", description="Apply a preset to params.yaml.")
    parser.add_argument("name", choices=names, help=", ".join(names), metavar="name")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    arguments = parser.parse_args()

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 1000
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))
    params = yaml.load(arguments.params.read_text(encoding="utf-8"))
    changes = yaml.load((FOLDER / f"{arguments.name}.yaml").read_text(encoding="utf-8"))
    dataset, present = changes.get("data", {"name": DEFAULT})["name"], params["data"]["name"]
    if present not in (DEFAULT, dataset):
        sys.exit(
            f"{arguments.params} is for {present}; what was set for it would mix with {arguments.name}: undo it first "
            f"(git checkout {arguments.params})"
        )
    try:
        lines = overlay(params, changes)
    except KeyError as error:
        sys.exit(f"presets/{arguments.name}.yaml: {error.args[0]} is not a key of {arguments.params}")
    with open(arguments.params, "w", encoding="utf-8") as file:
        yaml.dump(params, file)
    print("\n".join(lines or ["nothing to change"]))


if __name__ == "__main__":
    main()
