"""Stage pretext: train an encoder without labels."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.command import fingerprint, output_folder, run, write_table
from stages.images.loading import load
from stages.images.store import read_images, read_meta
from stages.images.views import SimCLRViews, ViewSettings
from stages.networks.contrastive import nt_xent
from stages.networks.encoder import Encoder, Input
from stages.networks.model import save_model
from stages.params import Block, Count, Positive, Seed
from stages.training.checkpoint import Checkpoint
from stages.training.devices import device
from stages.training.loop import Plan, fit


class Pretext(Block):
    """The block `pretext`; what each key does is said in params.yaml."""

    backbone: Literal["small", "resnet18-cifar"]
    projection_dim: Count
    temperature: Positive
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    warmup_epochs: Annotated[float, Field(ge=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    views: ViewSettings
    pretext: Pretext


def pretext(images: Path, out: Path, params: Params, checkpoints: Path = Path(".ckpt")) -> None:
    """Train the encoder with SimCLR on data/images/train.npy; write model.pt and history.csv."""
    p = params.pretext
    meta, train = read_meta(images), read_images(images, "train")
    torch.manual_seed(params.seed)
    encoder = Encoder(p.backbone, p.projection_dim, Input(meta.size, meta.channels, meta.mean, meta.std))
    encoder.to(device()).train()
    views = SimCLRViews(params.views, meta.mean, meta.std)
    # The paper decays every weight, BatchNorm's and the biases' too.
    optimizer = torch.optim.SGD(encoder.parameters(), lr=p.lr, momentum=p.momentum, weight_decay=p.weight_decay)

    def step(index: np.ndarray, generator: torch.Generator) -> dict[str, Tensor]:
        batch = load(train, index, device())
        a, b = (views(batch, views.draw(len(index), generator)) for _ in range(2))
        # Both views in one forward, so that BatchNorm sees them together.
        projections = encoder(torch.cat([a, b]))
        return {"loss": nt_xent(*projections.chunk(2), p.temperature)}

    plan = Plan(p.epochs, p.batch_size, p.lr, "cosine", p.warmup_epochs)
    with Checkpoint(checkpoints, "pretext", fingerprint(params, images)) as checkpoint:
        history = fit("pretext", step, encoder, optimizer, len(train), plan, params.seed, checkpoint)
        with output_folder(out) as folder:
            save_model(folder / "model.pt", encoder)
            write_table(folder / "history.csv", history)
        checkpoint.clear()


if __name__ == "__main__":
    run(pretext)
