"""Apply a preset to params.yaml: `python -m presets digits`. Comments stay, keys that it does not name stay.

Presets are overlays on the committed params.yaml, which is for Fashion-MNIST, so a second one is refused until the
first is undone, which `python -m presets fashion-mnist` does: it puts back the committed file. With `--set` nothing is
changed, and the preset is printed as options of `dvc exp run`.
"""

import argparse
import sys
from pathlib import Path

from presets.checkout import require_checkout
from presets.overlay import DEFAULT, apply, go_back, names, settings
from stages.plumbing.errors import UserError


def main() -> None:
    """Lay the named preset over params.yaml in the current folder and say what changed; a UserError is one line."""
    parser = argparse.ArgumentParser(prog="python -m presets", description="Apply a preset to params.yaml.")
    parser.add_argument("name", choices=names(), help=", ".join(names()), metavar="name")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    parser.add_argument("--set", action="store_true", help="only print it as options: dvc exp run $(...)")
    arguments = parser.parse_args()
    if arguments.set:
        print(*(f"-S {setting}" for setting in settings(arguments.name)))
        return
    try:
        require_checkout(arguments.params)
        change = go_back(arguments.params) if arguments.name == DEFAULT else apply(arguments.name, arguments.params)
    except UserError as error:
        sys.exit(f"presets: {error}")
    print("\n".join(change or ["nothing to change"]))


if __name__ == "__main__":
    main()
