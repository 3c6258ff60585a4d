"""What was made of the images of each split: read, checked to be about the same images, and scored."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.plumbing.errors import UserError
from stages.scoring.matching import Assignment, assign, score, score_probabilities


class Results(NamedTuple):
    """What there is of the N images of a split."""

    embeddings: np.ndarray  # float32 (N, D)
    neighbors: np.ndarray  # int32 (N, K)
    kmeans: np.ndarray  # clusters, int32 (N,)
    scan: np.ndarray  # probabilities, float16 (N, clusters)
    selflabel: np.ndarray  # the same
    heads: np.ndarray | None  # float16 (N,), the share of scan's averaged heads that agree; None where it kept one


def read_results(split: str, embeddings: Path, neighbors: Path, kmeans: Path, scan: Path, selflabel: Path) -> Results:
    """The results for a split. UserError unless all are about equally many images."""
    heads = scan / f"agreement-{split}.npy"
    results = Results(
        np.load(embeddings / f"{split}.npy", mmap_mode="r"),
        np.load(neighbors / f"{split}.npy", mmap_mode="r"),
        np.load(kmeans / f"{split}.npy"),
        np.load(scan / f"probabilities-{split}.npy", mmap_mode="r"),
        np.load(selflabel / f"probabilities-{split}.npy", mmap_mode="r"),
        np.load(heads) if heads.exists() else None,
    )
    check_counts(split, dict(zip((embeddings, neighbors, kmeans, scan, selflabel), results)))
    return results


def check_counts(split: str, results: dict[Path, np.ndarray]) -> None:
    """Raise UserError unless the results for a split, keyed by their folders, are about equally many images."""
    (first, count), *others = ((folder, len(values)) for folder, values in results.items())
    for folder, other in others:
        if other != count:
            raise UserError(
                f"{split}: {folder} is about {other} images, {first} about {count}; they come from different data: "
                "run the stages before this one again (dvc repro does)"
            )


def check_labels(path: Path, labels: np.ndarray, classes: int) -> None:
    """Raise UserError unless every label read from `path` has a name."""
    if not ((labels >= 0) & (labels < classes)).all():
        raise UserError(
            f"{path} has labels from {labels.min()} to {labels.max()}, but classes.json beside it names {classes} "
            "classes; labels count from 0, and every one needs a name"
        )


def score_models(
    results: dict[str, Results], known: dict[str, np.ndarray], classes: list[str]
) -> tuple[dict, dict[str, Assignment]]:
    """The scores of k-means, SCAN and self-label, and the clusters that the last one assigns, all by split."""
    clusters = 1 + max(int(of.kmeans.max()) for of in results.values())  # k-means leaves no cluster empty
    scores = {"labelled": bool(known)}
    scores["kmeans"] = {split: score(of.kmeans, clusters, known.get(split), classes) for split, of in results.items()}
    for model in ("scan", "selflabel"):
        soft = {split: getattr(of, model) for split, of in results.items()}
        assigned = {split: assign(probabilities) for split, probabilities in soft.items()}
        scores[model] = {
            split: score_probabilities(soft[split], part, known.get(split), classes) for split, part in assigned.items()
        }
    return scores, assigned
