"""Published figures and ours side by side: `python -m studies.paper` writes reports/paper.md.

Theirs are in studies/published.yaml. Ours are whatever this project has run: over seeds (reports/seeds.json), else one
run (reports/runs/<dataset>.json), else, for the dataset of params.yaml, reports/metrics.json; baselines come from
reports/baselines/ or from the run. What nobody has run is called so.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import yaml

from studies.seeds import mean

PUBLISHED = Path(__file__).parent / "published.yaml"
PAGE = Path("paper.md")
ROWS = {
    "pixels": "k-means on pixels",
    "kmeans": "pretext + k-means",
    "scan": "SCAN",
    "selflabel": "+ self-label",
    "best": "+ self-label, best",
    "overclustering": "overclustering",
    "supervised": "supervised",
}
NOT_RUN = "not run"
SCORES = ("acc", "nmi", "ari")
PREFIXES = {"kmeans": "kmeans_", "scan": "scan_", "selflabel": ""}  # of the lists in seeds.json


class Run(NamedTuple):
    """One run of this code: its name, params, metrics and baselines, and what it ran on where that is known."""

    name: str
    protocol: dict
    metrics: dict
    baselines: dict
    device: str | None


def read_runs(reports: Path, params: dict) -> dict[str, Run]:
    """Every run by name; that of params.yaml bears the name of its dataset, unless a file of its own has that."""
    runs = {}
    for path in sorted((reports / "runs").glob("*.json")):
        content = json.loads(path.read_text())
        parts = (content[key] for key in ("protocol", "metrics"))
        runs[path.stem] = Run(path.stem, *parts, content.get("baselines", {}), content.get("device"))
    name = params["data"]["name"]
    if (reports / "metrics.json").exists() and name not in runs:
        baselines = {path.stem: json.loads(path.read_text()) for path in (reports / "baselines").glob("*.json")}
        # They are made by a command of their own, so they may still be of the dataset before.
        baselines = {row: scores for row, scores in baselines.items() if scores["dataset"] == name}
        runs[name] = Run(name, params, json.loads((reports / "metrics.json").read_text()), baselines, None)
    return runs


def is_of(run: Run, dataset: str) -> bool:
    """Whether a run is one of a dataset: by its params, or, where images came from a folder, by its name."""
    found = run.protocol["data"]["name"]
    return found == dataset or (found == "folder" and f"{run.name}-".startswith(f"{dataset}-"))


def whole(run: Run) -> bool:
    """Whether a run had all of the images; what had less is listed, but stands beside no published figure."""
    return run.protocol["data"]["limit"] is None


def percent(scores: dict) -> str:
    """ACC / NMI / ARI of one run, as far as there are any."""
    return " / ".join(f"{100 * scores[name]:.1f}" for name in SCORES if name in scores)


def ours(dataset: str, classes: int, runs: dict[str, Run], seeds: dict) -> dict[str, str]:
    """What this code has reached on a dataset, by row."""
    main, cells = runs.get(dataset), {}
    if main and main.protocol["clusters"] == classes:
        found = {**{name: main.metrics.get(name) for name in PREFIXES}, **main.baselines}
        cells = {row: percent(scores["test"]) for row, scores in found.items() if scores and "acc" in scores["test"]}
    if rows := seeds.get(dataset):
        for row, prefix in PREFIXES.items():
            cells[row] = " / ".join(mean(rows[f"{prefix}{name}"]) for name in SCORES)
        best = max(range(len(rows["acc"])), key=rows["acc"].__getitem__)
        cells["best"] = percent({name: rows[name][best] for name in SCORES})
    for run in runs.values():
        found = run.metrics.get("selflabel", {}).get("test", {})
        if is_of(run, dataset) and whole(run) and run.protocol["clusters"] > classes and "majority_acc" in found:
            cells["overclustering"] = f"{100 * found['majority_acc']:.1f} ({run.protocol['clusters']} clusters)"
    return cells


def theirs(entry: dict) -> str:
    """A published figure with its marks."""
    figures = entry["figures"]
    text = " / ".join(f"{figure:.1f}" for figure in figures) if isinstance(figures, list) else str(figures)
    clusters = f" ({entry['clusters']} clusters)" if "clusters" in entry else ""
    return f"{text}{clusters}{' ‡' if entry.get('pooled') else ''}{' (m)' if entry['from'] == 'memory' else ''}"


def section(key: str, dataset: dict, runs: dict[str, Run], seeds: dict) -> list[str]:
    """A dataset: what it is, the table, how ours was made, other runs of it."""
    mine = ours(key, dataset["classes"], runs, seeds)
    lines = [f"## {dataset['title']}", "", dataset["split"], ""]
    lines += ["| ACC / NMI / ARI % | paper | other work | this code |", "|---|---|---|---|"]
    for row, title in ROWS.items():
        if row == "best" and row not in {**dataset["paper"], **mine}:
            continue
        paper = theirs(dataset["paper"][row]) if row in dataset["paper"] else "–"
        lines.append(f"| {title} | {paper} | | {mine.get(row, NOT_RUN)} |")
    for entry in dataset.get("others", []):
        lines.append(f"| {entry['name']} | | {theirs(entry)} | |")
    for entry in dataset.get("ablations", []):
        found = [run for run in runs.values() if is_of(run, key) and _same(run, entry, dataset["classes"])]
        cell = percent(found[0].metrics["selflabel"]["test"]) if found else NOT_RUN
        lines.append(f"| {entry['name']} | {theirs(entry)} | | {cell} |")
    lines += ["", how(key, runs, seeds), ""]
    others = [run for name, run in runs.items() if name != key and is_of(run, key)]
    if others:
        lines += ["Other runs of this code, test images:", ""]
        lines += ["| run | ACC / NMI / ARI % | |", "|---|---|---|"]
        for run in others:
            lines.append(f"| {run.name} | {percent(run.metrics['selflabel']['test'])} | {describe(run)} |")
        lines.append("")
    return lines


def _same(run: Run, ablation: dict, classes: int) -> bool:
    """Whether a run is a published ablation, which has as many clusters as classes."""
    where = ablation.get("where")
    pretext = run.protocol["pretext"]
    return bool(where) and whole(run) and run.protocol["clusters"] == classes and where.items() <= pretext.items()


def how(key: str, runs: dict[str, Run], seeds: dict) -> str:
    """How our column was made, in a line."""
    parts = []
    if key in seeds:
        count = len(seeds[key]["seeds"])
        parts.append(f"mean ± standard deviation over {count} seeds" if count > 1 else "one seed")
    if key in runs:
        what = "baselines of the run" if key in seeds else "one run"
        parts.append(f"{what}: {describe(runs[key])}")
    return f"This code: {'; '.join(parts) or NOT_RUN}."


def describe(run: Run) -> str:
    """What a run was, in a few words."""
    p, device = run.protocol, f", on {run.device}" if run.device else ""
    pretext = p["pretext"]
    trained = (
        f"{pretext['epochs']} epochs" if pretext["weights"] is None else f"weights {Path(pretext['weights']).name}"
    )
    fewer = "" if whole(run) else f"at most {p['data']['limit']:,} images a split, "
    return (
        f"{fewer}seed {p['seed']}, {p['clusters']} clusters, {pretext['method']} on {pretext['backbone']} ({trained}), "
        f"scan {p['scan']['epochs']} and self-label {p['selflabel']['epochs']} epochs above "
        f"{p['selflabel']['threshold']:g}{device}"
    )


def page(reports: Path = Path("reports"), params: Path = Path("params.yaml")) -> str:
    """All of reports/paper.md."""
    published = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    seeds = json.loads((reports / "seeds.json").read_text()) if (reports / "seeds.json").exists() else {}
    runs = read_runs(reports, yaml.safe_load(params.read_text(encoding="utf-8")))
    lines = [
        "# Published figures and this code",
        "",
        "Written by `python -m studies.paper` from `studies/published.yaml` and from what this project has run.",
        "All figures are of test images, unless marked ‡: train and test pooled. (m): recalled from memory, not yet",
        "checked against the paper.",
        "",
        *(f"- {note}" for note in published["protocol"]),
        "",
    ]
    for key, dataset in published["datasets"].items():
        lines += section(key, dataset, runs, seeds)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(prog="python -m studies.paper", description=__doc__.splitlines()[0]).parse_args()
    Path("reports", PAGE).write_text(page(), encoding="utf-8")
    print(f"see reports/{PAGE}")


if __name__ == "__main__":
    main()
