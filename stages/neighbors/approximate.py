"""Approximate nearest neighbours by inner product, with the recall that they reach measured, not assumed."""

from typing import Literal, NamedTuple

import faiss
import numpy as np

from stages.neighbors.exact import VECTORS_AT_ONCE, Selected, check_finite, filled, nearest, others

SAMPLE = 1000  # vectors whose exact neighbours the recall is measured on
WIDEST = 4096  # how far an HNSW search is widened at most


class Approximation(NamedTuple):
    """Neighbours, and how they were found."""

    neighbors: np.ndarray  # int32 (N, k), nearest first, without the vector itself
    recall: float  # share of the exact k nearest among them, on a sample
    settings: dict[str, int]  # of the index


def nearest_approximately(
    base: np.ndarray | Selected, k: int, kind: Literal["ivf", "hnsw"], recall: float
) -> Approximation:
    """The `k` nearest other vectors of each vector, as `exact.nearest` gives them, but for about that recall.

    base: float32 (N, D) of unit length, may be a memory map; k < N. The search is widened (faiss's `nprobe` or
    `efSearch`) until a sample of the vectors gets that share of its exact neighbours. What the index finds
    fewer than k neighbours for is searched exactly. Takes the index in memory: 4·D + 8 bytes a vector for ivf
    (inverted file), about 280 more for hnsw, whose graph comes out a little different in every run.
    """
    check_finite(base)
    index, knob = (_inverted_file if kind == "ivf" else _graph)(base)
    rows = np.sort(np.random.default_rng(0).permutation(len(base))[:SAMPLE])
    exact = nearest(base, k, rows)

    def reached(width: int) -> float:
        setattr(*knob, width)
        return recall_of(base, rows, others(index, base, k, rows), exact)

    # The least width that is enough: doubled until it is, then halving the last step. Wider never finds less.
    width, widest = 1 if kind == "ivf" else 32, getattr(index, "nlist", WIDEST)
    found_share = reached(width)
    while found_share < recall and width < widest:
        width = min(2 * width, widest)
        found_share = reached(width)
    low = width // 2
    while found_share >= recall and width - low > 1:
        middle = (low + width) // 2
        if (share := reached(middle)) >= recall:
            width, found_share = middle, share
        else:
            low = middle
    setattr(*knob, width)
    order = np.arange(len(base))
    if kind == "ivf":
        # Vectors of the same list look into the same lists, which then stay in the processor's cache.
        order = np.argsort(_lists(index, base), kind="stable")
    found = np.empty((len(base), k), dtype=np.int32)
    found[order] = others(index, base, k, order)
    short = np.flatnonzero((found < 0).any(axis=1))
    if len(short):
        found[short] = nearest(base, k, short)
    settings = {"lists": index.nlist, "nprobe": width} if kind == "ivf" else {"links": LINKS, "ef_search": width}
    return Approximation(found, found_share, settings)


def recall_of(base: np.ndarray | Selected, rows: np.ndarray, found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact neighbours, int (Q, k), of those rows of `base` that were found; -1 is nothing found.

    A vector exactly as near as the last exact neighbour counts as one: among duplicates there is no telling which.
    """

    def similarity(neighbors: np.ndarray) -> np.ndarray:
        return np.stack([base[ids] @ base[row] for ids, row in zip(neighbors, rows, strict=True)])

    last = similarity(exact).min(axis=1, keepdims=True)
    return float(((similarity(found) >= last - 1e-6) & (found >= 0)).mean())


LINKS = 32


def _inverted_file(base: np.ndarray | Selected) -> tuple[faiss.Index, tuple[object, str]]:
    """Vectors in 2·√N lists around k-means centroids, of which a search looks into the `nprobe` nearest."""
    count, dim = base.shape
    lists = max(1, round(2 * count**0.5))
    index = faiss.index_factory(dim, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    # 64 vectors a list place the centroids well enough; faiss's own 256 take four times as long.
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = 64, 1
    sample = np.sort(np.random.default_rng(0).permutation(count)[: 64 * lists])
    index.train(np.ascontiguousarray(base[sample], dtype=np.float32))
    filled(index, base)
    return index, (index, "nprobe")


def _graph(base: np.ndarray | Selected) -> tuple[faiss.Index, tuple[object, str]]:
    """Hierarchical navigable small world: a graph of near vectors that a search walks along (arXiv 1603.09320)."""
    index = faiss.IndexHNSWFlat(base.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    filled(index, base)
    return index, (index.hnsw, "efSearch")


def _lists(index: faiss.Index, base: np.ndarray | Selected) -> np.ndarray:
    """The list that each vector lies in, int64 (N,)."""
    parts = (
        np.ascontiguousarray(base[start : start + VECTORS_AT_ONCE]) for start in range(0, len(base), VECTORS_AT_ONCE)
    )
    return np.concatenate([index.quantizer.search(part, 1)[1][:, 0] for part in parts])
