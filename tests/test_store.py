"""The stored form: statistics, round trip, and what it refuses."""

import json
import tracemalloc

import numpy as np
import pytest

from stages.images import store
from stages.plumbing.errors import UserError


def some_images(count: int, side: int = 5, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("chunk", [1, 200, 75 * 7, 10**6])
def test_statistics_are_those_of_the_whole_array(monkeypatch, chunk):
    monkeypatch.setattr(store, "VALUES_AT_ONCE", chunk)
    images = some_images(7)
    images[..., 1] //= 2  # channels that differ, so that a mix-up shows
    mean, std = store.channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-9)


def test_statistics_take_little_memory():
    """The larger the images, the fewer are looked at together."""
    images = np.broadcast_to(np.uint8(9), (100, 224, 224, 3))
    tracemalloc.start()
    store.channel_statistics(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_channel_can_be_divided_by(value):
    images = some_images(4)
    images[..., 2] = value
    mean, std = store.channel_statistics(images)
    assert mean[2] == pytest.approx(value / 255)
    assert std[2] == 1 / 255
    assert std[0] > 0.1


def test_statistics_come_from_train_alone(tmp_path):
    train = some_images(6)
    meta = store.write_images(tmp_path, "x", {"train": train, "test": np.full_like(train, 255)}, "made up")
    np.testing.assert_allclose(meta.mean, (train / 255).mean(axis=(0, 1, 2)), atol=1e-6)


def test_images_round_trip(tmp_path):
    splits = {"train": some_images(6), "test": some_images(3, seed=1), "unlabeled": some_images(9, seed=2)}
    meta = store.write_images(tmp_path, "made-up", splits, "nowhere")
    assert store.read_meta(tmp_path) == meta
    assert (meta.name, meta.size, meta.channels, meta.source) == ("made-up", 5, 3, "nowhere")
    for split, images in splits.items():
        found = store.read_images(tmp_path, split)
        np.testing.assert_array_equal(found, images)
        assert found.dtype == np.uint8
        assert isinstance(found, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 0


def test_equal_images_give_equal_bytes(tmp_path):
    """Whatever memory layout a source handed over."""
    images = some_images(6)
    for name, train in (("a", images), ("b", np.asfortranarray(images))):
        (tmp_path / name).mkdir()
        store.write_images(tmp_path / name, "x", {"train": train, "test": images[:2]}, "made up")
    for file in ("train.npy", "test.npy", "meta.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_chunks_are_saved_as_one_array(tmp_path, monkeypatch):
    """Byte for byte what np.save writes, in whatever pieces and from whatever layout."""
    images = np.asfortranarray(some_images(9))
    np.save(tmp_path / "whole.npy", np.ascontiguousarray(images))
    monkeypatch.setattr(store, "VALUES_AT_ONCE", 2 * images[0].size)
    store.write_images(tmp_path, "x", {"train": images, "test": images[:1]}, "made up")
    assert (tmp_path / "train.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_finished_file_is_moved(tmp_path):
    """Not copied: it may hold 193 GB."""
    images = {"train": some_images(6), "test": some_images(3, seed=1)}
    (tmp_path / "out").mkdir()
    for split, array in images.items():
        np.save(tmp_path / f"made-{split}.npy", array)
    before = (tmp_path / "made-train.npy").stat().st_ino
    files = {"train": tmp_path / "made-train.npy", "test": tmp_path / "made-test.npy"}
    meta = store.write_images(tmp_path / "out", "x", files, "made up")
    assert (tmp_path / "out" / "train.npy").stat().st_ino == before
    assert not files["train"].exists()
    np.testing.assert_array_equal(store.read_images(tmp_path / "out", "test"), images["test"])
    np.testing.assert_allclose(meta.mean, (images["train"] / 255).mean(axis=(0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (some_images(2, side=6), "splits differ"),
        (some_images(2, channels=1), "splits differ"),
        (some_images(2).astype(np.float32), "test is float32"),
        (some_images(2)[..., 0], r"test is uint8 \(2, 5, 5\)"),
        (some_images(2)[:, :4], r"\(2, 4, 5, 3\)"),
        (some_images(0), "test holds no image"),
    ],
)
def test_what_is_not_in_the_form_is_refused(tmp_path, test, message):
    with pytest.raises(UserError, match=message) as refused:
        store.write_images(tmp_path, "made-up", {"train": some_images(3), "test": test}, "nowhere")
    assert "made-up" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_labels_round_trip(tmp_path):
    labels = {"train": np.array([0, 2, 1], np.uint8), "test": np.array([1, 1])}
    store.write_labels(tmp_path, labels, ["cat", "chien", "Käfer"])
    found, classes = store.read_labels(tmp_path)
    assert classes == ["cat", "chien", "Käfer"]
    assert set(found) == {"train", "test"}
    for split in labels:
        assert found[split].dtype == np.int64
        np.testing.assert_array_equal(found[split], labels[split])


def test_no_labels_at_all(tmp_path):
    store.write_labels(tmp_path, {}, [])
    assert store.read_labels(tmp_path) == ({}, [])
    assert json.loads((tmp_path / "classes.json").read_text()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["classes.json"]
