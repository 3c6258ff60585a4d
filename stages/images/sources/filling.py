"""Filling a large .npy file row by row, in threads and without ever holding it in memory."""

import math
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from stages.images.sources.pictures import UnreadableError, quietly
from stages.plumbing.errors import UserError
from stages.plumbing.progress import PLAIN_INTERVAL, Progress

TASK = 64  # rows that a thread takes at once
BYTES_AT_ONCE = 2**26  # moved from place to place


def fill(file: Path, shape: tuple[int, ...], row: Callable[[int], np.ndarray], title: str) -> dict[int, str]:
    """Write a .npy file of uint8 `shape` whose row i is `row(i)`; return why rows could not be had, by number.

    Rows for which `row` raises UnreadableError stay black. Raises UserError if the disk has no room for the file.
    """
    count, width = shape[0], math.prod(shape[1:])
    free = shutil.disk_usage(file.parent).free
    if count * width > free:
        raise UserError(
            f"{title}: {count:,} images take {count * width / 1e9:,.1f} GB, but the disk of data/ has only"
            f" {free / 1e9:,.1f} GB left; make room, or lower data.image_size or data.limit"
        )
    stop = threading.Event()
    with open(file, "wb") as opened:
        _write_header(opened, shape)
        start = opened.tell()
        opened.truncate(start + count * width)

        def work(rows: range) -> tuple[int, dict[int, str]]:
            failed = {}
            for number in rows:
                if stop.is_set():
                    break
                try:
                    pixels = row(number)
                except UnreadableError as error:
                    failed[number] = error.reason
                else:
                    # Not through a memory map: on a full disk, writing to one kills the process without a word.
                    os.pwrite(opened.fileno(), pixels.tobytes(), start + number * width)
            return len(rows), failed

        tasks = [range(first, min(first + TASK, count)) for first in range(0, count, TASK)]
        try:
            with Progress(title, count, whole=False) as progress:
                return _in_threads(work, tasks, progress, stop)
        except OSError as error:
            raise UserError(f"{title}: the images cannot be written beside data/images: {error.strerror}") from None


def keep(file: Path, rows: np.ndarray) -> None:
    """Shorten a .npy file to these rows (ascending), in place. There must be at least one."""
    array = np.load(file, mmap_mode="r+")
    shape, offset, step = (len(rows), *array.shape[1:]), array.offset, max(1, BYTES_AT_ONCE // array[0].nbytes)
    for start in range(0, len(rows), step):
        taken = rows[start : start + step]
        array[start : start + len(taken)] = array[taken]  # rows ascend, so nothing is overwritten before it is read
    array.flush()
    del array
    with open(file, "r+b") as opened:
        _write_header(opened, shape)  # as long as it was: numpy leaves room for any number of rows
        assert opened.tell() == offset
        opened.truncate(offset + math.prod(shape))


def one_channel(file: Path) -> None:
    """Replace a .npy file of images (N, H, W, 3) by one of their first channel, (N, H, W, 1)."""
    array, grey = np.load(file, mmap_mode="r"), file.with_name(file.stem + "-grey.npy")
    step = max(1, BYTES_AT_ONCE // array[0].nbytes)
    with open(grey, "wb") as opened:
        _write_header(opened, (*array.shape[:-1], 1))
        for start in range(0, len(array), step):
            opened.write(array[start : start + step, ..., :1].tobytes())
    os.replace(grey, file)


def _write_header(opened, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(opened, {"descr": "|u1", "fortran_order": False, "shape": shape})
    opened.flush()


def _in_threads(work: Callable, tasks: list, progress: Progress, stop: threading.Event) -> dict[int, str]:
    """Every task done by `work`; what failed of them all."""
    failed: dict[int, str] = {}
    # Pillow works without Python's lock, so that threads use all cores that this process may.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with quietly(), ThreadPoolExecutor(cores) as threads:
        try:
            # A few tasks ahead and no more: a million waiting ones would take the memory that this module spares.
            waiting, upcoming = set(), iter(tasks)
            while True:
                while len(waiting) < 4 * cores and (task := next(upcoming, None)) is not None:
                    waiting.add(threads.submit(work, task))
                if not waiting:
                    return failed
                finished, waiting = wait(waiting, timeout=PLAIN_INTERVAL, return_when=FIRST_COMPLETED)
                progress.advance(0)  # where all wait for a slow disk, it says so
                for future in finished:
                    rows, bad = future.result()
                    progress.advance(rows)
                    failed |= bad
        except BaseException:
            stop.set()  # Ctrl-C must not wait for all that was handed out
            raise
