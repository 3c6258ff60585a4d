"""Stage evaluate: the only one that scores against labels, and at work without any."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd

from stages.command import output_file, run
from stages.errors import UserError
from stages.images.store import read_labels
from stages.params import Block, Count, Seed
from stages.scoring.matching import assign, certainty, confusion_matrix, contingency, hungarian, score, top_accuracy
from stages.scoring.neighbors import knn_accuracy, purity

SPLITS = ("test", "train")
PURITY_AT = (1, 5, 20)
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
    images: Path,
    labels: Path,
    embeddings: Path,
    kmeans: Path,
    scan: Path,
    selflabel: Path,
    metrics: Path,
    confusion: Path,
    assignments: Path,
    params: Params,
) -> None:
    """Score k-means, SCAN, self-label and the embeddings: against labels where there are any, else without."""
    known, classes = read_labels(labels)
    vectors, hard, soft = {}, {}, {"scan": {}, "selflabel": {}}
    for split in SPLITS:
        vectors[split] = np.load(embeddings / f"{split}.npy", mmap_mode="r")
        hard[split] = np.load(kmeans / f"{split}.npy")
        soft["scan"][split] = np.load(scan / f"probabilities-{split}.npy", mmap_mode="r")
        soft["selflabel"][split] = np.load(selflabel / f"probabilities-{split}.npy", mmap_mode="r")
        results = {embeddings: vectors, kmeans: hard, scan: soft["scan"], selflabel: soft["selflabel"], labels: known}
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
    found["embeddings"] = score_embeddings(vectors, known, len(classes), params)

    # From here on it is about self-label's clusters, the last assigned. Each gets one name, whatever the split.
    split = next((split for split in SPLITS if split in known), None)
    shape = (len(classes), clusters) if split else (0, clusters)
    counts = contingency(known[split], assigned[split].cluster, shape) if split else np.zeros(shape, dtype=np.int64)
    class_of = hungarian(counts)
    table, unmatched = confusion_matrix(counts, class_of)
    names = np.array([classes[i] if i >= 0 else "" for i in class_of], dtype=object)

    with output_file(metrics) as path:
        # Six digits, so that differences between two runs are about results.
        brief = json.loads(json.dumps(found), parse_float=lambda digits: round(float(digits), 6))
        path.write_text(json.dumps(brief, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with output_file(confusion) as path, path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["class", *classes, *(f"cluster {i}" for i in unmatched)])
        lines.writerows([name, *row] for name, row in zip(classes, table.round(6).tolist()))
    with output_file(assignments) as path:
        parts = [
            pd.DataFrame(
                {
                    "row": np.arange(len(part.cluster)),
                    "split": split,
                    "cluster": part.cluster,
                    "class": names[part.cluster],
                    "confidence": part.confidence.astype(np.float64).round(4),
                    "margin": part.margin.astype(np.float64).round(4),
                }
            )
            for split, part in sorted(assigned.items(), reverse=True)
        ]
        table = pd.concat(parts)
        if (files := images / "index.csv").exists():
            # File names are bytes, and may be called NA; those that are no UTF-8 come out as they went in.
            found_in = pd.read_csv(files, keep_default_na=False, encoding_errors="surrogateescape")
            table = table.merge(found_in, how="left", on=["split", "row"])
        table.to_csv(path, index=False, lineterminator="\n", errors="surrogateescape")
    print_summary(found)


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


def score_embeddings(vectors: dict, known: dict, classes: int, params: Params) -> dict[str, float]:
    """Purity of the neighbours of train images, and accuracy of test images by theirs in train, as far as labels go.

    Of a sample of either split, so that this stays cheap, but searched among all of train, so that it is exact.
    """
    found, k = {}, params.evaluate.knn
    rows = {
        split: np.sort(np.random.default_rng(params.seed).permutation(len(vectors[split]))[: params.evaluate.sample])
        for split in SPLITS
    }
    if "train" in known:
        purities = purity(vectors["train"], known["train"], rows["train"], PURITY_AT)
        found |= {f"purity_{k}": value for k, value in purities.items()}
    if len(known) == len(SPLITS):
        if k > len(vectors["train"]):
            raise UserError(f"evaluate.knn = {k}, but train holds {len(vectors['train'])} images; lower evaluate.knn")
        queries = vectors["test"][rows["test"]], known["test"][rows["test"]]
        found["knn_acc"] = knn_accuracy(*queries, vectors["train"], known["train"], k, classes)
    return found


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
