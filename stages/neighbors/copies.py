"""Neighbours of images of which there are copies: different ones of their own kind, then copies, before foreign ones.

Copies alone teach nothing: of an image that lies among different ones of its kind they are no neighbours. Where these
run out, as in frames of a fixed camera or shots of one burst, the next different images are of other kinds, and would
teach what is false. What is of its own kind is told without labels, by how similar neighbours are in these data.
"""

import numpy as np

from stages.neighbors.exact import nearest

# A neighbour is foreign if its similarity is less than this share of the way up from that of any two different images
# to that of an image and its nearest one, copies included. Neighbours in common data reach 0.7, foreign ones 0.55.
SHARE = 0.6
SAMPLE = 1000  # different images whose nearest one is looked up
STEP = 2**10  # images whose neighbours are looked at together: bounds the memory


def with_copies(vectors: np.ndarray, first: np.ndarray, near: np.ndarray, k: int) -> np.ndarray:
    """The `k` neighbours of every image: those of the first image like it, with copies in place of foreign ones.

    vectors: float32 (N, D) of unit length, may be a memory map; k < N. first: int (N,), for each image the first one
    like it. near: int (Q, at most k), for each of the Q images that are the first of their like, the nearest others
    of these, as rows of `vectors`, nearest first.
    Returns int32 (N, k): the different ones of its own kind; then as many as are wanting of its own copies, of the
    copies of those neighbours, and the same again. Where there are no copies to take, the neighbours stay as they are.
    """
    rows = np.flatnonzero(first == np.arange(len(first)))
    place = np.searchsorted(rows, first)
    order = np.argsort(first, kind="stable")  # copies side by side, each first one before its own
    ends = np.cumsum(np.bincount(place))
    starts = ends - np.bincount(place)
    found = np.empty((len(first), k), np.int32)
    if near.shape[1]:
        found[:] = near[:, np.arange(k) % near.shape[1]][place]
    kin = _kin(vectors, rows, near)
    for number in np.flatnonzero(kin < k):
        group, kept = order[starts[number] : ends[number]], near[number, : kin[number]]
        lent = [order[starts[other] + 1 : ends[other]][:k] for other in place[kept]]
        lent = np.concatenate([kept[:0], *lent])[:k]
        if len(group) + len(lent) == 1:
            continue
        # Each takes those that follow it in its group, so that all are tied together and none is everybody's.
        own = group[(np.arange(len(group))[:, None] + 1 + np.arange(min(len(group) - 1, k))) % len(group)]
        kept, lent = (np.tile(shared, (len(group), 1)) for shared in (kept, lent))
        chosen = np.concatenate([kept, own, lent], axis=1)
        found[group] = chosen[:, np.arange(k) % chosen.shape[1]]
    return found


def _kin(vectors: np.ndarray, rows: np.ndarray, near: np.ndarray) -> np.ndarray:
    """How many of the nearest different images, int (Q, n), of each of those rows are of its kind: int (Q,)."""
    if not near.shape[1]:
        return np.zeros(len(rows), np.int64)
    parts = [slice(start, start + STEP) for start in range(0, len(rows), STEP)]
    total = sum(vectors[rows[part]].sum(axis=0, dtype=np.float64) for part in parts)
    any_two = (total @ total - len(rows)) / (len(rows) * (len(rows) - 1))
    sample = np.sort(np.random.default_rng(0).permutation(rows)[:SAMPLE])
    closest = np.median(_similarity(vectors, sample, nearest(vectors, 1, sample)))
    least = any_two + SHARE * (closest - any_two)
    return np.concatenate([(_similarity(vectors, rows[part], near[part]) >= least).sum(axis=1) for part in parts])


def _similarity(vectors: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each of those rows, int (Q,), to each of its others, int (Q, n): float32 (Q, n)."""
    return np.einsum("qd,qnd->qn", vectors[rows], vectors[others.ravel()].reshape(*others.shape, -1))
