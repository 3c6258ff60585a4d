"""Stage report: figures and one self-contained page to look at."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages.images.duplicates import read_duplicates
from stages.images.store import Concatenated, read_images, read_labels, read_meta
from stages.page import figures as drawn
from stages.page.exhibit import GOLDEN, Cluster, exhibit
from stages.page.template import page as compose
from stages.plumbing import live
from stages.plumbing.command import run
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_file, output_folder
from stages.plumbing.params import Block, Count
from stages.scoring.matching import Assignment, assign, contingency, hungarian
from stages.scoring.names import JUNK, Names, model_id, read_names

MODELS = ("kmeans", "scan", "selflabel")
SPLITS = ("train", "test")
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
    found = json.loads(metrics.read_text(encoding="utf-8"))
    groups = describe(images, labels, selflabel, params.report.prototypes)
    folders = {"pretext": pretext, "scan": scan, "selflabel": selflabel}
    histories = {name: pd.read_csv(folder / "history.csv", dtype=float) for name, folder in folders.items()}
    histories = {name: history for name, history in histories.items() if len(history)}  # the others trained nothing
    with confusion.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    table = np.array([line[1:] for line in lines], dtype=float)

    charts = {"curves": partial(drawn.curves, histories)} if histories else {}
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
    html = write_page(images, labels, embeddings, selflabel, names, found, groups, shown, params.report.prototypes)
    with output_file(page) as path:
        path.write_text(html, encoding="utf-8")
    print(f"open {page} in a browser ({len(html) / 1e6:.1f} MB)")


def write_page(
    images: Path,
    labels: Path,
    embeddings: Path,
    selflabel: Path,
    names: Path,
    metrics: dict,
    groups: list[drawn.Group],
    figures: dict[str, tuple[bytes, bytes]],
    count: int,
) -> str:
    """The page, about the images of train and test together; `groups` has the clusters in their order."""
    known, classes = read_labels(labels)
    probabilities = read_splits(selflabel, "probabilities-{}.npy")
    pixels, vectors = read_splits(images, "{}.npy"), read_splits(embeddings, "{}.npy")
    starts = {split: int(end) - len(part) for split, end, part in zip(SPLITS, pixels.ends, pixels.parts, strict=True)}
    assigned = assign(probabilities)
    model = model_id(selflabel / "model.pt")
    clusters = list_clusters(groups, assigned, classes, read_names(names, len(groups), model))
    copies = [copy for copy in read_duplicates(images) if {copy.split, copy.of_split} <= starts.keys()]
    pairs = [(starts[copy.of_split] + copy.of_row, starts[copy.split] + copy.row, copy.kind) for copy in copies]
    # Those that reach into another split come first: they make scores of test images look better than they are.
    pairs.sort(key=lambda pair: (pair[0] < starts["test"]) == (pair[1] < starts["test"]))
    shown = exhibit(clusters, assigned, probabilities, pixels, vectors, pairs, count)

    truth = np.concatenate([known.get(split, np.full(len(part), -1)) for split, part in zip(SPLITS, pixels.parts)])
    place = [f"{split} {row}" for split, part in zip(SPLITS, pixels.parts) for row in range(len(part))]
    if (index := images / "index.csv").exists():
        with open(index, newline="", encoding="utf-8", errors="replace") as file:
            for line in csv.DictReader(file):
                if line["split"] in starts:
                    place[starts[line["split"]] + int(line["row"])] = line["path"]
    numbers = np.array(shown.numbers)
    columns = {
        "place": [place[number] for number in shown.numbers],
        "cluster": assigned.cluster[numbers].tolist(),
        "confidence": assigned.confidence[numbers].astype(float).round(4).tolist(),
        "margin": assigned.margin[numbers].astype(float).round(4).tolist(),
        "truth": truth[numbers].tolist(),
    }
    counts = {kind: sum(copy.kind == kind for copy in copies) for kind in ("exact", "near")}
    counts["test"] = sum((copy.split, copy.of_split) == ("test", "train") for copy in copies)
    seconds = {stage: taken for stage, taken in live.seconds_by_stage().items() if stage in TIMED}
    return compose(read_meta(images).name, metrics, shown, columns, classes, model, figures, counts, seconds)


def read_splits(folder: Path, name: str) -> Concatenated:
    """The arrays of all SPLITS in a folder, memory-mapped, one after the other."""
    return Concatenated([np.load(folder / name.format(split), mmap_mode="r") for split in SPLITS])


def list_clusters(groups: list[drawn.Group], assigned: Assignment, classes: list[str], given: Names) -> list[Cluster]:
    """Every cluster over all images with what is known of it and what people made of it, in the order of `groups`."""
    sizes = np.bincount(assigned.cluster, minlength=len(groups))
    sure = np.bincount(assigned.cluster, assigned.confidence, minlength=len(groups)) / np.maximum(sizes, 1)
    clusters = []
    for place, group in enumerate(groups):
        number = group.number
        first = given.group[number]
        junk = given.name[number] == JUNK
        merged = first != number and not junk
        clusters.append(
            Cluster(
                number=number,
                called=group.name,
                name="" if merged or junk else given.name[number],
                merge=first if merged else None,
                junk=junk,
                klass=classes.index(group.name) if group.name in classes else -1,
                note=group.note,
                size=int(sizes[number]),
                share=float(sizes[number] / len(assigned.cluster)),
                confidence=float(sure[number]),
                hue=place * GOLDEN % 360,
            )
        )
    return clusters


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
