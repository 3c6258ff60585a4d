"""How clusters compare with classes, and what can be said of clusters when there are no classes.

Everything with labels starts from the contingency table `counts`, int64 (classes, clusters): how many images of each
class lie in each cluster.
"""

from dataclasses import dataclass

import numpy as np

from stages.plumbing.errors import UserError

CONFIDENT = 0.99  # the threshold from which the paper's self-labeling trusts a prediction
ROWS_AT_ONCE = 16384  # of probabilities
TOP = 5  # guesses that `top5` allows


@dataclass(frozen=True)
class Assignment:
    """Each image's cluster, how sure it is (largest probability) and by how much (lead over the second largest)."""

    cluster: np.ndarray  # int32 (N,)
    confidence: np.ndarray  # float32 (N,)
    margin: np.ndarray  # float32 (N,)
    mean: np.ndarray  # float64 (clusters,), the mean probability of each cluster


def assign(probabilities: np.ndarray) -> Assignment:
    """Read clusters off probabilities (N, clusters), usually a float16 memory map. Of equal ones the first wins.

    Raises UserError if one is not finite.
    """
    count, clusters = probabilities.shape
    cluster = np.empty(count, dtype=np.int32)
    confidence, margin = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.float32)
    total = np.zeros(clusters)
    for start in range(0, count, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        chunk = np.asarray(probabilities[part], dtype=np.float32)
        if not np.isfinite(chunk).all():
            raise UserError("probabilities hold NaN or infinity: the training diverged; lower its learning rate")
        cluster[part] = chunk.argmax(axis=1)
        # The column of zeros gives a lone cluster a second largest, too.
        second, first = np.partition(np.pad(chunk, ((0, 0), (1, 0))), -2, axis=1)[:, -2:].T
        confidence[part], margin[part] = first, first - second
        total += chunk.sum(axis=0, dtype=np.float64)
    return Assignment(cluster, confidence, margin, total / count)


def contingency(labels: np.ndarray, clusters: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Labels and clusters, int (N,) each, counted into a table int64 of shape (classes, clusters)."""
    pairs = np.asarray(labels, dtype=np.int64) * shape[1] + clusters
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def hungarian(counts: np.ndarray) -> np.ndarray:
    """The one-to-one matching of clusters with classes under which most images agree (Kuhn, 1955).

    Returns int64 (clusters,): the class of each cluster, −1 where it has none. That holds for what is left over when
    clusters outnumber classes, and for pairs without a common image, which say nothing about each other.
    """
    from scipy.optimize import linear_sum_assignment  # without labels nobody needs to wait for it

    classes, clusters = linear_sum_assignment(counts, maximize=True)
    matched = np.full(counts.shape[1], -1)
    matched[clusters] = np.where(counts[classes, clusters] > 0, classes, -1)
    return matched


def majority(counts: np.ndarray) -> np.ndarray:
    """The most common class of each cluster, int64 (clusters,), −1 for an empty one. Several may share a class."""
    return np.where(counts.any(axis=0), counts.argmax(axis=0), -1)


def accuracy(counts: np.ndarray, class_of: np.ndarray) -> float:
    """Share of all images that lie in a cluster of their own class. Images in clusters without class (−1) are wrong."""
    named = np.flatnonzero(class_of >= 0)
    return float(counts[class_of[named], named].sum() / counts.sum())


def top_accuracy(probabilities: np.ndarray, labels: np.ndarray, class_of: np.ndarray, k: int = 5) -> float:
    """Share of images whose class is among those of their `k` most probable clusters.

    probabilities: (N, clusters), usually a float16 memory map; labels: int (N,); class_of: int (clusters,), −1 where a
    cluster has no class, no class twice. Of equally probable clusters the first ones count.
    """
    clusters = np.arange(len(class_of))
    right = 0
    for start in range(0, len(labels), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        own = class_of[None, :] == labels[part, None]
        # Counting what ranks above the own cluster takes one look at each number; sorting them all takes many.
        chunk = np.asarray(probabilities[part], dtype=np.float32)
        value = np.where(own, chunk, np.inf).min(axis=1, keepdims=True)
        above = (chunk > value) | ((chunk == value) & (clusters < own.argmax(axis=1)[:, None]))
        right += int((own.any(axis=1) & (above.sum(axis=1) < k)).sum())
    return right / len(labels)


def confusion_matrix(counts: np.ndarray, matched: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What became of the images of each class: rows are true classes, each a distribution.

    Returns float64 (classes, classes + rest) and the rest, int64: the clusters that hold images and have no class. The
    first columns are the classes in order, as predicted through `matched`. Rows sum to 1, to 0 for a class without
    images.
    """
    classes = len(counts)
    table = np.zeros((classes, classes))
    named = np.flatnonzero(matched >= 0)
    table[:, matched[named]] = counts[:, named]
    rest = np.flatnonzero((matched < 0) & counts.any(axis=0))
    table = np.hstack([table, counts[:, rest]])
    return table / np.maximum(table.sum(axis=1, keepdims=True), 1), rest


def score(clusters: np.ndarray, count: int, labels: np.ndarray | None, classes: list[str]) -> dict:
    """All there is to say of a split's clusters, int (N,) below `count`: their spread, and with labels how they agree.

    labels: int (N,) below len(classes), or None. `acc` is the accuracy under the Hungarian matching of this split;
    `recall` has the classes that have images. `majority_acc` comes only when clusters outnumber classes: it grows with
    the number of clusters (with one for every image it is 1), so it must not pass for an accuracy.
    """
    # Half a second of imports that runs without labels, and all that only reads predictions, need not wait for.
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

    if labels is None:
        return occupancy(clusters, count)
    counts = contingency(labels, clusters, (len(classes), count))
    matched = hungarian(counts)
    table, _ = confusion_matrix(counts, matched)
    scores = {
        "acc": accuracy(counts, matched),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
        "ami": float(adjusted_mutual_info_score(labels, clusters)),
    }
    if count > len(classes):
        scores["majority_acc"] = accuracy(counts, majority(counts))
    recall = {classes[i]: float(table[i, i]) for i in np.flatnonzero(counts.any(axis=1))}
    return scores | {"recall": recall} | occupancy(clusters, count)


def score_probabilities(
    probabilities: np.ndarray, assigned: Assignment, labels: np.ndarray | None, classes: list[str]
) -> dict:
    """`score` and `certainty` of probabilities (N, clusters), and `top5` where there are labels of more classes.

    assigned: what `assign` reads off them. labels: int (N,) below len(classes), or None.
    """
    clusters = probabilities.shape[1]
    scores = score(assigned.cluster, clusters, labels, classes)
    if labels is not None and len(classes) > TOP:
        class_of = hungarian(contingency(labels, assigned.cluster, (len(classes), clusters)))
        scores[f"top{TOP}"] = top_accuracy(probabilities, labels, class_of, TOP)
    return scores | certainty(assigned)


def occupancy(clusters: np.ndarray, count: int) -> dict[str, float | int | list[int]]:
    """How images, int (N,), spread over `count` clusters: how many hold any, the largest and smallest share, sizes."""
    sizes = np.bincount(clusters, minlength=count)
    return {
        "clusters_alive": int(np.count_nonzero(sizes)),
        "largest": float(sizes.max() / len(clusters)),
        "smallest": float(sizes.min() / len(clusters)),
        "sizes": sizes.tolist(),
    }


def certainty(assignment: Assignment) -> dict[str, float]:
    """How sure the predictions are, without labels.

    `confidence`: mean; `confident`: share above 0.99; `entropy`: of the mean assignment, as a share of its maximum
    (1: all clusters equally used, 0: only one).
    """
    mean = assignment.mean[assignment.mean > 0]
    clusters = len(assignment.mean)
    return {
        "confidence": float(assignment.confidence.mean(dtype=np.float64)),
        "confident": float(np.mean(assignment.confidence > CONFIDENT)),
        "entropy": float(-(mean * np.log(mean)).sum() / np.log(clusters)) if clusters > 1 else 0.0,
    }
