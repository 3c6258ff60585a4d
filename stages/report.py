"""Stage report: figures and one self-contained page to look at."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages.command import output_file, output_folder, run
from stages.errors import UserError
from stages.images.store import read_images, read_labels, read_meta
from stages.params import Block, Count
from stages.scoring import figures as drawn
from stages.scoring.matching import assign, contingency, hungarian
from stages.scoring.page import page as compose

MODELS = ("kmeans", "scan", "selflabel")


class Report(Block):
    """The block `report`; what each key does is said in params.yaml."""

    prototypes: Count


class Params(Block):
    """What this stage reads of params.yaml."""

    report: Report


def report(
    images: Path,
    labels: Path,
    pretext: Path,
    scan: Path,
    selflabel: Path,
    metrics: Path,
    confusion: Path,
    figures: Path,
    page: Path,
    params: Params,
) -> None:
    """Draw confusion.png, scores.png (both need labels), prototypes.png and curves.png; write the page."""
    found = json.loads(metrics.read_text(encoding="utf-8"))
    groups = describe(images, labels, selflabel, params.report.prototypes)
    folders = {"pretext": pretext, "scan": scan, "selflabel": selflabel}
    histories = {name: pd.read_csv(folder / "history.csv", dtype=float) for name, folder in folders.items()}
    histories = {name: history for name, history in histories.items() if len(history)}  # the others trained nothing
    with confusion.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    table = np.array([line[1:] for line in lines], dtype=float)

    charts = {"curves": partial(drawn.curves, histories)}
    if len(table):
        charts["confusion"] = partial(drawn.confusion, table, [line[0] for line in lines], header[1:])
    shown = {name: (draw(), draw(theme=drawn.DARK)) for name, draw in charts.items()}
    with output_folder(figures) as folder:
        for name, (light, _) in shown.items():
            (folder / f"{name}.png").write_bytes(light)
        (folder / "prototypes.png").write_bytes(drawn.prototypes(groups))
        scores = {model: found[model]["test" if "acc" in found[model]["test"] else "train"] for model in MODELS}
        if "acc" in scores["selflabel"]:
            brief = {model: {key.upper(): of[key] for key in ("acc", "nmi", "ari")} for model, of in scores.items()}
            (folder / "scores.png").write_bytes(drawn.scores(brief))
    with output_file(page) as path:
        path.write_text(compose(read_meta(images).name, found, groups, shown), encoding="utf-8")
    print(f"open {page} in a browser")


def describe(images: Path, labels: Path, selflabel: Path, count: int) -> list[drawn.Group]:
    """Self-label's clusters on test with their most confident images: in the order of the classes, then by size."""
    pixels, (known, classes) = read_images(images, "test"), read_labels(labels)
    assigned = assign(np.load(selflabel / "probabilities-test.npy", mmap_mode="r"))
    clusters = len(assigned.mean)
    if len(pixels) != len(assigned.cluster):
        raise UserError(
            f"{images / 'test.npy'} holds {len(pixels)} images, {selflabel / 'probabilities-test.npy'} is about "
            f"{len(assigned.cluster)}; run the stages before this one again (dvc repro does)"
        )
    counts = np.zeros((len(classes), clusters), dtype=np.int64)
    if "test" in known:
        counts = contingency(known["test"], assigned.cluster, counts.shape)
    elif "train" in known:
        on_train = assign(np.load(selflabel / "probabilities-train.npy", mmap_mode="r"))
        counts = contingency(known["train"], on_train.cluster, counts.shape)
    class_of = hungarian(counts)

    groups = []
    for number in range(clusters):
        members = np.flatnonzero(assigned.cluster == number)
        chosen = members[np.argsort(-assigned.confidence[members], kind="stable")[:count]]
        truths = known["test"][chosen] if "test" in known else []
        inside, named = counts[:, number], class_of[number] >= 0
        groups.append(
            drawn.Group(
                number=number,
                name=classes[class_of[number]] if named else f"cluster {number}",
                note=f"{inside.max() / inside.sum():.0%} are {classes[inside.argmax()]}" if inside.any() else "",
                size=len(members),
                share=len(members) / len(pixels),
                images=pixels[chosen],
                truths=[classes[truth] for truth in truths],
                wrong=[bool(truth != class_of[number]) for truth in truths] if named else [],
            )
        )
    # Named clusters come in the order of the classes, as in the confusion matrix.
    return sorted(groups, key=lambda group: (class_of[group.number] < 0, class_of[group.number], -group.size))


if __name__ == "__main__":
    run(report)
