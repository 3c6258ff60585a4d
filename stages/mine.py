"""Stage mine: the nearest neighbours of every image, exact, among the embeddings of its own split."""

import time
from pathlib import Path

import numpy as np

from stages.command import output_folder, run
from stages.errors import UserError
from stages.params import Block, Count
from stages.scoring.search import nearest


class Mine(Block):
    """The block `mine`; what each key does is said in params.yaml."""

    k: Count


class Params(Block):
    """What this stage reads of params.yaml."""

    mine: Mine


def mine(embeddings: Path, out: Path, params: Params) -> None:
    """Find each image's nearest neighbours: int32 (N, k) a split, nearest first, the image itself left out."""
    with output_folder(out) as folder:
        for split in ("train", "test"):
            path = embeddings / f"{split}.npy"
            vectors, k = np.load(path, mmap_mode="r"), params.mine.k
            if k >= len(vectors):
                if split == "train":
                    raise UserError(
                        f"mine.k = {k}, but {path} holds {len(vectors)} images, so each has {len(vectors) - 1} others; "
                        "lower mine.k or add images"
                    )
                # Test neighbours train nothing, so a small test split need not hold the training back.
                k = len(vectors) - 1
                print(f"test: mine.k = {params.mine.k} cut to {k}, all others of the {len(vectors)} test images")
            start = time.perf_counter()
            try:
                neighbors = nearest(vectors, k)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            np.save(folder / f"{split}.npy", neighbors)
            print(f"{split}: N = {len(vectors)}, K = {k}, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    run(mine)
