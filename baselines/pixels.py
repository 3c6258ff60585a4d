"""Stage pixels, of the baselines: k-means on the pixels themselves, which shows what the features are worth."""

from pathlib import Path

import numpy as np
from PIL import Image

from stages.images.store import read_images, read_labels, read_meta
from stages.plumbing.command import run
from stages.plumbing.outputs import output_file, write_scores
from stages.plumbing.params import Block, Count, Seed
from stages.scoring.kmeans import lloyd
from stages.scoring.matching import score

LARGEST = 32  # pixels a side; larger images are reduced to it, since thousands of numbers each would take hours


class KMeans(Block):
    """The block `kmeans`; what each key does is said in params.yaml."""

    restarts: Count


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    clusters: Count
    kmeans: KMeans


def pixels(
    params: Params,
    images: Path = Path("data/images"),
    labels: Path = Path("data/labels"),
    out: Path = Path("reports/baselines/pixels.json"),
) -> None:
    """Cluster the pixels of train, and test by the same centroids; write the scores of both splits as JSON."""
    known, classes = read_labels(labels)
    vectors = {split: flat(read_images(images, split)) for split in ("train", "test")}
    found = lloyd(vectors["train"], vectors["test"], params.clusters, params.kmeans.restarts, params.seed)
    scores: dict = {"dataset": read_meta(images).name}
    scores |= {
        split: score(getattr(found, split), params.clusters, known.get(split), classes) for split in ("test", "train")
    }
    with output_file(out) as path:
        write_scores(path, scores)
    said = [f"{name} {scores['test'][name]:.4f}" for name in ("acc", "nmi", "ari") if name in scores["test"]]
    print("pixels:", *said, f"{scores['train']['clusters_alive']} of {params.clusters} clusters in use")


def flat(images: np.ndarray) -> np.ndarray:
    """Images uint8 (N, H, W, C) → float32 (N, D) in [0, 1], of at most 32 × 32 pixels each, by area averages."""
    side = min(LARGEST, images.shape[1])
    rows = np.empty((len(images), side * side * images.shape[3]), np.float32)
    for row, image in zip(rows, images, strict=True):
        if side < images.shape[1]:
            small = Image.fromarray(image.squeeze()).resize((side, side), Image.Resampling.BOX)
            image = np.asarray(small).reshape(side, side, -1)
        row[:] = image.ravel()
    rows /= 255  # in place: of a million photographs there is no room for a second copy
    return rows


if __name__ == "__main__":
    run(pixels)
