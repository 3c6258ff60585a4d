"""Neighbour quality per second: which small network to train on two cores. `python -m benchmarks.backbones`

Every candidate gets the same seconds of SimCLR training on data/images (run `dvc repro download` first), then the
purity of neighbours is measured among 10,000 training images; the best two get four times as long. Writes
reports/backbones.csv.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from stages.images.loading import Images
from stages.images.store import Meta, read_images, read_labels, read_meta
from stages.images.views import PlainView, SimCLRViews
from stages.losses.nt_xent import nt_xent
from stages.networks.backbones import BACKBONES, Residual, residual
from stages.networks.encoder import Encoder, Input
from stages.plumbing.params import read
from stages.pretext import Params
from stages.scoring.purity import purity
from stages.training.devices import device, mixed_precision
from stages.training.loop import Plan, batches, learning_rate, set_lr


def a_block_more(channels: int) -> nn.Sequential:
    """`small` with a block of its first width between the stem and the other blocks."""
    network = BACKBONES["small"](channels)
    network.insert(2, Residual(32, 32, stride=1))
    return network


CANDIDATES = {
    "tiny: 32-64, stem stride 4": BACKBONES["tiny"],
    "small: 32-64-128, stem stride 2": BACKBONES["small"],
    "half as wide: 16-32-64, stem stride 2": partial(residual, stem=2, widths=[16, 32, 64]),
    "a block more: 32-64-128, stem stride 2": a_block_more,
    "twice as wide: 64-128-256, stem stride 2": partial(residual, stem=2, widths=[64, 128, 256]),
    "finer: 16-32-64-128, stem stride 1": partial(residual, stem=1, widths=[16, 32, 64, 128]),
    "ResNet-18, CIFAR stem": BACKBONES["resnet18-cifar"],
}


def measure(name: str, seconds: float, images: np.ndarray, labels: np.ndarray, params: Params, meta: Meta) -> dict:
    """Train one candidate for so many seconds; images per second and purity at 1, 5 and 20 of its backbone features."""
    p = params.pretext
    torch.manual_seed(params.seed)
    BACKBONES["candidate"] = CANDIDATES[name]
    encoder = Encoder("candidate", p.projection_dim, Input(meta.size, meta.channels, meta.mean, meta.std))
    encoder.to(device()).train()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=p.lr, momentum=p.momentum, weight_decay=p.weight_decay)
    views = SimCLRViews(params.views, meta.mean, meta.std)
    plan = Plan(epochs=1, batch_size=p.batch_size, lr=p.lr, warmup_epochs=0.06)
    rows = Images(images, device())
    seen, epoch, start = 0, 0, time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        for index, generator in batches(len(images), p.batch_size, params.seed, epoch):
            if (elapsed := time.monotonic() - start) >= seconds:
                break
            set_lr(optimizer, learning_rate(plan, elapsed / seconds))
            batch = rows(index)
            pair = torch.cat([views(batch, views.draw(len(index), generator)) for _ in range(2)])
            with mixed_precision():
                loss = nt_xent(*encoder(pair).chunk(2), p.temperature)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            seen += len(index)
        epoch += 1

    # Only a sample is embedded, as the largest candidate takes minutes for all.
    sample = np.sort(np.random.default_rng(params.seed).permutation(len(images))[:10_000])
    plain, vectors = PlainView(meta.mean, meta.std), []
    encoder.eval()
    with torch.inference_mode(), mixed_precision():
        for part in np.array_split(sample, 40):
            vectors.append(encoder.embed(plain(rows(part)), "backbone").cpu().numpy())
    found = purity(np.concatenate(vectors), labels[sample], np.arange(len(sample)), (1, 5, 20))
    weights = sum(parameter.numel() for parameter in encoder.backbone.parameters())
    scores = {f"purity_{k}": round(value, 4) for k, value in found.items()}
    return {
        "backbone": name,
        "seconds": seconds,
        "weights": weights,
        "images_per_second": round(seen / elapsed),
        **scores,
    }


def main() -> None:
    """Measure every candidate in turn, then the best two for four times as long; write a row after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbones", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=100.0, help="training time of each candidate; default 100")
    parser.add_argument("--out", type=Path, default=Path("reports/backbones.csv"))
    arguments = parser.parse_args()
    params, folder = read(Params, Path("params.yaml")), Path("data/images")
    images, labels = read_images(folder, "train"), read_labels(Path("data/labels"))[0]["train"]
    table: list[dict] = []

    def row(name: str, seconds: float) -> None:
        table.append(measure(name, seconds, images, labels, params, read_meta(folder)))
        print(table[-1], flush=True)
        pd.DataFrame(table).to_csv(arguments.out, index=False)

    for name in CANDIDATES:
        row(name, arguments.seconds)
    # What is best after a minute need not be after the time that the pipeline takes.
    for best in sorted(table, key=lambda found: -found["purity_20"])[:2]:
        row(best["backbone"], 4 * arguments.seconds)


if __name__ == "__main__":
    main()
