"""How far luck goes: `python -m studies.seeds digits --seeds 5` (`make seeds PRESET=digits N=5`).

Every seed is an experiment of DVC, <preset>-seed-<seed>, trained anew from the pretext on; `dvc exp show` lists them.
They run one after the other with `dvc exp run --temp`, each in a folder of its own, so the workspace stays as it is.
DVC's queue would do the same in the background, but its workers outlive the command that started them, and in a
container without an init nobody ends them; besides, two trainings beside each other would spoil the seconds.

Writes reports/seeds.json (for each preset, lists in the order of its seeds; scores of the test images) and the table
reports/seeds.md. A seed that is there already is not run again, unless code or params have changed since: then those
of that preset begin anew. Of a seed that broke off, finished stages come out of DVC's cache the next time, and the one
that was running starts again; its seconds would be a lie then, and are null.
"""

import argparse
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import yaml

from presets.overlay import names, refusal, settings

RESULTS, TABLE = Path("reports/seeds.json"), Path("reports/seeds.md")
LAST = "evaluate"  # the stage that scores; figures of every seed are not wanted
SHARED = "download"  # the same for every seed, so never in its seconds
METHODS = {"kmeans": "kmeans_", "scan": "scan_", "selflabel": ""}  # and what comes before its scores
COLUMNS = ["seeds", "k-means ACC", "SCAN ACC", "+ self-label ACC", "NMI", "ARI", "best ACC", "minutes"]


def fingerprint(changes: list[str]) -> str:
    """A hash of all that decides a result beside the seed: params, changes to them, dvc.yaml and the stages' code."""
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    params = yaml.safe_load(Path("params.yaml").read_text()) | {"seed": None}
    stages = list(pipeline)[: list(pipeline).index(LAST) + 1]
    code = sorted({dep for stage in stages for dep in pipeline[stage]["deps"] if dep.endswith(".py")})
    content = {
        "params": params,
        "changes": changes,
        "stages": [pipeline[stage] for stage in stages],
        "code": {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in code},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def experiment(preset: str, changes: list[str], seed: int) -> tuple[dict, float | None]:
    """Run one seed; returns metrics and seconds, None where a stage came from the cache. RuntimeError if it fails."""
    name = f"{preset}-seed-{seed}"
    commit = _git("rev-parse", "HEAD").strip()
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
    if _git("for-each-ref", reference):  # of other code or params; DVC would refuse to replace it
        _git("update-ref", "-d", reference)
    options = [word for change in [*changes, f"seed={seed}"] for word in ("-S", change)]
    output, seconds = _run("dvc", "exp", "run", "--temp", "--name", name, *options, LAST)
    skipped = set(re.findall(r"^Stage '(\w+)' (?:is cached|didn't change)", output, re.MULTILINE)) - {SHARED}
    metrics = json.loads(_git("show", f"{reference}:./reports/metrics.json"))
    return metrics, None if skipped else round(seconds, 1)


def _run(*command: str) -> tuple[str, float]:
    """Run DVC and show what it says; returns that, and the seconds since the download. RuntimeError if it fails."""
    # Stages are started as `python`, which has to be this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    lines, start = [], time.monotonic()
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith(f"Running stage '{SHARED}'"):
                start = None
            elif start is None and line.startswith("Running stage"):
                start = time.monotonic()
            lines.append(line)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {process.returncode}")
    return "".join(lines), time.monotonic() - (start or time.monotonic())


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], check=True, capture_output=True, text=True).stdout


def scores(metrics: dict) -> dict[str, float]:
    """What a run's metrics.json says of the test images. RuntimeError where there are no labels."""
    try:
        return {
            f"{prefix}{score}": metrics[method]["test"][score]
            for method, prefix in METHODS.items()
            for score in ("acc", "nmi", "ari")
        }
    except KeyError as error:
        message = f"reports/metrics.json has no {error.args[0]}; without labels there is nothing to compare"
        raise RuntimeError(message) from None


def add(rows: dict, seed: int, found: dict[str, float | None]) -> None:
    """Put a seed in its place among the lists of a preset."""
    at = sum(other < seed for other in rows.setdefault("seeds", []))
    for name, value in {"seeds": seed, **found}.items():
        rows.setdefault(name, []).insert(at, value)


def mean(values: list[float | None], scale: float = 100, digits: int = 1) -> str:
    """Mean ± standard deviation (of a sample, so from two on) of those that are known."""
    known = [scale * value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{spread}"


def table(results: dict) -> str:
    """All presets as Markdown."""
    lines = [
        "# Over seeds",
        "",
        "Test images, mean ± standard deviation of the sample over seeds, in percent. Every seed trains everything",
        "anew, the pretext too. Minutes are of a whole run without the download. Written by `python -m studies.seeds`.",
        "",
        f"| preset | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for preset, rows in sorted(results.items()):
        percent = [mean(rows[name]) for name in ("kmeans_acc", "scan_acc", "acc", "nmi", "ari")]
        best = mean([max(rows["acc"])])
        cells = [str(len(rows["seeds"])), *percent, best, mean(rows["seconds"], scale=1 / 60)]
        lines.append(f"| {preset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(results: dict) -> None:
    """Both files, after every seed, so that a run that breaks off keeps what it has."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    TABLE.write_text(table(results))


def main() -> None:
    """Run the seeds that are missing and write both files; exit code 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m studies.seeds", description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=names(), metavar="preset", help=", ".join(names()))
    parser.add_argument("--seeds", type=int, nargs="+", default=[5], help="how many, from 0 on (5), or which")
    parser.add_argument("-S", action="append", default=[], metavar="key=value", help="a change on top of the preset")
    arguments = parser.parse_args()
    preset, changes = arguments.preset, [*settings(arguments.preset), *arguments.S]
    seeds = range(arguments.seeds[0]) if len(arguments.seeds) == 1 else arguments.seeds
    if reason := refusal(preset, yaml.safe_load(Path("params.yaml").read_text())["data"]["name"]):
        sys.exit(reason)
    results, key = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}, fingerprint(changes)
    rows = results.get(preset, {})
    if rows.get("fingerprint") != key:
        if rows:
            print(f"{preset}: code or params have changed; its {len(rows['seeds'])} seeds begin anew")
        rows = {"fingerprint": key, "seeds": []}
    failed = []
    for seed in seeds:
        if seed in rows["seeds"]:
            print(f"{preset}, seed {seed}: already in {RESULTS}")
            continue
        print(f"{preset}, seed {seed}", flush=True)
        try:
            metrics, seconds = experiment(preset, changes, seed)
            add(rows, seed, {**scores(metrics), "seconds": seconds})
        except RuntimeError as error:
            print(f"{preset}, seed {seed}: {error}", file=sys.stderr, flush=True)
            failed.append(seed)
            continue
        write({**results, preset: rows})
    if TABLE.exists():
        print(TABLE.read_text())
    if failed:
        sys.exit(f"{preset}: failed with seed {', '.join(map(str, failed))}; the next call tries again")


if __name__ == "__main__":
    main()
