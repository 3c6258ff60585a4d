"""Stage kmeans: the baseline, k-means on the embeddings of train, applied to test."""

import warnings
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans as Lloyd
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from stages.command import output_folder, run
from stages.errors import UserError
from stages.params import Block, Count, Seed


class KMeans(Block):
    """The block `kmeans`; what each key does is said in params.yaml."""

    restarts: Count


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    clusters: Count
    kmeans: KMeans


def kmeans(embeddings: Path, out: Path, params: Params) -> None:
    """Cluster the embeddings: int32 (N,) a split; centroids, float32 (clusters, D). Lloyd's from k-means++."""
    vectors = {split: np.load(embeddings / f"{split}.npy") for split in ("train", "test")}
    for split, rows in vectors.items():
        if not np.isfinite(rows).all():
            raise UserError(f"{embeddings / split}.npy holds NaN or infinity; train the network that made it again")
    clusters, images = params.clusters, len(vectors["train"])
    if clusters > images:
        raise UserError(f"clusters = {clusters}, but {embeddings / 'train.npy'} holds {images} images; lower clusters")
    model = Lloyd(clusters, n_init=params.kmeans.restarts, random_state=params.seed)
    # Threads add up their parts of a centroid in the order in which they finish, so more than one may round differently
    # from run to run, and from machine to machine.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct images than clusters: said below
        assigned = {"train": model.fit(vectors["train"]).labels_, "test": model.predict(vectors["test"])}
    with output_folder(out) as folder:
        for split, cluster in assigned.items():
            np.save(folder / f"{split}.npy", cluster.astype(np.int32))
        np.save(folder / "centroids.npy", model.cluster_centers_.astype(np.float32))
    alive = len(np.unique(assigned["train"]))
    print(f"inertia {model.inertia_:.6g}, best of {params.kmeans.restarts}; {alive} of {clusters} clusters in use")


if __name__ == "__main__":
    run(kmeans)
