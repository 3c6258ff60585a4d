"""A folder of your own, prepared for `dvc repro`: `python -m commands.own ~/photos --clusters 12`.

Looks through the folder, chooses size, network and epochs by what this machine does in `--hours` (3), writes them to
params.yaml (comments stay), says what a run will take, and has the pictures read (`dvc repro download`). The same call
again changes nothing; one with other clusters changes these alone. Another size or other hours choose anew.
"""

import argparse
import os
import sys
from pathlib import Path

from commands.own.prepare import HOURS, own
from commands.own.request import understand
from presets.overlay import DEFAULT
from stages.plumbing.errors import UserError
from stages.plumbing.printing import printable


def main() -> None:
    """Prepare a folder as the command line says; exit code 1 and one line where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m commands.own", description=__doc__, formatter_class=_Raw)
    parser.add_argument("images", nargs="?", default="", help="the folder (make: IMAGES)")
    parser.add_argument("--clusters", default="", help="how many groups, a few more than you expect (CLUSTERS)")
    parser.add_argument("--size", default="", help="side of the pictures in pixels; default: what suits (SIZE)")
    parser.add_argument("--hours", default="", help=f"how long all may take; default: {HOURS:g} (HOURS)")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    a = parser.parse_args()
    try:
        own(understand(a.images, a.clusters, a.size, a.hours), a.params)
    except UserError as error:
        sys.exit(printable(f"own: {error}"))
    except KeyboardInterrupt:
        sys.exit("own: interrupted; params.yaml is as it was")
    rest = "the rest follows" if "MAKELEVEL" in os.environ else "dvc repro runs the rest"
    print(f"Ready: {rest}. Back to the committed params: python -m presets {DEFAULT}", flush=True)


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
