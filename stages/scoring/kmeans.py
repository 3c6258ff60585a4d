"""k-means (Lloyd's from k-means++), the same to the byte wherever it runs."""

import warnings
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from stages.plumbing.errors import UserError


class Clustering(NamedTuple):
    """Clusters of either split, int32 (N,); centroids float32 (clusters, D); the sum of squared distances to them."""

    train: np.ndarray
    test: np.ndarray
    centroids: np.ndarray
    inertia: float


def lloyd(train: np.ndarray, test: np.ndarray, clusters: int, restarts: int, seed: int) -> Clustering:
    """Cluster `train`, float32 (N, D), the best of so many restarts; put `test`, (M, D), to the nearest centroids.

    Raises UserError if there are more clusters than rows.
    """
    if clusters > len(train):
        raise UserError(f"clusters = {clusters}, but there are {len(train)} training images; lower clusters")
    from sklearn.cluster import KMeans  # a second, which nobody waits for who only reads this stage's params
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(clusters, n_init=restarts, random_state=seed)
    # Threads add up their parts of a centroid in the order in which they finish, so more than one may round differently
    # from run to run, and from machine to machine.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct images than clusters: the stages say so
        found = model.fit(train).labels_, model.predict(test)
    return Clustering(
        *(part.astype(np.int32) for part in found), model.cluster_centers_.astype(np.float32), model.inertia_
    )
