"""How far luck goes: `python -m studies.seeds digits --seeds 5` (`make seeds PRESET=digits N=5`).

Runs the whole pipeline, the pretext too, once for each seed as a DVC experiment in a folder of its own, one after the
other, and writes reports/seeds.json and reports/seeds.md: scores of the test images after self-labeling. Presets that
the files hold already stay; every seed is written as soon as it is done.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import yaml

from presets.__main__ import DEFAULT, FOLDER, settings

SCORES = ("acc", "nmi", "ari")
RECORD = Path("reports/seeds.json")
SUMMARY = Path("reports/seeds.md")
CACHED = "is cached - skipping run"  # what DVC says of a stage whose result it has from an earlier run


def run_seed(preset: str, seed: int, more: list[str]) -> dict:
    """One experiment; its scores, and its seconds, None where DVC took training from its cache."""
    name = f"{preset}-seed-{seed}"
    subprocess.run(["dvc", "exp", "remove", name], capture_output=True)  # an earlier one of that name
    changes = [*settings(preset), f"seed={seed}", *more]
    command = ["dvc", "exp", "run", "--temp", "--name", name, *(part for change in changes for part in ("-S", change))]
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Running stage") or "·" in line or CACHED in line:
                print(f"{name}: {line}", end="", flush=True)
    if process.returncode:
        raise RuntimeError("".join(lines[-15:]))
    seconds = None if any(CACHED in line for line in lines) else round(time.monotonic() - start, 1)
    refs = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/exps"], capture_output=True, text=True, check=True
    ).stdout.split()
    ref = next(ref for ref in refs if ref.endswith(f"/{name}"))
    shown = subprocess.run(["git", "show", f"{ref}:reports/metrics.json"], capture_output=True, text=True, check=True)
    metrics = json.loads(shown.stdout)
    return {
        **{key: metrics["selflabel"]["test"][key] for key in SCORES},
        **{f"{stage}_{key}": metrics[stage]["test"][key] for stage in ("kmeans", "scan") for key in SCORES},
        "seconds": seconds,
    }


def add(record: dict, preset: str, seed: int, found: dict) -> None:
    """Put a seed's result into the record, a list per score, seeds ascending."""
    rows = record.setdefault(preset, {"seeds": []})
    position = sum(other < seed for other in rows["seeds"])
    known = seed in rows["seeds"]
    for key, value in ({"seeds": seed} | found).items():
        values = rows.setdefault(key, [])
        values[position : position + known] = [value]


def table(record: dict) -> str:
    """The record as Markdown: mean ± sample standard deviation in percent."""
    lines = [
        "# Over seeds",
        "",
        "Test images, in %, mean ± standard deviation over whole runs, the pretext included "
        "(`make seeds PRESET=... N=...`).",
        "",
        "| preset | runs | k-means ACC | SCAN ACC | ACC | NMI | ARI | best ACC | minutes a run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for preset, rows in sorted(record.items()):
        seconds = [value for value in rows["seconds"] if value is not None]
        minutes = f"{statistics.mean(seconds) / 60:.1f}" if seconds else "–"
        cells = [mean_and_deviation(rows[key]) for key in ("kmeans_acc", "scan_acc", *SCORES)]
        best = f"{100 * max(rows['acc']):.1f}"
        lines.append(f"| {' | '.join([preset, str(len(rows['seeds'])), *cells, best, minutes])} |")
    return "\n".join(lines) + "\n"


def mean_and_deviation(values: list[float]) -> str:
    """Shares as percent: "64.0 ± 1.2", or "64.0" of a single one."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def main() -> None:
    """Run what is asked for; a seed that fails is told, and the others go on."""
    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    parser = argparse.ArgumentParser(prog="python -m studies.seeds", description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=names, metavar="preset", help=", ".join(names))
    parser.add_argument("--seeds", type=int, nargs="+", default=[5], help="how many (from 0), or which")
    parser.add_argument("-S", action="append", default=[], metavar="key=value", help="a change on top of the preset")
    arguments = parser.parse_args()
    if (present := yaml.safe_load(Path("params.yaml").read_text())["data"]["name"]) != DEFAULT:
        sys.exit(f"params.yaml is for {present}, and presets start from the committed one: git checkout params.yaml")
    seeds = list(range(arguments.seeds[0])) if len(arguments.seeds) == 1 else arguments.seeds
    failed = []
    for seed in seeds:
        try:
            found = run_seed(arguments.preset, seed, arguments.S)
        except RuntimeError as error:
            failed.append(seed)
            print(f"{arguments.preset}, seed {seed} failed:\n{error}", file=sys.stderr, flush=True)
            continue
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        add(record, arguments.preset, seed, found)
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
        SUMMARY.write_text(table(record))
        print(f"{arguments.preset}, seed {seed}: {found}", flush=True)
    if failed:
        sys.exit(f"failed: seed {', '.join(map(str, failed))}; the others are in {RECORD}")
    print(SUMMARY.read_text())


if __name__ == "__main__":
    main()
