"""What is known of every image, as a table for people and their tools."""

import numpy as np
import pandas as pd

from stages.scoring.matching import Assignment

CHUNK = 2**16  # rows of neighbours looked at together
DIGITS = 4


def agreement(neighbors: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """The share of each image's neighbours, int (N, K), that are in its own cluster, int (N,): float64 (N,).

    NaN for all where there are no neighbours (K = 0).
    """
    if neighbors.shape[1] == 0:
        return np.full(len(cluster), np.nan)
    share = np.empty(len(cluster))
    for start in range(0, len(cluster), CHUNK):
        part = slice(start, start + CHUNK)
        share[part] = (cluster[neighbors[part]] == cluster[part, None]).mean(axis=1)
    return share


def assignment_table(
    split: str, assigned: Assignment, names: list[str], neighbors: np.ndarray, heads: np.ndarray | None
) -> pd.DataFrame:
    """A row for every image of a split.

    names: what to call each cluster. neighbors: int (N, K). heads: float (N,), the share of the averaged heads that
    agree on the image, None where there were none to compare.
    """
    columns = {
        "split": split,
        "row": np.arange(len(assigned.cluster)),
        "cluster": assigned.cluster,
        "name": np.array(names, dtype=object)[assigned.cluster],
        "confidence": assigned.confidence.astype(np.float64).round(DIGITS),
        "margin": assigned.margin.astype(np.float64).round(DIGITS),
        "neighbors_agree": agreement(neighbors, assigned.cluster).round(DIGITS),
    }
    if heads is not None:
        columns["heads_agree"] = heads.astype(np.float64).round(DIGITS)
    return pd.DataFrame(columns)


def confusion_rows(labels: np.ndarray, clusters: np.ndarray, classes: list[str], names: list[str], at_most: int):
    """Class and predicted name of images, a row each, as DVC's confusion template counts them; a sample of so many.

    labels, clusters: int (N,). names: what to call each cluster. Returns a DataFrame with the columns actual and
    predicted.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(labels))[:at_most])
    called = {"actual": np.array(classes, dtype=object)[labels[rows]]}
    return pd.DataFrame(called | {"predicted": np.array(names, dtype=object)[clusters[rows]]})
