"""Scores against their definitions: all permutations, slow loops, numbers worked out by hand."""

import itertools

import numpy as np
import pytest

from stages.plumbing.errors import UserError
from stages.scoring.matching import (
    accuracy,
    assign,
    certainty,
    confusion_matrix,
    contingency,
    hungarian,
    majority,
    occupancy,
    score,
    top_accuracy,
)


def best_by_permutations(counts: np.ndarray) -> int:
    """The most images that any one-to-one matching can get right."""
    if counts.shape[0] > counts.shape[1]:
        counts = counts.T
    few, many = counts.shape
    return max(sum(counts[i, order[i]] for i in range(few)) for order in itertools.permutations(range(many), few))


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3), (1, 4), (4, 1), (2, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_hungarian_matching_is_the_best_of_all_permutations(shape, seed):
    rng = np.random.default_rng(seed)
    labels, clusters = rng.integers(0, shape[0], 60), rng.integers(0, shape[1], 60)
    counts = contingency(labels, clusters, shape)
    matched = hungarian(counts)
    assert matched.shape == (shape[1],)
    used = matched[matched >= 0]
    assert len(set(used.tolist())) == len(used) <= min(shape)
    expected = best_by_permutations(counts) / 60
    assert accuracy(counts, matched) == pytest.approx(expected)
    assert np.mean(matched[clusters] == labels) == pytest.approx(expected)
    names = [f"class {i}" for i in range(shape[0])]
    assert score(clusters, shape[1], labels, names)["acc"] == pytest.approx(expected)


def test_contingency_counts_pairs():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 3, 50), rng.integers(0, 5, 50)
    slow = [[sum((labels == i) & (clusters == j)) for j in range(5)] for i in range(3)]
    np.testing.assert_array_equal(contingency(labels, clusters, (3, 5)), slow)


def test_more_clusters_than_classes_leaves_the_rest_wrong():
    # Class 0 is split over clusters 0 and 2, so half of it is wrong; class 1 is whole.
    labels, clusters = np.array([0] * 6 + [1] * 4), np.array([0] * 4 + [2] * 2 + [1] * 4)
    found = score(clusters, 3, labels, ["a", "b"])
    assert found["acc"] == pytest.approx(0.8)
    assert found["majority_acc"] == 1
    assert found["recall"] == {"a": pytest.approx(4 / 6), "b": 1}
    counts = contingency(labels, clusters, (2, 3))
    np.testing.assert_array_equal(hungarian(counts), [0, 1, -1])
    np.testing.assert_array_equal(majority(counts), [0, 1, 0])
    table, rest = confusion_matrix(counts, hungarian(counts))
    np.testing.assert_allclose(table, [[4 / 6, 0, 2 / 6], [0, 1, 0]])
    np.testing.assert_array_equal(rest, [2])


def test_fewer_clusters_than_classes():
    labels, clusters = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1])
    found = score(clusters, 2, labels, ["a", "b", "c"])
    assert found["acc"] == pytest.approx(5 / 6)
    assert "majority_acc" not in found
    assert found["recall"] == {"a": 1, "b": 0, "c": 1}
    counts = contingency(labels, clusters, (3, 2))
    table, rest = confusion_matrix(counts, hungarian(counts))
    np.testing.assert_allclose(table, [[1, 0, 0], [1, 0, 0], [0, 0, 1]])
    assert len(rest) == 0


def test_what_shares_no_image_is_not_matched():
    counts = np.array([[5, 0, 0], [3, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(hungarian(counts), [0, -1, -1])
    np.testing.assert_array_equal(majority(counts), [0, -1, -1])


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3)])
def test_confusion_rows_are_distributions_over_the_matched_clusters(shape):
    rng = np.random.default_rng(1)
    labels, clusters = rng.integers(0, shape[0] - 1, 200), rng.integers(0, shape[1], 200)
    counts = contingency(labels, clusters, shape)
    matched = hungarian(counts)
    table, rest = confusion_matrix(counts, matched)
    np.testing.assert_allclose(table.sum(axis=1), [1] * (shape[0] - 1) + [0])  # nobody is of the last class
    for true, predicted in itertools.product(range(shape[0] - 1), range(shape[0])):
        share = np.mean(matched[clusters[labels == true]] == predicted)
        assert table[true, predicted] == pytest.approx(share)
    for column, cluster in enumerate(rest):
        assert table[0, shape[0] + column] == pytest.approx(np.mean(clusters[labels == 0] == cluster))


def test_scores_know_nothing_of_the_numbers_clusters_carry():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 300)
    clusters = np.where(rng.random(300) < 0.7, labels, rng.integers(0, 4, 300))
    names = list("abcd")
    shuffled = np.array([2, 0, 3, 1])[clusters]
    found, again = score(clusters, 4, labels, names), score(shuffled, 4, labels, names)
    for name in ("acc", "nmi", "ari", "ami", "recall"):
        assert found[name] == pytest.approx(again[name])
    assert 0 < found["ari"] < found["acc"] < 1
    perfect = score(np.array([2, 0, 3, 1])[labels], 4, labels, names)
    assert [perfect[name] for name in ("acc", "nmi", "ari", "ami")] == pytest.approx([1, 1, 1, 1])


def test_without_labels_only_the_spread_is_said():
    clusters = np.array([3, 3, 3, 1])
    expected = {"clusters_alive": 2, "largest": 0.75, "smallest": 0.0, "sizes": [0, 1, 0, 3]}
    assert score(clusters, 4, None, []) == occupancy(clusters, 4) == expected


def test_assignment_reads_off_cluster_confidence_and_margin():
    probabilities = np.array([[0.25, 0.5, 0.25], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]], dtype=np.float16)
    found = assign(probabilities)
    np.testing.assert_array_equal(found.cluster, [1, 2, 0])
    np.testing.assert_array_equal(found.confidence, [0.5, 1, 0.5])
    np.testing.assert_array_equal(found.margin, [0.25, 1, 0])
    np.testing.assert_allclose(found.mean, [0.25, 1 / 3, 1.25 / 3])
    alone = assign(np.ones((3, 1), dtype=np.float16))
    np.testing.assert_array_equal(alone.margin, [1, 1, 1])


def test_assignment_in_chunks(monkeypatch):
    logits = np.random.default_rng(0).standard_normal((100, 5))
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)
    whole = assign(probabilities)
    monkeypatch.setattr("stages.scoring.matching.ROWS_AT_ONCE", 33)
    parts = assign(probabilities)
    np.testing.assert_array_equal(parts.cluster, whole.cluster)
    np.testing.assert_array_equal(parts.margin, whole.margin)
    np.testing.assert_allclose(parts.mean, probabilities.astype(float).mean(axis=0))


def test_probabilities_must_be_finite():
    with pytest.raises(UserError, match="NaN"):
        assign(np.array([[0.5, np.nan]], dtype=np.float16))


def test_certainty():
    even = certainty(assign(np.array([[1, 0], [0, 1]], dtype=np.float16)))
    assert even == {"confidence": 1, "confident": 1, "entropy": pytest.approx(1)}
    collapsed = certainty(assign(np.array([[1, 0], [1, 0]], dtype=np.float16)))
    assert collapsed["entropy"] == 0
    unsure = certainty(assign(np.array([[0.75, 0.25], [0.998, 0.002]], dtype=np.float16)))
    assert unsure["confident"] == 0.5
    assert unsure["confidence"] == pytest.approx(0.874, abs=1e-3)
    mean = np.array([0.874, 0.126])
    assert unsure["entropy"] == pytest.approx(-(mean * np.log2(mean)).sum(), abs=1e-3)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_accuracy_is_a_slow_loop(monkeypatch, k):
    monkeypatch.setattr("stages.scoring.matching.ROWS_AT_ONCE", 17)
    rng = np.random.default_rng(k)
    probabilities = rng.dirichlet(np.ones(8), 50).round(1).astype(np.float16)  # with many ties
    labels, class_of = rng.integers(0, 7, 50), np.array([3, -1, 0, 6, 1, 2, 5, 4])
    right = 0
    for row, label in zip(probabilities, labels, strict=True):
        ranked = sorted(range(8), key=lambda cluster: (-row[cluster], cluster))
        right += label in [class_of[cluster] for cluster in ranked[:k]]
    assert top_accuracy(probabilities, labels, class_of, k) == right / 50
