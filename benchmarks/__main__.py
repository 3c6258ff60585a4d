"""Every row, the usual way beside ours: `python -m benchmarks`, or only some: `python -m benchmarks views embed`.

Needs data/images, data/labels and data/pretext (`dvc repro` or `dvc pull` makes them). Prints the table and writes
reports/benchmarks.json; a run of some rows replaces those and keeps the others. Ratios are the result: absolute rates
belong to the machine.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.rows import ROWS
from benchmarks.timing import Row

HEADER = f"{'':<58} {'usual':>10} {'ours':>10} {'':<9} {'ratio':>7}  {'target':>7}"


def line(row: Row) -> str:
    """A row as the table shows it."""
    target = "" if row.target is None else f"{'≤' if row.at_most else '≥'} {row.target:g}"
    mark = "" if row.target is None else "reached" if row.holds else "missed"
    numbers = f"{row.usual:>10,.4g} {row.ours:>10,.4g} {row.unit:<9} {row.ratio:>7.2f}  {target:>7}"
    return f"{row.row:<58} {numbers} {mark:<8} {row.note}".rstrip()


def main() -> None:
    """Measure the rows asked for, print and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="row", help=f"default: all of {', '.join(ROWS)}")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks.json"))
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.rows if name not in ROWS]:
        parser.error(f"no row {unknown[0]}; there are {', '.join(ROWS)}")
    for needed in ("data/images/train.npy", "data/labels/train.npy", "data/pretext/model.pt"):
        if not Path(needed).exists():
            sys.exit(f"{needed} is missing: run `dvc repro` (or `dvc pull`) first")
    kept = json.loads(arguments.out.read_text()) if arguments.out.exists() and arguments.rows else []
    table = {row["row"]: row for row in kept}
    print(HEADER, flush=True)
    for name in arguments.rows or ROWS:
        found = ROWS[name]()
        for row in found if isinstance(found, list) else [found]:
            print(line(row), flush=True)
            table[row.row] = {key: round(v, 4) if isinstance(v, float) else v for key, v in asdict(row).items()}
            arguments.out.write_text(json.dumps(list(table.values()), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
