"""Purity and kNN accuracy against slow loops."""

import math
from collections import defaultdict

import numpy as np
import pytest

from stages.scoring.purity import knn_accuracy, purity, vote


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of three overlapping classes, float32 (count, 6), and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    vectors = (1.5 * np.eye(6)[labels] + rng.standard_normal((count, 6))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def slow_neighbors(query: np.ndarray, base: np.ndarray, k: int, without: int | None = None) -> list[int]:
    others = [row for row in range(len(base)) if row != without]
    return sorted(others, key=lambda row: -float(np.dot(query, base[row])))[:k]


def test_purity_equals_a_slow_loop():
    vectors, labels = blobs(80, seed=0)
    rows = np.array([3, 10, 11, 40, 79])
    found = purity(vectors, labels, rows, (1, 5, 20))
    assert list(found) == [1, 5, 20]
    for k, value in found.items():
        same = [labels[i] == labels[row] for row in rows for i in slow_neighbors(vectors[row], vectors, k, without=row)]
        assert value == pytest.approx(sum(same) / len(same))
    assert 0.4 < found[20] < found[1] < 1 or found[1] == 1


def test_duplicates_of_another_class_count_against():
    vectors = np.tile(blobs(1, seed=0)[0], (4, 1))
    assert purity(vectors, np.array([0, 0, 1, 1]), np.arange(4), (3,)) == {3: pytest.approx(1 / 3)}


def test_more_neighbours_than_images_are_left_out():
    vectors, labels = blobs(6, seed=0)
    assert list(purity(vectors, labels, np.arange(6), (1, 5, 20))) == [1, 5]
    assert purity(vectors[:1], labels[:1], np.arange(1), (1, 5, 20)) == {}


@pytest.mark.parametrize("k", [1, 7, 60])
def test_knn_accuracy_equals_a_slow_loop(k):
    base, base_labels = blobs(60, seed=0)
    queries, labels = blobs(25, seed=1)
    right = 0
    for query, label in zip(queries, labels):
        votes = defaultdict(float)
        for row in slow_neighbors(query, base, k):
            votes[base_labels[row]] += math.exp(float(np.dot(query, base[row])) / 0.07)
        right += max(votes, key=votes.get) == label
    assert 0 < right < 25
    assert knn_accuracy(queries, labels, base, base_labels, k, 3) == pytest.approx(right / 25)


def test_one_near_neighbour_outvotes_two_far_ones():
    similarity, neighbor_labels = np.array([[0.9, 0.5, 0.5], [0.5, 0.5, 0.5]]), np.array([[2, 0, 0], [2, 0, 0]])
    np.testing.assert_array_equal(vote(similarity, neighbor_labels, 3), [2, 0])
