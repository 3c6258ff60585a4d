"""How much nearest neighbours tell about classes: what SCAN builds on, measured with labels."""

from collections.abc import Sequence

import numpy as np

from stages.neighbors.exact import nearest, nearest_to

TEMPERATURE = 0.07
PURITY_AT = (1, 5, 20)  # neighbours, in the metrics
PURITY_CURVE = (1, 2, 3, 5, 10, 20, 30, 50)  # and in the plot


def score_embeddings(
    vectors: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: int, k: int, sample: int, seed: int
) -> tuple[dict[str, float], dict[int, float]]:
    """Purity of the neighbours of train images, and accuracy of test images by theirs in train, as far as labels go.

    vectors: float32 (N, D) of train and of test, labels: int (N,) of none, either or both. k: the neighbours that vote,
    at most all of train. Returns the metrics, and purity against the number of neighbours.
    Of a sample of either split, so that this stays cheap, but searched among all of train, so that it is exact.
    """
    found, purities = {}, {}
    train = vectors["train"]
    rows = {split: np.sort(np.random.default_rng(seed).permutation(len(of))[:sample]) for split, of in vectors.items()}
    if "train" in labels:
        purities = purity(train, labels["train"], rows["train"], PURITY_CURVE)
        found |= {f"purity_{k}": purities[k] for k in PURITY_AT if k in purities}
    if {"train", "test"} <= labels.keys():
        queries = vectors["test"][rows["test"]], labels["test"][rows["test"]]
        found["knn_acc"] = knn_accuracy(*queries, train, labels["train"], min(k, len(train)), classes)
    return found, purities


def purity(vectors: np.ndarray, labels: np.ndarray, rows: np.ndarray, at: Sequence[int]) -> dict[int, float]:
    """Share of the k nearest other images that carry the label of the image they are neighbours of, for each k in `at`.

    vectors: float32 (N, D) of unit length. labels: int (N,). rows: int (Q,), the images asked for; their neighbours are
    searched exactly among all N. A k that exceeds the N − 1 others is left out: fewer neighbours under its name would
    not compare.
    """
    possible = [k for k in at if k < len(vectors)]
    neighbors = nearest(vectors, max(possible, default=0), rows)
    same = labels[neighbors] == labels[rows, None]
    return {k: float(same[:, :k].mean()) for k in possible}


def knn_accuracy(
    queries: np.ndarray, labels: np.ndarray, base: np.ndarray, base_labels: np.ndarray, k: int, classes: int
) -> float:
    """Share of `queries`, float32 (Q, D), whose label their `k` nearest of `base`, float32 (N, D), elect."""
    similarity, neighbors = nearest_to(queries, base, k)
    return float(np.mean(vote(similarity, base_labels[neighbors], classes) == labels))


def vote(similarity: np.ndarray, neighbor_labels: np.ndarray, classes: int) -> np.ndarray:
    """The class that the nearest neighbours elect, each with weight exp(similarity / 0.07).

    similarity: float (Q, k), cosine. neighbor_labels: int (Q, k). Returns int64 (Q,); of equal votes the lower class
    wins. Source: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, 2018,
    arXiv 1805.01978, section 3.4.
    """
    ballots = np.arange(len(similarity))[:, None] * classes + neighbor_labels
    weights = np.exp(similarity.astype(np.float64) / TEMPERATURE)
    votes = np.bincount(ballots.ravel(), weights=weights.ravel(), minlength=len(similarity) * classes)
    return votes.reshape(-1, classes).argmax(axis=1)
