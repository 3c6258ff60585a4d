"""Image files as batches of pixels, decoded in threads a little ahead of whoever uses them."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from stages.images.sources.pictures import UnreadableError, quietly, read

TASK = 16  # files that a thread takes at once


class Decoded(NamedTuple):
    """Consecutive files: their pixels, uint8 (n, size, size, channels), and why one has none ("" if it has)."""

    paths: list[str]
    pixels: np.ndarray
    reasons: list[str]


def batches(paths: Sequence[str], size: int, channels: int, count: int) -> Iterator[Decoded]:
    """The files in their order, `count` at a time; a few batches are in memory, however many files there are.

    Files that cannot be read have black pixels and a reason.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    tasks = (paths[start : start + TASK] for start in range(0, len(paths), TASK))
    per_batch = max(1, count // TASK)
    # Pillow works without Python's lock, so that threads use all cores that this process may.
    with quietly(), ThreadPoolExecutor(cores) as threads:
        waiting: deque[Future[Decoded]] = deque()
        try:
            while True:
                for task in islice(tasks, 2 * per_batch - len(waiting)):
                    waiting.append(threads.submit(_decode, task, size, channels))
                if not waiting:
                    return
                yield _merged([waiting.popleft().result() for _ in range(min(per_batch, len(waiting)))])
        finally:
            threads.shutdown(cancel_futures=True)  # whoever stops early does not wait for what was handed out


def _merged(parts: list[Decoded]) -> Decoded:
    paths, pixels, reasons = zip(*parts, strict=True)
    return Decoded(list(chain(*paths)), np.concatenate(pixels), list(chain(*reasons)))


def _decode(paths: Sequence[str], size: int, channels: int) -> Decoded:
    pixels, reasons = np.zeros((len(paths), size, size, channels), np.uint8), []
    for row, path in enumerate(paths):
        try:
            pixels[row] = read(path, size, channels)
        except UnreadableError as error:
            reasons.append(error.reason)
        else:
            reasons.append("")
    return Decoded(list(paths), pixels, reasons)
