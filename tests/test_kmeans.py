"""k-means finds what is there, the same bytes on any number of threads, and names the key when it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages import kmeans as stage
from stages.plumbing.errors import UserError

ROOT = Path(__file__).parents[1]


def write_blobs(folder: Path, per_cluster: int, clusters: int = 4, spread: float = 0.05, dim: int = 16) -> np.ndarray:
    """Unit vectors around `clusters` axes, the same for train and (half as many) test; the clusters of train."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, each in (("test", max(1, per_cluster // 2)), ("train", per_cluster)):
        truth = np.repeat(np.arange(clusters), each)
        rows = np.eye(dim)[truth] + spread * rng.standard_normal((len(truth), dim))
        np.save(folder / f"{split}.npy", (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return truth


def kmeans(folder: Path, clusters: int, restarts: int = 3, seed: int = 0, out: str = "out") -> dict[str, np.ndarray]:
    params = {"seed": seed, "clusters": clusters, "kmeans": {"restarts": restarts}}
    stage.kmeans(stage.Params.model_validate(params), folder / "in", folder / out)
    return {path.stem: np.load(path) for path in (folder / out).iterdir()}


def test_finds_separate_clusters_and_applies_them_to_test(tmp_path, capsys):
    truth = write_blobs(tmp_path / "in", per_cluster=30)
    found = kmeans(tmp_path, clusters=4)
    assert {name: (rows.dtype, rows.shape) for name, rows in found.items()} == {
        "train": (np.int32, (120,)),
        "test": (np.int32, (60,)),
        "centroids": (np.float32, (4, 16)),
    }
    pairs = set(zip(truth.tolist(), found["train"].tolist()))
    assert len(pairs) == 4
    assert set(zip(np.repeat(np.arange(4), 15).tolist(), found["test"].tolist())) == pairs
    vectors = np.load(tmp_path / "in" / "train.npy")
    for number, centroid in enumerate(found["centroids"]):
        np.testing.assert_allclose(centroid, vectors[found["train"] == number].mean(axis=0), atol=1e-5)
    assert "inertia" in capsys.readouterr().out


def test_the_seed_decides(tmp_path):
    write_blobs(tmp_path / "in", per_cluster=40, spread=1.0)
    first, other = kmeans(tmp_path, 6, restarts=1), kmeans(tmp_path, 6, restarts=1, seed=1)
    assert not np.array_equal(first["train"], other["train"])


def test_same_bytes_on_any_number_of_threads(tmp_path):
    """Four threads that add up centroids in the order in which they finish would round differently from two or one."""
    write_blobs(tmp_path / "in", per_cluster=1000, spread=1.0)
    kmeans(tmp_path, clusters=10, restarts=1, out="here")
    (tmp_path / "params.yaml").write_text("seed: 0\nclusters: 10\nkmeans: {restarts: 1}\n")
    subprocess.run(
        [sys.executable, "-m", "stages.kmeans", "--embeddings", "in", "--out", "four"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "4", "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
        capture_output=True,
    )
    here, four = ({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("here", "four"))
    assert sorted(here) == ["centroids.npy", "test.npy", "train.npy"]
    assert here == four


def test_more_clusters_than_images(tmp_path):
    write_blobs(tmp_path / "in", per_cluster=3)
    assert len(np.unique(kmeans(tmp_path, clusters=12)["train"])) == 12
    with pytest.raises(UserError, match=r"clusters = 13.*12 training images"):
        kmeans(tmp_path, clusters=13, out="other")
    assert not (tmp_path / "other").exists()


def test_fewer_different_images_than_clusters_is_said(tmp_path, capsys, recwarn):
    (tmp_path / "in").mkdir()
    for split in ("train", "test"):
        np.save(tmp_path / "in" / f"{split}.npy", np.repeat(np.eye(3, dtype=np.float32), 5, axis=0))
    kmeans(tmp_path, clusters=5)
    assert "3 of 5 clusters in use" in capsys.readouterr().out
    assert not recwarn.list


def test_embeddings_that_are_not_finite(tmp_path):
    write_blobs(tmp_path / "in", per_cluster=3)
    np.save(tmp_path / "in" / "test.npy", np.full((4, 16), np.nan, dtype=np.float32))
    with pytest.raises(UserError, match=r"test\.npy holds NaN"):
        kmeans(tmp_path, clusters=2)
