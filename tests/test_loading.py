"""Rows as tensors, and batches made ahead of their use."""

import threading

import numpy as np
import pytest
import torch

from stages.images.loading import Images, Rows, ahead


def test_rows_come_in_the_order_asked_for():
    array = np.arange(40, dtype=np.float32).reshape(10, 4)
    rows = Rows(array)
    assert len(rows) == 10
    np.testing.assert_array_equal(rows(np.array([7, 0, 7])).numpy(), array[[7, 0, 7]])
    np.testing.assert_array_equal(rows(slice(2, 5)).numpy(), array[2:5])


def test_images_come_channels_first_and_writing_into_them_reaches_no_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "train.npy", pixels)
    batch = Images(np.load(tmp_path / "train.npy", mmap_mode="r"))(np.array([5, 1]))
    np.testing.assert_array_equal(batch.numpy(), pixels[[5, 1]].transpose(0, 3, 1, 2))
    batch.zero_()
    np.testing.assert_array_equal(np.load(tmp_path / "train.npy"), pixels)


def test_a_resident_array_gives_the_same_rows():
    array = np.random.default_rng(0).integers(0, 256, (50, 3, 3, 1), dtype=np.uint8)
    images, resident = Images(array), Images(array)
    resident.resident = resident._copy()
    for rows in (np.array([3, 1, 49]), slice(10, 20)):
        assert torch.equal(resident(rows), images(rows))


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_ahead_changes_neither_items_nor_order(kind):
    assert list(ahead(iter(range(20)), torch.device(kind))) == list(range(20))
    assert list(ahead(iter([]), torch.device(kind))) == []


def test_ahead_works_in_a_thread_only_beside_a_gpu_and_one_item_ahead():
    made, threads = [], set()

    def items():
        for number in range(5):
            threads.add(threading.current_thread())
            made.append(number)
            yield number

    for number in ahead(items(), torch.device("cpu")):
        assert made[-1] == number
    assert threads == {threading.current_thread()}
    made.clear()
    threads.clear()
    for number in ahead(items(), torch.device("cuda")):
        assert made[-1] <= number + 1
    assert threading.current_thread() not in threads


def test_an_error_while_working_ahead_arrives():
    def items():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(ahead(items(), torch.device("cuda")))
