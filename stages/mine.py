"""Stage mine: the nearest neighbours of every image among the embeddings of its own split."""

import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stages.images.duplicates import FILE, first_of_equals, read_duplicates
from stages.neighbors.approximate import nearest_approximately
from stages.neighbors.copies import with_copies
from stages.neighbors.exact import Selected, nearest
from stages.plumbing.command import run
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_folder, write_json
from stages.plumbing.params import Block, Count

# Up to here `auto` searches exactly: seconds to minutes on two cores, growing with the square of the number of images.
EXACT_UP_TO = 100_000


class Mine(Block):
    """The block `mine`; what each key does is said in params.yaml."""

    k: Count
    index: Literal["auto", "exact", "ivf", "hnsw"]
    recall: Annotated[float, Field(gt=0, le=1)]


class Params(Block):
    """What this stage reads of params.yaml."""

    mine: Mine


def mine(
    params: Params,
    images: Path = Path("data/images"),
    embeddings: Path = Path("data/embeddings"),
    out: Path = Path("data/neighbors"),
) -> None:
    """Find each image's nearest neighbours: int32 (N, k) a split, the image itself left out.

    They come nearest first, but for images that have copies: these share the neighbours of the first one of their
    like, and copies come in only where there are too few others of their kind (neighbors.copies).
    meta.json beside them says how they were found, and with what measured recall.
    """
    meta, duplicates = {}, read_duplicates(images)
    with output_folder(out) as folder:
        for split in ("train", "test"):
            path, start = embeddings / f"{split}.npy", time.perf_counter()
            vectors = np.load(path, mmap_mode="r")
            first = first_of_equals(split, len(vectors), duplicates)
            k = affordable(split, params.mine.k, first, path, images)
            try:
                neighbors, meta[split], recall = find(vectors, first, k, params.mine)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            np.save(folder / f"{split}.npy", neighbors)
            how = ", ".join(f"{name} {value}" for name, value in meta[split].items())
            print(f"{split}: N = {len(vectors)}, K = {k}, {time.perf_counter() - start:.1f} s ({how})")
            if recall < params.mine.recall:
                print(
                    f"warning: {split}: {recall:.3f} of the exact neighbours were found, less than "
                    f"mine.recall = {params.mine.recall}; mine.index: exact finds all of them"
                )
        write_json(folder / "meta.json", meta)


def affordable(split: str, k: int, first: np.ndarray, path: Path, images: Path) -> int:
    """As many neighbours as the images of a split have others; UserError where train has fewer than `k`.

    first: int (N,), for each image the first one like it. path: of the embeddings, images: the folder, for messages.
    """
    count = len(first)
    if split == "train" and count > 1 and not first.any():
        raise UserError(
            f"all {count} training images are copies of one ({images / FILE} lists them), so there is nothing to tell "
            "apart; add images that differ"
        )
    if k < count:
        return k
    if split == "train":
        raise UserError(
            f"mine.k = {k}, but {path} is about {count} images, so each has {count - 1} others; lower mine.k or add "
            "images"
        )
    # Test neighbours train nothing, so a small test split need not hold the training back.
    print(f"test: mine.k = {k} cut to {count - 1}, all others of the {count} test images")
    return count - 1


def find(vectors: np.ndarray, first: np.ndarray, k: int, p: Mine) -> tuple[np.ndarray, dict, float]:
    """Neighbours int32 (N, k) of vectors float32 (N, D), how they were found, and with what recall."""
    rows = np.flatnonzero(first == np.arange(len(first)))
    copied = len(rows) < len(vectors)
    different = Selected(vectors, rows) if copied else vectors
    kind, asked = p.index, min(k, len(rows) - 1)
    if kind == "auto":
        kind = "exact" if len(rows) <= EXACT_UP_TO else "ivf"
    if kind == "exact":
        neighbors, recall, settings = nearest(different, asked), 1.0, {}
    else:
        neighbors, recall, settings = nearest_approximately(different, asked, kind, p.recall)
    if copied:
        neighbors = with_copies(vectors, first, rows.astype(np.int32)[neighbors], k)
    copies = {"duplicates": len(vectors) - len(rows)} if copied else {}
    return neighbors, {"index": kind, "recall": round(recall, 4), **settings, **copies}, recall


if __name__ == "__main__":
    run(mine)
