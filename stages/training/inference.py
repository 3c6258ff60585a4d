"""A trained network over a whole split: in batches, in mixed precision, straight to disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.images.loading import load
from stages.images.store import read_images
from stages.images.views import PlainView
from stages.networks.encoder import Encoder, Input, Layer
from stages.training.devices import device, mixed_precision
from stages.training.progress import Progress

BATCH = 512


@torch.inference_mode()
def write_rows(
    path: Path, title: str, images: np.ndarray, input: Input, function: Callable[[Tensor], Tensor], dtype: type
) -> None:
    """Apply `function` to the plain views of `images` and write its rows, (N, D) of `dtype`, to a .npy file.

    images: uint8 (N, H, W, C), may be a memory map; function: normalised images float32 (B, C, H, W) on the device →
    (B, D). Holds one batch in memory at a time. The caller puts the network into evaluation mode.
    """
    view = PlainView(input.mean, input.std)
    table = None
    with Progress(title, len(images)) as progress:
        for start in range(0, len(images), BATCH):
            with mixed_precision():
                rows = function(view(load(images, slice(start, start + BATCH), device()))).cpu().numpy()
            if table is None:
                table = np.lib.format.open_memmap(path, "w+", dtype, (len(images), rows.shape[1]))
            table[start : start + len(rows)] = rows
            progress.advance(len(rows))
    table.flush()


def write_embeddings(path: Path, title: str, images: np.ndarray, encoder: Encoder, layer: Layer) -> None:
    """Unit vectors of `images`, float32 (N, D), from `layer` of the encoder, to a .npy file."""
    encoder.eval()
    write_rows(path, title, images, encoder.input, lambda views: encoder.embed(views, layer), np.float32)


def write_probabilities(folder: Path, title: str, images: Path, model: nn.Module) -> None:
    """What a classifier of one head says of both splits: probabilities-{train,test}.npy, float16 (N, clusters)."""
    model.eval()
    for split in ("train", "test"):
        path, pixels = folder / f"probabilities-{split}.npy", read_images(images, split)
        write_rows(path, f"{title}, {split}", pixels, model.encoder.input, lambda v: model(v)[0].softmax(1), np.float16)
