"""Stage kmeans: the baseline, k-means on the embeddings of train, applied to test."""

from pathlib import Path

import numpy as np

from stages.plumbing.command import run
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_folder
from stages.plumbing.params import Block, Count, Seed
from stages.scoring.kmeans import lloyd


class KMeans(Block):
    """The block `kmeans`; what each key does is said in params.yaml."""

    restarts: Count


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    clusters: Count
    kmeans: KMeans


def kmeans(params: Params, embeddings: Path = Path("data/embeddings"), out: Path = Path("data/kmeans")) -> None:
    """Cluster the embeddings: int32 (N,) a split; centroids, float32 (clusters, D). Lloyd's from k-means++."""
    vectors = {split: np.load(embeddings / f"{split}.npy") for split in ("train", "test")}
    for split, rows in vectors.items():
        if not np.isfinite(rows).all():
            raise UserError(f"{embeddings / split}.npy holds NaN or infinity; train the network that made it again")
    found = lloyd(vectors["train"], vectors["test"], params.clusters, params.kmeans.restarts, params.seed)
    with output_folder(out) as folder:
        for name in ("train", "test", "centroids"):
            np.save(folder / f"{name}.npy", getattr(found, name))
    alive = len(np.unique(found.train))
    print(
        f"inertia {found.inertia:.6g}, best of {params.kmeans.restarts}; {alive} of {params.clusters} clusters in use"
    )


if __name__ == "__main__":
    run(kmeans)
