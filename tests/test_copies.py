"""Neighbours where there are copies: others of an image's kind, then copies, and foreign ones only for want of both."""

import json

import numpy as np
import pytest
from test_search import brute_force, mine

from stages.images.duplicates import Duplicate, different, first_of_equals
from stages.neighbors import copies
from stages.neighbors.copies import with_copies
from stages.plumbing.errors import UserError

DIM = 16
SPREAD = 0.3  # of the pictures of a kind, whose middle has length 1
KINDS = np.eye(6, DIM, dtype=np.float32)  # their middles


def around(middle: np.ndarray, count: int, spread: float, seed: int = 0) -> np.ndarray:
    """Unit vectors around one: pictures of a kind, or, closer, copies of a picture."""
    vectors = middle + np.random.default_rng(seed).normal(0, spread / np.sqrt(DIM), (count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def piles(*parts: tuple[np.ndarray, list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, first ones and kinds, mixed, of kinds: vectors (n, D), and of how many copies each consists.

    Of a picture there are so many copies, itself included, each a little off.
    """
    vectors, first, kinds = [], [], []
    for kind, (pictures, counts) in enumerate(parts):
        for picture, count in zip(pictures, counts, strict=True):
            group = around(picture, count, 0.02, seed=len(first))
            vectors, kinds = [*vectors, *group], kinds + [kind] * count
            first += [len(first)] * count
    order = np.random.default_rng(3).permutation(len(first))
    first = np.array(first)[order]
    _, start, number = np.unique(first, return_index=True, return_inverse=True)
    return np.stack(vectors)[order], start[number], np.array(kinds)[order]


def listed(first: np.ndarray) -> list[Duplicate]:
    return [Duplicate("train", row, "train", int(of), "near") for row, of in enumerate(first) if of != row]


def mined(folder, vectors, first, k, test=None) -> np.ndarray:
    mine(folder, k, listed(first), train=vectors, test=vectors[:2] if test is None else test)
    found = np.load(folder / "out/train.npy")
    assert found.dtype == np.int32
    assert found.shape == (len(vectors), k)
    assert (found != np.arange(len(vectors))[:, None]).all()
    assert ((found >= 0) & (found < len(vectors))).all()
    return found


def slowly(vectors: np.ndarray, first: np.ndarray, k: int) -> list[list[int]]:
    """The rule word by word, with loops over all pairs."""
    firsts = sorted(set(first.tolist()))
    similar = (vectors @ vectors.T).astype(np.float64)
    any_two = np.mean([similar[a, b] for a in firsts for b in firsts if a != b])
    closest = np.median([np.delete(similar[row], row).max() for row in firsts])
    least, found = any_two + copies.SHARE * (closest - any_two), []
    copies_of = {of: [row for row in range(len(first)) if first[row] == of] for of in firsts}
    for row, of in enumerate(first.tolist()):
        others = sorted((other for other in firsts if other != of), key=lambda other: -similar[of, other])[:k]
        kept = [other for other in others if similar[of, other] >= least]
        group = copies_of[of]
        place = group.index(row)
        own = [*group[place + 1 :], *group[:place]][:k]
        lent = [copy for other in kept for copy in copies_of[other][1:]]
        neighbors = kept + own + lent if own or lent or len(kept) == k else others
        found.append((neighbors * k)[:k])
    return found


CASES = {
    "fixed cameras": piles(*((KINDS[[i]], [60]) for i in range(4))),
    "cameras of unlike length": piles(*((KINDS[[i]], [n]) for i, n in enumerate((3, 25, 70, 8)))),
    "bursts of three to ten": piles(*((around(m, 1, 0.1), [n]) for m, n in zip(KINDS, (3, 4, 6, 7, 9, 10)))),
    "bursts of scenes of a kind": piles(*((around(m, 30, SPREAD, i), [5] * 30) for i, m in enumerate(KINDS))),
    "something moves before a camera": piles(*((around(m, 15, 0.1, i), [45] + [1] * 14) for i, m in enumerate(KINDS))),
    "a camera beside kinds": piles((KINDS[[0]], [80]), *((around(m, 90, SPREAD), [1] * 90) for m in KINDS[1:])),
    "mostly one picture": piles((KINDS[[0]], [900]), *((around(m, 25, SPREAD), [1] * 25) for m in KINDS[1:])),
}


@pytest.mark.parametrize("case", CASES)
def test_neighbours_are_of_the_same_kind_by_the_rule_word_by_word(case, tmp_path):
    vectors, first, kinds = CASES[case]
    found = mined(tmp_path, vectors, first, 20)
    np.testing.assert_array_equal(np.sort(found), np.sort(slowly(vectors, first, 20)))
    assert (kinds[found] == kinds[:, None]).mean() > 0.97
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert (
        meta["train"]["duplicates"] == len(listed(first)) == len(first) - different("train", len(first), listed(first))
    )


def test_frames_of_a_camera_are_all_tied_together():
    vectors, first, _ = CASES["fixed cameras"]
    found = with_copies(vectors, first, np.unique(first)[[[1], [0], [3], [2]]].astype(np.int32), 20)
    for camera in np.unique(first):
        group = np.flatnonzero(first == camera)
        assert (np.bincount(found[group].ravel(), minlength=len(first))[group] == 20).all(), "each is as often chosen"


@pytest.mark.parametrize("copied", [2, 50, 400])
def test_copies_among_different_images_of_a_kind_are_no_neighbours(copied, tmp_path):
    """They would be their only neighbours, and teach nothing."""
    kinds = [around(middle, 100, SPREAD, seed) for seed, middle in enumerate(KINDS)]
    vectors, first, _ = piles((kinds[0], [copied] + [1] * 99), *((kind, [1] * 100) for kind in kinds[1:]))
    found, rows = mined(tmp_path, vectors, first, 20), np.unique(first)
    expected = rows[brute_force(vectors[rows], 20)]
    np.testing.assert_array_equal(np.sort(found), np.sort(expected[np.searchsorted(rows, first)]))


def test_a_picture_beside_a_pile_takes_of_the_pile_before_foreign_ones(tmp_path):
    """Somebody has walked into the picture: of that frame there is no copy, but of the one most like it there are."""
    vectors, first, kinds = piles(*((around(m, 2, 0.1), [30, 1]) for m in KINDS))
    found = mined(tmp_path, vectors, first, 10)
    alone = np.bincount(first, minlength=len(first))[first] == 1
    assert (kinds[found[alone]] == kinds[alone, None]).all()
    assert all(len(set(row)) == 10 for row in found[alone].tolist())


def test_a_test_split_of_copies_alone_has_them_for_neighbours(tmp_path):
    vectors, test = around(KINDS[0], 30, 1.0), np.repeat(KINDS[1:2], 4, axis=0)
    mine(tmp_path, 3, [Duplicate("test", row, "train", 0, "exact") for row in range(4)], train=vectors, test=test)
    assert np.load(tmp_path / "out/test.npy").tolist() == [[1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 1, 2]]


def test_copies_of_one_image_have_nothing_to_tell_apart(tmp_path):
    with pytest.raises(UserError, match=r"all 30 training images are copies of one .*nothing to tell apart"):
        mine(tmp_path, 50, listed(np.zeros(30, int)), train=np.repeat(KINDS[:1], 30, axis=0), test=KINDS)
    assert not (tmp_path / "out").exists()


def test_different_images_of_a_split_are_counted():
    found = [
        Duplicate("train", 3, "train", 1, "exact"),
        Duplicate("test", 0, "train", 1, "near"),
        Duplicate("test", 2, "train", 1, "exact"),
        Duplicate("test", 4, "test", 3, "near"),
    ]
    assert (different("train", 5, found), different("test", 5, found), different("unlabeled", 7, found)) == (4, 3, 7)
    assert first_of_equals("test", 5, found).tolist() == [0, 1, 0, 3, 3]
