"""Neighbours are those that brute force finds, and the image itself is never one of them."""

import json

import numpy as np
import pytest

from stages import mine as stage
from stages.images.duplicates import Duplicate, write_duplicates
from stages.neighbors import exact as search
from stages.neighbors.exact import Selected, nearest, nearest_to
from stages.plumbing.errors import UserError


def unit(count: int, seed: int = 0, dim: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(base: np.ndarray, k: int) -> np.ndarray:
    similarity = base.astype(np.float64) @ base.astype(np.float64).T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("k", [1, 7, 149])
def test_equals_brute_force(k):
    base = unit(150)
    found = nearest(base, k)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, brute_force(base, k))


def test_rows_in_any_order_and_chunks_change_nothing(monkeypatch):
    base, rows = unit(150), np.array([149, 0, 77, 3, 78])
    whole = nearest(base, 5)
    # Twenty queries and more go through one routine of faiss, fewer through another: 40 + 40 + 40 + 30 keeps to one.
    monkeypatch.setattr(search, "VECTORS_AT_ONCE", 40)
    np.testing.assert_array_equal(nearest(base, 5), whole)
    np.testing.assert_array_equal(nearest(base, 5, rows), whole[rows])
    np.testing.assert_array_equal(nearest_to(base, base, 4)[1][:, 1:], whole[:, :3])


@pytest.mark.parametrize("copies", [2, 12, 40])
def test_exact_duplicates_are_neighbours_but_never_the_image_itself(copies):
    k = 12
    base = np.repeat(unit(8), copies, axis=0)
    found = nearest(base, k)
    own = np.arange(len(base))[:, None]
    assert not (found == own).any()
    assert all(len(set(row)) == k for row in found.tolist())
    # Its duplicates are nearer than anything else, so they come first, as many of them as there are.
    first = found[:, : min(k, copies - 1)]
    np.testing.assert_array_equal(first // copies, np.broadcast_to(own // copies, first.shape))


def test_all_images_alike():
    base = np.tile(unit(1), (30, 1))
    found = nearest(base, 29)
    for row, others in enumerate(found.tolist()):
        assert sorted(others) == [i for i in range(30) if i != row]


def test_equal_input_gives_equal_output():
    base = np.repeat(unit(40), 4, axis=0)
    np.testing.assert_array_equal(nearest(base, 9), nearest(base, 9))


def test_queries_from_elsewhere_keep_their_duplicates():
    base = unit(60)
    similarity, found = nearest_to(base[:7], base, 3)
    np.testing.assert_array_equal(found[:, 0], np.arange(7))
    np.testing.assert_allclose(similarity[:, 0], 1, atol=1e-6)
    assert (np.diff(similarity, axis=1) <= 0).all()


@pytest.mark.parametrize("k", [-1, 10, 11])
def test_more_neighbours_than_there_are_is_an_error(k):
    with pytest.raises(ValueError, match="10 vectors"):
        nearest(unit(10), k)


def test_a_vector_that_is_not_finite_is_named():
    base = unit(50)
    base[33, 2] = np.nan
    with pytest.raises(UserError, match="embedding 33 of 50"):
        nearest(base, 3)
    with pytest.raises(UserError, match="embedding 33 of 50"):
        nearest_to(base, unit(5), 3)


def mine(folder, k: int, duplicates: list[Duplicate] | None = None, **splits: np.ndarray) -> None:
    folder.joinpath("in").mkdir()
    for split, rows in splits.items():
        np.save(folder / "in" / f"{split}.npy", rows)
    write_duplicates(folder / "in", duplicates or [])
    params = stage.Params.model_validate({"mine": {"k": k, "index": "exact", "recall": 0.98}})
    stage.mine(params, folder / "in", folder / "in", folder / "out")


def test_stage_searches_each_split_among_itself_and_says_when_test_is_too_small(tmp_path, capsys):
    train, test = unit(90), unit(6, seed=1)
    mine(tmp_path, 8, train=train, test=test)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "train.npy"), brute_force(train, 8))
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "test.npy"), brute_force(test, 5))
    assert "mine.k = 8 cut to 5" in capsys.readouterr().out


def test_stage_takes_a_test_split_of_one_image(tmp_path):
    mine(tmp_path, 2, train=unit(9), test=unit(1))
    assert np.load(tmp_path / "out" / "test.npy").shape == (1, 0)


@pytest.mark.parametrize("images", [7, 8])
def test_stage_names_the_key_when_train_is_too_small(tmp_path, images):
    with pytest.raises(UserError, match=rf"mine\.k = 8.*{images} images.*lower mine\.k"):
        mine(tmp_path, 8, train=unit(images), test=unit(20))
    assert not (tmp_path / "out").exists()


def test_stage_names_the_file_that_is_not_finite(tmp_path):
    with pytest.raises(UserError, match=r"test\.npy: embedding 0 of 20"):
        mine(tmp_path, 3, train=unit(20), test=np.full((20, 8), np.inf, dtype=np.float32))


def test_a_selection_of_rows_is_searched_as_if_it_were_copied():
    base, rows = unit(200), np.flatnonzero(np.arange(200) % 3)
    np.testing.assert_array_equal(nearest(Selected(base, rows), 4), nearest(base[rows], 4))


def test_copies_are_nobodys_only_neighbours(tmp_path):
    """Without copies in the way, everything is as if they were not there; they share the neighbours of the first."""
    base = unit(40, dim=3)  # so few dimensions that each of them has five that are like it
    train = np.concatenate([base, np.repeat(base[3:4], 12, axis=0)])
    copies = [Duplicate("train", row, "train", 3, "exact") for row in range(40, 52)]
    # Two of test that equal an image of train, and so each other.
    copies += [Duplicate("test", row, "train", 7, "near") for row in (2, 5)]
    test = unit(40, seed=1, dim=3)
    test[[2, 5]] = base[7]
    mine(tmp_path, 5, copies, train=train, test=test)
    found = np.load(tmp_path / "out/train.npy")
    np.testing.assert_array_equal(found[:40], brute_force(base, 5))
    np.testing.assert_array_equal(found[40:], np.repeat(found[3:4], 12, axis=0))
    found = np.load(tmp_path / "out/test.npy")
    np.testing.assert_array_equal(found[2], found[5])
    assert not np.isin(found, 5).any()
    assert not np.isin(found[2], [2, 5]).any()
    assert (found != np.arange(40)[:, None]).all()
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert (meta["train"]["duplicates"], meta["test"]["duplicates"]) == (12, 1)
