"""Approximate neighbours: nearly the exact ones, with a recall that is measured right and said beside them."""

import json

import numpy as np
import pytest

from stages import mine as stage
from stages.images.duplicates import write_duplicates
from stages.neighbors import approximate
from stages.neighbors.approximate import nearest_approximately, recall_of
from stages.neighbors.exact import nearest


def clustered(count: int, seed: int = 0, dim: int = 16) -> np.ndarray:
    """Unit vectors around some centres, as embeddings are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((30, dim))
    rows = centres[random.integers(0, 30, count)] + 0.4 * random.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_recall(found: np.ndarray, exact: np.ndarray) -> float:
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), exact.tolist(), strict=True)])


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_finds_what_was_asked_for_and_says_how_much(kind):
    base = clustered(6000)
    found = nearest_approximately(base, 10, kind, recall=0.95)
    exact = nearest(base, 10)
    assert found.neighbors.dtype == np.int32
    assert found.neighbors.shape == (6000, 10)
    assert not (found.neighbors == np.arange(6000)[:, None]).any(), "never the image itself"
    assert all(len(set(row)) == 10 for row in found.neighbors.tolist())
    assert found.recall >= 0.95
    assert slow_recall(found.neighbors, exact) == pytest.approx(found.recall, abs=0.02)
    similarity = np.einsum("nkd,nd->nk", base[found.neighbors], base)
    assert (np.diff(similarity, axis=1) <= 1e-6).all(), "nearest first"


def test_a_recall_of_one_searches_until_all_are_found():
    base = clustered(3000)
    found = nearest_approximately(base, 10, "ivf", recall=1.0)
    assert found.recall == 1.0
    assert slow_recall(found.neighbors, nearest(base, 10)) > 0.999


def test_equal_input_gives_equal_lists():
    base = clustered(3000)
    first, second = (nearest_approximately(base, 10, "ivf", recall=0.9) for _ in range(2))
    np.testing.assert_array_equal(first.neighbors, second.neighbors)
    assert first[1:] == second[1:]


def test_lists_that_hold_too_few_are_made_up_for_exactly(monkeypatch):
    """With one list per vector nearly nothing is found, so nearly everything is searched exactly."""
    base = clustered(300)
    monkeypatch.setattr(approximate, "recall_of", lambda *_: 1.0)  # so that the search is never widened
    found = nearest_approximately(base, 40, "ivf", recall=0.5)
    assert found.settings["nprobe"] == 1
    assert (found.neighbors >= 0).all()
    short = slow_recall(found.neighbors, nearest(base, 40))
    assert short > 0.9


def test_among_duplicates_any_is_as_good_as_another():
    base = np.repeat(clustered(10), 50, axis=0)
    exact = np.array([[1, 2, 3]])
    assert recall_of(base, np.array([0]), np.array([[47, 48, 49]]), exact) == 1.0
    assert recall_of(base, np.array([0]), np.array([[47, 48, 77]]), exact) == pytest.approx(2 / 3)
    assert recall_of(base, np.array([0]), np.array([[47, -1, -1]]), exact) == pytest.approx(1 / 3)


def run_stage(tmp_path, index: str, recall: float = 0.9) -> dict:
    folder = tmp_path / "embeddings"
    folder.mkdir()
    np.save(folder / "train.npy", clustered(3000))
    np.save(folder / "test.npy", clustered(500, seed=1))
    params = stage.Params(mine=stage.Mine(k=5, index=index, recall=recall))
    write_duplicates(folder, [])
    stage.mine(params, folder, folder, tmp_path / "neighbors")
    return json.loads((tmp_path / "neighbors/meta.json").read_text())


def test_the_stage_writes_recall_and_settings_beside_the_neighbours(tmp_path, capsys):
    meta = run_stage(tmp_path, "ivf")
    assert meta["train"]["index"] == "ivf"
    assert 0.9 <= meta["train"]["recall"] <= 1
    assert meta["train"]["lists"] == round(2 * 3000**0.5)
    assert "warning" not in capsys.readouterr().out


def test_the_stage_warns_when_too_little_was_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(approximate, "recall_of", lambda *_: 0.5)
    assert run_stage(tmp_path, "ivf")["test"]["recall"] == 0.5
    said = capsys.readouterr().out
    assert "warning: train: 0.500 of the exact neighbours were found, less than mine.recall = 0.9" in said


def test_auto_is_exact_for_few_images_and_approximate_for_many(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "EXACT_UP_TO", 1000)
    meta = run_stage(tmp_path, "auto")
    assert (meta["train"]["index"], meta["test"]["index"]) == ("ivf", "exact")
    assert meta["test"] == {"index": "exact", "recall": 1.0}
