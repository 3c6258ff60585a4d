"""Apply a preset to params.yaml: `python -m presets digits`. Comments stay, keys that it does not name stay.

A preset, presets/<name>.yaml, holds only what differs from the committed params.yaml. Start from that file: presets are
overlays on it, not on each other.
"""

import argparse
import sys
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarfloat import ScalarFloat

FOLDER = Path(__file__).parent
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
    try:
        lines = overlay(params, yaml.load((FOLDER / f"{arguments.name}.yaml").read_text(encoding="utf-8")))
    except KeyError as error:
        sys.exit(f"presets/{arguments.name}.yaml: {error.args[0]} is not a key of {arguments.params}")
    with open(arguments.params, "w", encoding="utf-8") as file:
        yaml.dump(params, file)
    print("\n".join(lines or ["nothing to change"]))


if __name__ == "__main__":
    main()
