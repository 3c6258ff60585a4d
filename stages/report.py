"""Stage report: figures and one self-contained page to look at."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages.images.store import read_meta
from stages.page import figures as drawn
from stages.page.contents import choose_prototypes, describe, gather, read_findings
from stages.page.render import render
from stages.plumbing import live
from stages.plumbing.command import run
from stages.plumbing.csv_files import read_rows
from stages.plumbing.outputs import output_file, output_folder
from stages.plumbing.params import Block, Count
from stages.scoring.names import model_id, read_names

MODELS = ("kmeans", "scan", "selflabel")
TIMED = ("download", "pretext", "embed", "mine", "kmeans", "scan", "selflabel", "evaluate")


class Report(Block):
    """The block `report`; what each key does is said in params.yaml."""

    prototypes: Count


class Params(Block):
    """What this stage reads of params.yaml."""

    report: Report


def report(
    params: Params,
    images: Path = Path("data/images"),
    labels: Path = Path("data/labels"),
    pretext: Path = Path("data/pretext"),
    embeddings: Path = Path("data/embeddings"),
    scan: Path = Path("data/scan"),
    selflabel: Path = Path("data/selflabel"),
    names: Path = Path("names.yaml"),
    metrics: Path = Path("reports/metrics.json"),
    confusion: Path = Path("reports/confusion.csv"),
    figures: Path = Path("reports/figures"),
    page: Path = Path("reports/index.html"),
) -> None:
    """Draw confusion.png, scores.png (both need labels), prototypes.png and curves.png; write the page.

    How long the stages took on this machine is on the page only, the one output that tells of it (LIVE= leaves it out).
    """
    count = params.report.prototypes
    scores = json.loads(metrics.read_text(encoding="utf-8"))
    findings = read_findings(images, labels, embeddings, selflabel)
    model = model_id(selflabel / "model.pt")
    clusters = describe(findings, read_names(names, len(findings.assigned.mean), model))
    pngs = {
        name: (draw(), draw(theme=drawn.DARK))
        for name, draw in charts(confusion, {"pretext": pretext, "scan": scan, "selflabel": selflabel}).items()
    }
    with output_folder(figures) as folder:
        for name, (light, _) in pngs.items():
            (folder / f"{name}.png").write_bytes(light)
        (folder / "prototypes.png").write_bytes(drawn.prototypes(choose_prototypes(findings, clusters, count)))
        if brief := accuracies(scores):
            (folder / "scores.png").write_bytes(drawn.scores(brief))
    contents = gather(images, findings, clusters, count)
    seconds = {stage: taken for stage, taken in live.seconds_by_stage().items() if stage in TIMED}
    html = render(read_meta(images).name, model, contents, scores, pngs, seconds)
    with output_file(page) as path:
        path.write_text(html, encoding="utf-8")
    print(f"open {page} in a browser ({len(html) / 1e6:.1f} MB)")


def charts(confusion: Path, folders: dict[str, Path]) -> dict[str, partial]:
    """The figures that are also on the page, each to be drawn in the colours of a theme.

    confusion: the table that evaluate writes, without rows where there are no labels. folders: the histories' by stage.
    """
    found = {}
    histories = {name: pd.read_csv(folder / "history.csv", dtype=float) for name, folder in folders.items()}
    if trained := {name: history for name, history in histories.items() if len(history)}:
        found["curves"] = partial(drawn.curves, trained)
    header, *lines = read_rows(confusion)
    if lines:
        table = np.array([line[1:] for line in lines], dtype=float)
        found["confusion"] = partial(drawn.confusion, table, [line[0] for line in lines], header[1:])
    return found


def accuracies(scores: dict) -> dict[str, dict[str, float]]:
    """ACC, NMI and ARI of each model on test, or on train where test has no labels; empty without any."""
    of = {model: scores[model]["test" if "acc" in scores[model]["test"] else "train"] for model in MODELS}
    keys = ("acc", "nmi", "ari")
    return {model: {key.upper(): found[key] for key in keys} for model, found in of.items() if "acc" in found}


if __name__ == "__main__":
    run(report)
