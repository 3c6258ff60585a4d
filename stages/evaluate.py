"""Stage evaluate: the only one that scores against labels, and at work without any."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from stages.images.duplicates import read_duplicates
from stages.images.store import read_labels
from stages.plumbing.command import run
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_file, output_folder, write_json
from stages.plumbing.params import Block, Count, Seed
from stages.scoring.matching import assign, certainty, confusion_matrix, contingency, hungarian, score, top_accuracy
from stages.scoring.names import JUNK, Names, model_id, read_names
from stages.scoring.purity import knn_accuracy, purity
from stages.scoring.tables import assignment_table, confusion_rows

SPLITS = ("test", "train")
PURITY_AT = (1, 5, 20)  # in metrics.json
PURITY_CURVE = (1, 2, 3, 5, 10, 20, 30, 50)  # in plots/purity.csv
TOP = 5
PRINTED = [
    "acc",
    "nmi",
    "ari",
    "top5",
    "majority_acc",
    "clusters_alive",
    "largest",
    "smallest",
    "confidence",
    "confident",
]


class Evaluate(Block):
    """The block `evaluate`; what each key does is said in params.yaml."""

    knn: Count
    sample: Count


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    evaluate: Evaluate


def evaluate(
    params: Params,
    images: Path = Path("data/images"),
    labels: Path = Path("data/labels"),
    embeddings: Path = Path("data/embeddings"),
    neighbors: Path = Path("data/neighbors"),
    kmeans: Path = Path("data/kmeans"),
    scan: Path = Path("data/scan"),
    selflabel: Path = Path("data/selflabel"),
    names: Path = Path("names.yaml"),
    metrics: Path = Path("reports/metrics.json"),
    computed: Path = Path("reports/computed.json"),
    confusion: Path = Path("reports/confusion.csv"),
    plots: Path = Path("reports/plots"),
    assignments: Path = Path("reports/assignments.csv"),
    parquet: Path = Path("reports/assignments.parquet"),
) -> None:
    """Score k-means, SCAN, self-label and the embeddings: against labels where there are any, else without."""
    known, classes = read_labels(labels)
    vectors, near, hard, soft = {}, {}, {}, {"scan": {}, "selflabel": {}}
    for split in SPLITS:
        vectors[split] = np.load(embeddings / f"{split}.npy", mmap_mode="r")
        near[split] = np.load(neighbors / f"{split}.npy", mmap_mode="r")
        hard[split] = np.load(kmeans / f"{split}.npy")
        soft["scan"][split] = np.load(scan / f"probabilities-{split}.npy", mmap_mode="r")
        soft["selflabel"][split] = np.load(selflabel / f"probabilities-{split}.npy", mmap_mode="r")
        results = {embeddings: vectors, neighbors: near, kmeans: hard, scan: soft["scan"], selflabel: soft["selflabel"]}
        results[labels] = known
        check(split, {folder: arrays[split] for folder, arrays in results.items() if split in arrays})
        if split in known and not ((known[split] >= 0) & (known[split] < len(classes))).all():
            raise UserError(
                f"{labels / split}.npy has labels from {known[split].min()} to {known[split].max()}, but classes.json "
                f"beside it names {len(classes)} classes; labels count from 0, and every one needs a name"
            )

    clusters = 1 + max(int(cluster.max()) for cluster in hard.values())  # k-means leaves no cluster empty
    found = {"labelled": bool(known)}
    found["kmeans"] = {split: score(hard[split], clusters, known.get(split), classes) for split in SPLITS}
    for name, probabilities in soft.items():
        assigned = {split: assign(rows) for split, rows in probabilities.items()}
        clusters = probabilities["test"].shape[1]
        found[name] = {
            split: score(part.cluster, clusters, known.get(split), classes)
            | score_ranking(probabilities[split], part.cluster, known.get(split), len(classes))
            | certainty(part)
            for split, part in assigned.items()
        }
    found["embeddings"], purities = score_embeddings(vectors, known, len(classes), params)

    # From here on it is about self-label's clusters, the last assigned. Each gets one name, whatever the split.
    split = next((split for split in SPLITS if split in known), None)
    shape = (len(classes), clusters) if split else (0, clusters)
    counts = contingency(known[split], assigned[split].cluster, shape) if split else np.zeros(shape, dtype=np.int64)
    class_of = hungarian(counts)
    table, unmatched = confusion_matrix(counts, class_of)
    given = read_names(names, clusters, model_id(selflabel / "model.pt"))
    called = call([classes[i] if i >= 0 else "" for i in class_of], given)
    if given.given:
        found["names"] = score_names(given, assigned["test"].cluster)

    with output_file(metrics) as path:
        # Six digits, so that differences between two runs are about results.
        write_json(path, json.loads(json.dumps(found), parse_float=lambda digits: round(float(digits), 6)))
    with output_file(computed) as path:
        write_json(path, computed_by(embeddings, scan, selflabel))
    with output_file(confusion) as path, path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["class", *classes, *(f"cluster {i}" for i in unmatched)])
        lines.writerows([name, *row] for name, row in zip(classes, table.round(6).tolist()))
    with output_folder(plots) as folder:
        sizes = {"cluster": called, "images": found["selflabel"]["test"]["sizes"]}
        pd.DataFrame({"number": range(clusters), **sizes}).to_csv(folder / "sizes.csv", index=False)
        pd.DataFrame(purities.items(), columns=["k", "purity"]).round(6).to_csv(folder / "purity.csv", index=False)
        # Without labels the header alone: DVC complains of a plot without a file.
        truth, cluster = (known[split], assigned[split].cluster) if split else (np.empty(0, int), np.empty(0, int))
        rows = confusion_rows(truth, cluster, classes, called, params.evaluate.sample)
        rows.to_csv(folder / "confusion.csv", index=False)
    heads = {split: scan / f"agreement-{split}.npy" for split in SPLITS}
    parts = [
        assignment_table(split, part, called, near[split], np.load(heads[split]) if heads[split].exists() else None)
        for split, part in sorted(assigned.items(), reverse=True)
    ]
    write_assignments(assignments, parquet, with_files(pd.concat(parts, ignore_index=True), images))
    if given.stale:
        print(f"{names}: it was written for another model, so its names are left out; name the groups on the new page")
    print_summary(found)


def computed_by(*folders: Path) -> dict[str, str]:
    """What each training stage was computed by, as its folder's meta.json has it, in a line each.

    Metrics tell what came out; this tells why the same seed may give other ones on another machine.
    """
    said: dict[str, str] = {}
    for folder in folders:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        for stage, of in meta.items():
            if isinstance(of, dict):
                said[stage] = f"{of['precision']}, {of['device']}, {of['processor']}, torch {of['torch']}"
    return said


def call(matched: list[str], given: Names) -> list[str]:
    """What to call each cluster: the name that people gave it, else the class it is matched with, else its number."""
    lowest = [matched[group] or f"cluster {group}" for group in given.group]
    return [name or other for name, other in zip(given.name, lowest, strict=True)]


def score_names(given: Names, cluster: np.ndarray) -> dict[str, float | int]:
    """What people made of the clusters, int (N,): how many groups, and which share of the images is junk or unnamed."""
    name = np.array(given.name, dtype=object)[cluster]
    groups = {group for group, of in zip(given.group, given.name, strict=True) if of != JUNK}
    return {"groups": len(groups), "junk": float(np.mean(name == JUNK)), "unnamed": float(np.mean(name == ""))}


def with_files(table: pd.DataFrame, images: Path) -> pd.DataFrame:
    """The table with the first image that an image is a duplicate of, and with the files where there are any."""
    original = {(copy.split, copy.row): (copy.of_split, copy.of_row) for copy in read_duplicates(images)}
    places = list(zip(table["split"], table["row"].tolist()))
    first = [original.get(place) for place in places]
    if not (files := images / "index.csv").exists():
        return table.assign(duplicate_of=[f"{place[0]} {place[1]}" if place else "" for place in first])
    # File names are bytes; those that are no UTF-8 come out as they went in, which only plain objects allow.
    with open(files, newline="", encoding="utf-8", errors="surrogateescape") as file:
        path = {(row["split"], int(row["row"])): row["path"] for row in csv.DictReader(file)}
    table.insert(0, "path", pd.Series([path[place] for place in places], table.index, dtype=object))
    return table.assign(duplicate_of=pd.Series([path.get(place, "") for place in first], table.index, dtype=object))


def write_assignments(as_csv: Path, as_parquet: Path, table: pd.DataFrame) -> None:
    """The same table twice: for people and spreadsheets, and for tools."""
    with output_file(as_csv) as path:
        table.to_csv(path, index=False, lineterminator="\n", errors="surrogateescape")
    with output_file(as_parquet) as path:
        for name in {"path", "duplicate_of"} & set(table):  # Parquet knows texts only, not any bytes
            table[name] = [os.fsencode(text).decode(errors="backslashreplace") for text in table[name]]
        table.to_parquet(path, index=False)


def check(split: str, results: dict[Path, np.ndarray]) -> None:
    """Raise UserError unless the results for a split, keyed by their folders, are about equally many images."""
    (first, count), *others = ((folder, len(values)) for folder, values in results.items())
    for folder, other in others:
        if other != count:
            raise UserError(
                f"{split}: {folder} is about {other} images, {first} about {count}; they come from different data: "
                "run the stages before this one again (dvc repro does)"
            )


def score_ranking(
    probabilities: np.ndarray, clusters: np.ndarray, labels: np.ndarray | None, classes: int
) -> dict[str, float]:
    """`top5`, where there are labels of more than five classes. probabilities: (N, K); clusters, labels: int (N,)."""
    if labels is None or classes <= TOP:
        return {}
    class_of = hungarian(contingency(labels, clusters, (classes, probabilities.shape[1])))
    return {f"top{TOP}": top_accuracy(probabilities, labels, class_of, TOP)}


def score_embeddings(
    vectors: dict, known: dict, classes: int, params: Params
) -> tuple[dict[str, float], dict[int, float]]:
    """Purity of the neighbours of train images, and accuracy of test images by theirs in train, as far as labels go.

    Returns the metrics, and purity against the number of neighbours.
    Of a sample of either split, so that this stays cheap, but searched among all of train, so that it is exact.
    """
    found, purities, k = {}, {}, params.evaluate.knn
    rows = {
        split: np.sort(np.random.default_rng(params.seed).permutation(len(vectors[split]))[: params.evaluate.sample])
        for split in SPLITS
    }
    if "train" in known:
        purities = purity(vectors["train"], known["train"], rows["train"], PURITY_CURVE)
        found |= {f"purity_{k}": purities[k] for k in PURITY_AT if k in purities}
    if len(known) == len(SPLITS):
        if k > len(vectors["train"]):
            k = len(vectors["train"])
            print(f"evaluate.knn = {params.evaluate.knn} cut to {k}, all training images")
        queries = vectors["test"][rows["test"]], known["test"][rows["test"]]
        found["knn_acc"] = knn_accuracy(*queries, vectors["train"], known["train"], k, classes)
    return found, purities


def print_summary(found: dict) -> None:
    """The metrics in short, and what is missing from them."""
    rows = {f"{name} {split}": found[name][split] for name in ("kmeans", "scan", "selflabel") for split in SPLITS}
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=PRINTED).dropna(axis="columns", how="all")
    print(table.to_string(float_format="{:.4f}".format, na_rep="-"))
    if found["embeddings"]:
        print("embeddings:", *(f"{name} {value:.4f}" for name, value in found["embeddings"].items()), sep="  ")
    if not found["labelled"]:
        print("no labels: accuracies, the confusion matrix and the quality of neighbours are left out")
    missing = [f"purity_{k}" for k in PURITY_AT if f"purity_{k}" not in found["embeddings"]]
    if found["labelled"] and missing:
        print(f"{', '.join(missing)} left out: train has no labels or too few images")


if __name__ == "__main__":
    run(evaluate)
