"""Exact nearest neighbours by inner product, which on unit vectors is cosine similarity."""

import faiss
import numpy as np

from stages.plumbing.errors import UserError

VECTORS_AT_ONCE = 16384  # indexed or searched for: bounds the memory that the candidates take


class Selected:
    """Some rows of an array (N, D), usually a memory map, read as an array of their own without being copied."""

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self.array, self.rows = array, rows
        self.shape = (len(rows), *array.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: int | slice | np.ndarray) -> np.ndarray:
        return self.array[self.rows[which]]


def nearest(base: np.ndarray | Selected, k: int, rows: np.ndarray | None = None) -> np.ndarray:
    """The `k` nearest other vectors of each vector, nearest first.

    base: float32 (N, D) of unit length, may be a memory map. rows: int (Q,), which of them to ask for (default: all).
    Returns int32 (Q, k), row numbers of `base`; equal input gives equal output. Exact duplicates are neighbours like
    any other: a vector is kept out of its own list by its row number, never by being the first hit, which among
    duplicates it need not be.
    Raises ValueError unless 0 <= k < N, UserError if a vector is not finite.
    """
    if not 0 <= k < len(base):
        raise ValueError(f"k = {k} neighbours of {len(base)} vectors: each has {len(base) - 1} others")
    return others(_index(base), base, k, np.arange(len(base)) if rows is None else np.asarray(rows))


def others(index: faiss.Index, base: np.ndarray | Selected, k: int, rows: np.ndarray) -> np.ndarray:
    """What any index over `base` finds as the `k` nearest of those rows, int (Q,), without the rows themselves.

    Returns int32 (Q, k), nearest first; -1 where the index finds fewer.
    """
    found = np.empty((len(rows), k), dtype=np.int32)
    for start in range(0, len(rows), VECTORS_AT_ONCE):
        chunk = rows[start : start + VECTORS_AT_ONCE]
        _, candidates = index.search(np.ascontiguousarray(base[chunk], dtype=np.float32), k + 1)
        found[start : start + VECTORS_AT_ONCE] = without_self(candidates, chunk)
    return found


def without_self(candidates: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Candidates int (Q, k + 1) of those rows → (Q, k): without the row itself, or else without the last one."""
    drop = candidates == rows[:, None]
    # More than k exact duplicates can push a vector out of its own k + 1 candidates; then the last one goes.
    drop[~drop.any(axis=1), -1] = True
    return candidates[~drop].reshape(len(rows), -1)


def nearest_to(queries: np.ndarray, base: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` vectors of `base` nearest to each of `queries`, which are not among them.

    queries: float32 (Q, D), base: float32 (N, D), both of unit length. Returns similarity float32 (Q, k), descending,
    and row numbers of `base`, int32 (Q, k). Raises ValueError unless 1 <= k <= N, UserError if a vector is not finite.
    """
    if not 1 <= k <= len(base):
        raise ValueError(f"k = {k} neighbours among {len(base)} vectors")
    check_finite(queries)
    index = _index(base)
    similarity = np.empty((len(queries), k), dtype=np.float32)
    found = np.empty((len(queries), k), dtype=np.int32)
    for start in range(0, len(queries), VECTORS_AT_ONCE):
        part = slice(start, start + VECTORS_AT_ONCE)
        similarity[part], found[part] = index.search(np.ascontiguousarray(queries[part], dtype=np.float32), k)
    return similarity, found


def _index(base: np.ndarray | Selected) -> faiss.IndexFlatIP:
    """An exact index of `base`."""
    check_finite(base)
    return filled(faiss.IndexFlatIP(base.shape[1]), base)


def filled(index: faiss.Index, base: np.ndarray | Selected) -> faiss.Index:
    """The index with all vectors of `base` added, in chunks so that a memory map is never read whole."""
    for start in range(0, len(base), VECTORS_AT_ONCE):
        index.add(np.ascontiguousarray(base[start : start + VECTORS_AT_ONCE], dtype=np.float32))
    return index


def check_finite(vectors: np.ndarray | Selected) -> None:
    """One NaN is no error to faiss: it returns −1 for a neighbour, which then indexes the last image."""
    for start in range(0, len(vectors), VECTORS_AT_ONCE):
        finite = np.isfinite(vectors[start : start + VECTORS_AT_ONCE]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise UserError(
                f"embedding {row} of {len(vectors)} holds NaN or infinity; the network that made it diverged: "
                "train it again with a lower learning rate"
            )
