"""A trained network over a whole split: in batches, in mixed precision, straight to disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.images.loading import Images, ahead
from stages.images.store import read_images
from stages.images.views import PlainView
from stages.networks.encoder import Encoder, Input, Layer
from stages.plumbing.progress import Progress
from stages.training import processes
from stages.training.devices import device, mixed_precision

BATCH = 256  # images; on CPUs, what a layer passes to the next then stays in the cache


@torch.inference_mode()
def write_rows(
    path: Path, title: str, images: np.ndarray, input: Input, function: Callable[[Tensor], Tensor], dtype: type
) -> np.ndarray | None:
    """Apply `function` to the plain views of `images` and write its rows, (N, D) of `dtype`, to a .npy file.

    images: uint8 (N, H, W, C), may be a memory map; function: normalised images float32 (B, C, H, W) on the device →
    (B, D). Holds one batch in memory at a time; several processes take a part of it each. The caller puts the network
    into evaluation mode. Returns what was written, memory-mapped, to the first process, and None to the others.
    """
    view, images = PlainView(input.mean, input.std), Images(images, device())
    table = None
    step = BATCH * processes.count()
    batches = (slice(start, min(start + step, len(images))) for start in range(0, len(images), step))
    with Progress(title, len(images)) as progress:
        for batch, pixels in ahead(((batch, images(_own(batch))) for batch in batches), device()):
            with mixed_precision():
                rows = function(view(pixels))
            rows = processes.gather(rows, batch.stop - batch.start).cpu().numpy()
            if processes.first():
                if table is None:
                    table = np.lib.format.open_memmap(path, "w+", dtype, (len(images), rows.shape[1]))
                table[batch] = rows
            progress.advance(len(rows))
    if table is not None:
        table.flush()
    return table


def _own(batch: slice) -> slice:
    """This process's part of a batch of consecutive rows."""
    own = processes.share(batch.stop - batch.start)
    return slice(batch.start + own.start, batch.start + own.stop)


def write_embeddings(path: Path, title: str, images: np.ndarray, encoder: Encoder, layer: Layer) -> np.ndarray | None:
    """Unit vectors of `images`, float32 (N, D), from `layer` of the encoder, to a .npy file; returns as write_rows."""
    encoder.eval()
    return write_rows(path, title, images, encoder.input, lambda views: encoder.embed(views, layer), np.float32)


def write_probabilities(folder: Path, title: str, images: Path, model: nn.Module) -> None:
    """What a classifier of one head says of both splits: probabilities-{train,test}.npy, float16 (N, clusters)."""
    model.eval()
    for split in ("train", "test"):
        path, pixels = folder / f"probabilities-{split}.npy", read_images(images, split)
        write_rows(path, f"{title}, {split}", pixels, model.encoder.input, lambda v: model(v)[0].softmax(1), np.float16)
