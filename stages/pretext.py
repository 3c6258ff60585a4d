"""Stage pretext: an encoder, trained without labels or brought from elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from stages.images.loading import Images
from stages.images.store import Concatenated, read_images, read_meta
from stages.images.views import SimCLRViews, ViewSettings
from stages.networks.backbones import ABSENT, Name
from stages.networks.encoder import Encoder, Input
from stages.networks.model import save_model
from stages.networks.vectors import read_vectors, write_unit_vectors
from stages.networks.weights import pretrained
from stages.plumbing.command import run
from stages.plumbing.outputs import output_folder, write_json, write_table
from stages.plumbing.params import Block, Count, Positive, Seed
from stages.tasks.byol import BYOL
from stages.tasks.instance import InstanceDiscrimination
from stages.tasks.moco import MoCo
from stages.tasks.pretext import PretextTask, Settings
from stages.tasks.rotnet import RotNet
from stages.tasks.simclr import SimCLR
from stages.training import processes
from stages.training.checkpoint import Checkpoint, fingerprint
from stages.training.devices import compile_if_asked, computed, device
from stages.training.loop import Plan, fit, make_optimizer
from stages.training.processes import synchronise_batchnorm

TASKS: dict[str, type[PretextTask]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "rotnet": RotNet,
    "instance": InstanceDiscrimination,
}


class Pretext(Block):
    """The block `pretext`; what each key does is said in params.yaml."""

    method: Literal[*TASKS, "frozen", "embeddings"]
    backbone: Name
    weights: str | None
    projection_dim: Count
    temperature: Positive
    ema: Annotated[float, Field(ge=0, lt=1)]
    queue: Count
    negatives: Count
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    warmup_epochs: Annotated[float, Field(ge=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _weights_where_they_are_read(self) -> "Pretext":
        wanted = {"frozen": "a file, or download", "embeddings": "a folder with train.npy and test.npy"}
        if self.method in wanted and self.weights is None:
            raise ValueError(f"method: {self.method} needs weights: {wanted[self.method]}")
        if self.method not in wanted and self.weights is not None:
            raise ValueError(f"method: {self.method} starts afresh and reads no weights; set weights: null")
        return self


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    views: ViewSettings
    pretext: Pretext


def pretext(
    params: Params,
    images: Path = Path("data/images"),
    out: Path = Path("data/pretext"),
    checkpoints: Path = Path(".ckpt"),
) -> None:
    """Write model.pt and history.csv; where embeddings were made elsewhere, these too, as unit vectors."""
    torch.manual_seed(params.seed)
    if params.pretext.method in TASKS:
        train(images, out, params, checkpoints)
    elif params.pretext.method == "frozen":
        freeze(images, out, params.pretext)
    else:
        take_over(images, out, Path(params.pretext.weights).expanduser())


def train(images: Path, out: Path, params: Params, checkpoints: Path) -> None:
    """Train an encoder on data/images/train.npy, and on unlabeled.npy if the dataset has one."""
    p, meta = params.pretext, read_meta(images)
    splits = [read_images(images, split) for split in ("train", "unlabeled") if (images / f"{split}.npy").exists()]
    pixels = Images(Concatenated(splits) if len(splits) > 1 else splits[0], device())
    views = SimCLRViews(params.views, meta.mean, meta.std)
    input = Input(meta.size, meta.channels, meta.mean, meta.std)
    encoder = Encoder(p.backbone, p.projection_dim, input, TASKS[p.method].head)
    task = TASKS[p.method](encoder, pixels, views, Settings(p.temperature, p.ema, p.queue, p.negatives))
    task = synchronise_batchnorm(task.to(device())).train()
    compile_if_asked(encoder.backbone)
    learning = [weight for weight in task.parameters() if weight.requires_grad]
    optimizer = make_optimizer("sgd", learning, p.lr, p.weight_decay, p.momentum)
    optimizer.register_step_post_hook(lambda *_: task.follow())
    plan = Plan(p.epochs, p.batch_size, p.lr, "cosine", p.warmup_epochs)
    with Checkpoint(checkpoints, "pretext", fingerprint(params, images)) as checkpoint:
        history = fit("pretext", task, task, optimizer, len(pixels), plan, params.seed, checkpoint)
        with output_folder(out) as folder:
            save_model(folder / "model.pt", task.encoder)
            write_json(folder / "meta.json", {"pretext": computed()})
            write_table(folder / "history.csv", history)


def freeze(images: Path, out: Path, p: Pretext) -> None:
    """Take a network as it was trained elsewhere, normalised as it was there."""
    meta = read_meta(images)
    encoder = pretrained(p.backbone, p.projection_dim, meta.size, meta.channels, p.weights)
    with output_folder(out) as folder:
        save_untrained(folder, encoder)
    print(f"pretext: {p.backbone}, {encoder.backbone.dim} features, weights from {p.weights}; nothing was trained")


def take_over(images: Path, out: Path, source: Path) -> None:
    """Take embeddings that were made elsewhere: source/{train,test}.npy, float (N, D), brought to unit length."""
    meta = read_meta(images)
    found = read_vectors(source, {split: len(read_images(images, split)) for split in ("train", "test")})
    dim = found["train"].shape[1]
    encoder = Encoder(f"{ABSENT}{dim}", 1, Input(meta.size, meta.channels, meta.mean, meta.std), "none")
    with output_folder(out) as folder:
        for split, rows in found.items():
            write_unit_vectors(folder / f"{split}.npy", rows, source / f"{split}.npy")
        save_untrained(folder, encoder)
    print(f"pretext: embeddings of {dim} numbers from {source}; nothing was trained")


def save_untrained(folder: Path, encoder: Encoder) -> None:
    """The outputs of a pretext that trained nothing and computed nothing."""
    save_model(folder / "model.pt", encoder)
    write_table(folder / "history.csv", [], ["epoch", "lr", "loss"])
    write_json(folder / "meta.json", {})


if __name__ == "__main__":
    run(pretext, within=processes.run)
