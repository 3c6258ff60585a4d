"""Embeddings that were made elsewhere: read strictly, and brought to unit length."""

from pathlib import Path

import numpy as np

from stages.plumbing.errors import UserError

VECTORS_AT_ONCE = 2**14  # read and normalised


def read_vectors(folder: Path, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """The vectors of each split, float (N, D), as memory maps of `<split>.npy` in a folder.

    counts: how many images each split has. UserError if a file is anything else, or if splits differ in D.
    """
    found = {split: _read(folder / f"{split}.npy", count) for split, count in counts.items()}
    (first, dim), *others = ((split, rows.shape[1]) for split, rows in found.items())
    for split, other in others:
        if other != dim:
            raise UserError(f"pretext.weights: the vectors of {first} have {dim} numbers, of {split} {other}")
    return found


def _read(path: Path, count: int) -> np.ndarray:
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "no .npy file of numbers"
        raise UserError(f"pretext.weights: {path}: {reason}; expected float (N, D), a row an image") from None
    if rows.ndim != 2 or rows.dtype.kind != "f" or len(rows) != count:
        raise UserError(
            f"pretext.weights: {path} is {rows.dtype} {rows.shape}; expected float ({count}, D), a row for every image "
            f"of data/images/{path.name} in its order"
        )
    return rows


def write_unit_vectors(path: Path, rows: np.ndarray, source: Path) -> None:
    """Write rows (N, D) as float32 of unit length, in chunks. UserError for a vector that has no direction.

    source: the file that they come from, for the message.
    """
    table = np.lib.format.open_memmap(path, "w+", np.float32, rows.shape)
    for start in range(0, len(rows), VECTORS_AT_ONCE):
        chunk = np.asarray(rows[start : start + VECTORS_AT_ONCE], dtype=np.float64)
        length = np.linalg.norm(chunk, axis=1, keepdims=True)
        bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
        if len(bad):
            raise UserError(f"pretext.weights: row {start + bad[0]} of {source} is zero, NaN or infinite; correct it")
        table[start : start + VECTORS_AT_ONCE] = chunk / length
    table.flush()
