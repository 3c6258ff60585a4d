"""Stage pretext: train an encoder without labels."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.command import fingerprint, output_folder, run, write_table
from stages.images.loading import Images
from stages.images.store import read_images, read_meta
from stages.images.views import SimCLRViews, ViewSettings
from stages.networks.contrastive import nt_xent
from stages.networks.encoder import Encoder, Input
from stages.networks.model import save_model
from stages.params import Block, Count, Positive, Seed
from stages.training import processes
from stages.training.checkpoint import Checkpoint
from stages.training.devices import compile_if_asked, device
from stages.training.loop import Plan, fit
from stages.training.processes import synchronise_batchnorm


class Pretext(Block):
    """The block `pretext`; what each key does is said in params.yaml."""

    backbone: Literal["tiny", "small", "resnet18-cifar"]
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


class SimCLR:
    """A batch of SimCLR: two views of every image, which should find each other among all."""

    def __init__(self, encoder: Encoder, images: Images, views: SimCLRViews, temperature: float):
        self.encoder, self.images, self.views, self.temperature = encoder, images, views, temperature

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, int]:
        """Two views of each image of this process, one after the other (2B, C, H, W); the size of the global batch."""
        own = processes.share(len(rows))
        draws = self.views.draw(2 * len(rows), generator).slice(2 * own.start, 2 * own.stop)
        return self.views(self.images(rows[own]).repeat_interleave(2, dim=0), draws), len(rows)

    def step(self, views: Tensor, rows: int) -> dict[str, Tensor]:
        """The loss."""
        # Both views in one forward, so that BatchNorm sees them together.
        projections = self.encoder(views).unflatten(0, (-1, 2))
        a, b = processes.gather(projections, rows).unbind(dim=1)
        return {"loss": nt_xent(a, b, self.temperature)}


def pretext(images: Path, out: Path, params: Params, checkpoints: Path = Path(".ckpt")) -> None:
    """Train the encoder with SimCLR on data/images/train.npy; write model.pt and history.csv."""
    p = params.pretext
    meta, train = read_meta(images), Images(read_images(images, "train"), device())
    torch.manual_seed(params.seed)
    encoder = Encoder(p.backbone, p.projection_dim, Input(meta.size, meta.channels, meta.mean, meta.std))
    encoder = synchronise_batchnorm(encoder.to(device())).train()
    compile_if_asked(encoder.backbone)
    # The paper decays every weight, BatchNorm's and the biases' too.
    optimizer = torch.optim.SGD(encoder.parameters(), lr=p.lr, momentum=p.momentum, weight_decay=p.weight_decay)
    task = SimCLR(encoder, train, SimCLRViews(params.views, meta.mean, meta.std), p.temperature)
    plan = Plan(p.epochs, p.batch_size, p.lr, "cosine", p.warmup_epochs)
    with Checkpoint(checkpoints, "pretext", fingerprint(params, images)) as checkpoint:
        history = fit("pretext", task, encoder, optimizer, len(train), plan, params.seed, checkpoint)
        with output_folder(out) as folder:
            save_model(folder / "model.pt", encoder)
            write_table(folder / "history.csv", history)
        checkpoint.clear()


if __name__ == "__main__":
    run(pretext, within=processes.run)
