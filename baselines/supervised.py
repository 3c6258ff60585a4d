"""Stage supervised, of the baselines: the same network, views and schedule with labels, the upper bound."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor, nn

from stages.images.loading import Images
from stages.images.store import read_images, read_labels, read_meta
from stages.images.views import PlainView, SimCLRViews, ViewSettings
from stages.networks.backbones import Name, build_backbone
from stages.plumbing.command import run
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_file, write_scores
from stages.plumbing.params import Block, Count, Positive, Seed
from stages.training import processes
from stages.training.checkpoint import Checkpoint, fingerprint
from stages.training.devices import compile_if_asked, device, mixed_precision
from stages.training.loop import Plan, fit, make_optimizer
from stages.training.processes import synchronise_batchnorm

BATCH = 256  # images classified together


class Schedule(BaseModel, extra="ignore", frozen=True, strict=True, allow_inf_nan=False):
    """Of the block `pretext`, the network and the schedule; the other keys are about its own task."""

    backbone: Name
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
    pretext: Schedule


class Supervised:
    """A batch with labels: one view of each image, cross-entropy."""

    def __init__(self, network: nn.Module, images: Images, labels: np.ndarray, views: SimCLRViews):
        self.network, self.images, self.views = network, images, views
        self.labels = torch.from_numpy(labels)

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A view of each image of this process (B, C, H, W); the labels of the global batch."""
        own = processes.share(len(rows))
        draws = self.views.draw(len(rows), generator).slice(own.start, own.stop)
        return self.views(self.images(rows[own]), draws), self.labels[rows]

    def step(self, views: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and accuracy."""
        logits = processes.gather(self.network(views), len(labels)).float()
        labels = labels.to(logits.device)
        return {"loss": F.cross_entropy(logits, labels), "accuracy": (logits.argmax(1) == labels).float().mean()}


def supervised(
    params: Params,
    images: Path = Path("data/images"),
    labels: Path = Path("data/labels"),
    out: Path = Path("reports/baselines/supervised.json"),
    checkpoints: Path = Path(".ckpt"),
) -> None:
    """Train a linear layer on the backbone with the labels of train; write the accuracies of both splits as JSON."""
    known, classes = read_labels(labels)
    if set(known) != {"train", "test"}:
        raise UserError(
            f"{labels} has labels of {' and '.join(known) or 'nothing'}; this needs those of train and test"
        )
    p, meta = params.pretext, read_meta(images)
    torch.manual_seed(params.seed)
    backbone = build_backbone(p.backbone, meta.channels, meta.size)
    network = synchronise_batchnorm(nn.Sequential(backbone, nn.Linear(backbone.dim, len(classes))).to(device())).train()
    compile_if_asked(backbone)
    train = Images(read_images(images, "train"), device())
    task = Supervised(network, train, known["train"], SimCLRViews(params.views, meta.mean, meta.std))
    optimizer = make_optimizer("sgd", network.parameters(), p.lr, p.weight_decay, p.momentum)
    plan = Plan(p.epochs, p.batch_size, p.lr, "cosine", p.warmup_epochs)
    with Checkpoint(checkpoints, "supervised", fingerprint(params, images, labels)) as checkpoint:
        fit("supervised", task, network, optimizer, len(train), plan, params.seed, checkpoint)
        view = PlainView(meta.mean, meta.std)
        found = {split: accuracy(network, images, split, view, known[split]) for split in ("test", "train")}
        if processes.first():
            with output_file(out) as path:
                write_scores(path, {"dataset": meta.name} | {split: {"acc": share} for split, share in found.items()})
    print("supervised:", *(f"{split} {share:.4f}" for split, share in found.items()))


@torch.inference_mode()
def accuracy(network: nn.Module, images: Path, split: str, view: PlainView, labels: np.ndarray) -> float:
    """Share of the plain images of a split that get their label, int (N,); each process looks at its part of them."""
    network.eval()
    pixels, own = Images(read_images(images, split), device()), processes.share(len(labels))
    right = torch.zeros(1, dtype=torch.int64, device=device())
    for start in range(own.start, own.stop, BATCH):
        part = slice(start, min(start + BATCH, own.stop))
        with mixed_precision():
            said = network(view(pixels(part))).argmax(dim=1)
        right += (said == torch.from_numpy(labels[part]).to(said.device)).sum()
    return processes.gather(right, processes.count()).sum().item() / len(labels)


if __name__ == "__main__":
    run(supervised, within=processes.run)
