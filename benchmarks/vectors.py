"""Many images from few, and their embeddings: what large runs are measured on."""

import tempfile
from pathlib import Path

import numpy as np

from stages.images.store import read_images
from stages.networks.encoder import Encoder
from stages.networks.model import load_model
from stages.training.devices import device
from stages.training.inference import write_embeddings

SHIFT = 3  # pixels, the farthest in either direction
VECTORS_AT_ONCE = 10_000  # made


def shifted(path: Path, images: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Write `count` images to a .npy file, each a real one moved by some pixels, black coming in; memory-mapped.

    The first N are the images themselves, in order.
    """
    random = np.random.default_rng(seed)
    made = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *images.shape[1:]))
    side = images.shape[1]
    for start in range(0, count, VECTORS_AT_ONCE):
        rows = np.arange(start, min(start + VECTORS_AT_ONCE, count))
        padded = np.pad(images[rows % len(images)], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
        moves = random.integers(0, 2 * SHIFT + 1, (len(rows), 2))
        moves[rows < len(images)] = SHIFT
        for y, x in np.unique(moves, axis=0):
            chosen = np.flatnonzero((moves == (y, x)).all(axis=1))
            made[rows[chosen]] = padded[chosen, y : y + side, x : x + side]
    made.flush()
    return np.load(path, mmap_mode="r")


def shifted_embeddings(count: int) -> np.ndarray:
    """Projections, float32 (count, 128) of unit length, of so many shifted training images by data/pretext."""
    encoder = load_model(Path("data/pretext/model.pt"), Encoder).to(device())
    with tempfile.TemporaryDirectory() as folder:
        images = shifted(Path(folder, "images.npy"), read_images(Path("data/images"), "train"), count)
        path = Path(folder, "vectors.npy")
        write_embeddings(path, f"{count:,} embeddings", images, encoder, "projection")
        return np.load(path)
