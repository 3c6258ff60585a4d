"""Stage mine: the nearest neighbours of every image among the embeddings of its own split."""

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stages.images.duplicates import FILE, first_of_equals, read_duplicates
from stages.neighbors.approximate import Found, nearest_approximately
from stages.neighbors.copies import with_copies
from stages.neighbors.exact import Selected, nearest
from stages.plumbing.command import output_folder, run
from stages.plumbing.errors import UserError
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


def mine(images: Path, embeddings: Path, out: Path, params: Params) -> None:
    """Find each image's nearest neighbours: int32 (N, k) a split, nearest first, the image itself left out.

    Copies of an image are left out, too: they would be its only neighbours, and teach nothing. So the first of equal
    images stands for all of them, is among the neighbours of others alone, and lends its copies its own neighbours.
    But where an image has fewer than k different ones of its kind, copies come before foreign ones (scoring.copies).
    meta.json beside them says how they were found, and with what measured recall.
    """
    meta, duplicates = {}, read_duplicates(images)
    with output_folder(out) as folder:
        for split in ("train", "test"):
            path = embeddings / f"{split}.npy"
            vectors, k = np.load(path, mmap_mode="r"), params.mine.k
            first = first_of_equals(split, len(vectors), duplicates)
            rows = np.flatnonzero(first == np.arange(len(vectors)))
            different = Selected(vectors, rows) if len(rows) < len(vectors) else vectors
            if split == "train" and 1 == len(rows) < len(vectors):
                raise UserError(
                    f"all {len(vectors)} training images are copies of one ({images / FILE} lists them), so there is "
                    "nothing to tell apart; add images that differ"
                )
            if k >= len(vectors):
                if split == "train":
                    raise UserError(
                        f"mine.k = {k}, but {path} is about {len(vectors)} images, so each has {len(vectors) - 1} "
                        "others; lower mine.k or add images"
                    )
                # Test neighbours train nothing, so a small test split need not hold the training back.
                k = len(vectors) - 1
                print(f"test: mine.k = {params.mine.k} cut to {k}, all others of the {len(vectors)} test images")
            start = time.perf_counter()
            kind, asked = params.mine.index, min(k, len(different) - 1)
            if kind == "auto":
                kind = "exact" if len(different) <= EXACT_UP_TO else "ivf"
            try:
                if kind == "exact":
                    found = Found(nearest(different, asked), 1.0, {})
                else:
                    found = nearest_approximately(different, asked, kind, params.mine.recall)
                neighbors = found.neighbors
                if different is not vectors:
                    neighbors = with_copies(vectors, first, rows.astype(np.int32)[neighbors], k)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            np.save(folder / f"{split}.npy", neighbors)
            copies = {"duplicates": len(vectors) - len(rows)} if len(rows) < len(vectors) else {}
            meta[split] = {"index": kind, "recall": round(found.recall, 4), **found.settings, **copies}
            how = ", ".join(f"{name} {value}" for name, value in meta[split].items())
            print(f"{split}: N = {len(vectors)}, K = {k}, {time.perf_counter() - start:.1f} s ({how})")
            if kind != "exact" and found.recall < params.mine.recall:
                print(
                    f"warning: {split}: {found.recall:.3f} of the exact neighbours were found, less than "
                    f"mine.recall = {params.mine.recall}; mine.index: exact finds all of them"
                )
        (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


if __name__ == "__main__":
    run(mine)
