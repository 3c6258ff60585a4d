"""Batches of stored rows as tensors on the device."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from stages.images.store import Concatenated

# Of the free memory of a GPU, what the rows may take for good; the rest is the network's.
RESIDENT_SHARE = 0.4
BYTES_AT_ONCE = 2**28  # copied to the device


class Rows:
    """An array (N, …), usually a memory map, from which rows are taken as tensors.

    On a GPU that has room for it the whole array is copied there once. If not, every batch is copied from pinned
    memory, which the GPU does not wait for.

    >>> batch = Rows(embeddings, device())(rows)
    """

    def __init__(self, array: np.ndarray | Concatenated, device: torch.device | str = "cpu"):
        self.array, self.device = array, torch.device(device)
        self.resident: torch.Tensor | None = None
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if array.nbytes < RESIDENT_SHARE * free:
                self.resident = self._copy()

    def _copy(self) -> torch.Tensor:
        parts = np.array_split(np.arange(len(self.array)), self.array.nbytes // BYTES_AT_ONCE + 1)
        whole = torch.empty(self.array.shape, dtype=torch.from_numpy(self.array[:0].copy()).dtype, device=self.device)
        for part in parts:
            whole[part[0] : part[-1] + 1] = torch.from_numpy(np.array(self.array[part[0] : part[-1] + 1]))
        return whole

    def __len__(self) -> int:
        return len(self.array)

    def __call__(self, rows: np.ndarray | slice) -> torch.Tensor:
        """Those rows, (B, …), on the device."""
        if self.resident is not None:
            return self.resident[rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self.device)]
        batch = torch.from_numpy(np.array(self.array[rows]))
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=self.device.type == "cuda")


class Images(Rows):
    """A split of images, uint8 (N, H, W, C), from which rows are taken as the networks want them."""

    def __call__(self, rows: np.ndarray | slice) -> torch.Tensor:
        """Those images, uint8 (B, C, H, W), on the device."""
        return super().__call__(rows).permute(0, 3, 1, 2).contiguous()


def ahead(items: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """The same items; with CUDA each is made in a thread while its predecessor is in use.

    On a CPU a second thread would only take the cores from the first, and MPS does not bear two.
    """
    if device.type != "cuda":
        yield from items
        return
    with ThreadPoolExecutor(1) as thread:
        end = object()
        upcoming = thread.submit(next, items, end)
        while (item := upcoming.result()) is not end:
            upcoming = thread.submit(next, items, end)
            yield item
