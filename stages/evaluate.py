"""Stage evaluate: the only one that scores against labels, and at work without any."""

import json
from pathlib import Path

import numpy as np

from stages.images.store import read_labels
from stages.plumbing.command import run
from stages.plumbing.outputs import output_file, output_folder, write_json, write_scores
from stages.plumbing.params import Block, Count, Seed
from stages.scoring import tables
from stages.scoring.matching import contingency, hungarian
from stages.scoring.names import model_id, read_names, score_names
from stages.scoring.purity import score_embeddings
from stages.scoring.results import Results, check_counts, check_labels, read_results, score_models

SPLITS = ("test", "train")


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
    folders = (embeddings, neighbors, kmeans, scan, selflabel)
    results = {split: read_results(split, *folders) for split in SPLITS}
    for split, values in known.items():
        check_counts(split, {embeddings: results[split].embeddings, labels: values})
        check_labels(labels / f"{split}.npy", values, len(classes))
    scores, assigned = score_models(results, known, classes)
    scores["embeddings"], purities = score_vectors(results, known, len(classes), params)

    # From here on it is about self-label's clusters. Each gets one name, whatever the split.
    split = next((split for split in SPLITS if split in known), None)
    truth, cluster = (known[split], assigned[split].cluster) if split else (np.empty(0, int), np.empty(0, int))
    shape = len(classes), results["test"].selflabel.shape[1]
    counts = contingency(truth, cluster, shape)
    # By all that have labels: a small test split alone would name a cluster by one or two images.
    everywhere = [contingency(values, assigned[of].cluster, shape) for of, values in known.items()]
    class_of = hungarian(sum(everywhere, np.zeros(shape, np.int64)))
    given = read_names(names, len(class_of), model_id(selflabel / "model.pt"))
    called = given.call([classes[number] if number >= 0 else "" for number in class_of])
    if given.given:
        scores["names"] = score_names(given, assigned["test"].cluster)

    with output_file(metrics) as path:
        write_scores(path, scores)
    with output_file(computed) as path:
        write_json(path, computed_by(embeddings, scan, selflabel))
    with output_file(confusion) as path:
        tables.write_rows(path, tables.confusion_table(counts, class_of, classes))
    with output_folder(plots) as folder:
        sample = tables.confusion_sample(truth, cluster, classes, called, params.evaluate.sample)
        tables.write_plots(folder, called, scores["selflabel"]["test"]["sizes"], purities, sample)
    columns = [
        tables.assignment_columns(split, assigned[split], called, results[split].neighbors, results[split].heads)
        for split in reversed(SPLITS)
    ]
    tables.write_assignments(assignments, parquet, tables.assignment_table(columns, images))
    if given.stale:
        print(f"{names}: it was written for another model, so its names are left out; name the groups on the new page")
    print(tables.summary(scores))


def score_vectors(
    results: dict[str, Results], known: dict[str, np.ndarray], classes: int, params: Params
) -> tuple[dict[str, float], dict[int, float]]:
    """The scores of the embeddings, and purity against the number of neighbours; {} where labels are missing."""
    vectors = {split: of.embeddings for split, of in results.items()}
    p, train = params.evaluate, len(vectors["train"])
    scores, purities = score_embeddings(vectors, known, classes, p.knn, p.sample, params.seed)
    if "knn_acc" in scores and p.knn > train:
        print(f"evaluate.knn = {p.knn} cut to {train}, all training images")
    return scores, purities


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


if __name__ == "__main__":
    run(evaluate)
