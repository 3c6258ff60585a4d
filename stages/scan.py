"""Stage scan: cluster heads that give an image and its neighbours the same cluster."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from stages.images.loading import Images
from stages.images.store import read_images
from stages.images.strong import StrongSettings, StrongViews
from stages.images.views import SimCLRViews, ViewSettings
from stages.networks.classifier import Classifier
from stages.networks.encoder import Encoder
from stages.networks.model import load_model, save_model
from stages.plumbing.command import run
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_folder, write_json, write_table
from stages.plumbing.params import Block, Count, Positive, Seed
from stages.tasks.scan import HeadsOnEmbeddings, WholeNetwork
from stages.training import processes
from stages.training.checkpoint import Checkpoint, fingerprint
from stages.training.consensus import Consensus, keep_consensus, write_answers
from stages.training.devices import compile_if_asked, computed, device
from stages.training.inference import write_embeddings, write_probabilities
from stages.training.loop import History, Plan, fit, make_optimizer
from stages.training.processes import synchronise_batchnorm


class Scan(Block):
    """The block `scan`; what each key does is said in params.yaml."""

    entropy_weight: Annotated[float, Field(ge=0)]
    train: Literal["heads", "views", "all"]
    augmentation: Literal["views", "strong"]
    heads: Count
    consensus: Count
    head_epochs: Annotated[int, Field(ge=0)]
    head_batch_size: Annotated[int, Field(ge=2)]
    head_lr: Positive
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Literal["adam", "sgd"]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _trains_something(self) -> "Scan":
        if self.train == "heads" and self.head_epochs == 0:
            raise ValueError("train: heads needs head_epochs of 1 or more, or set train: all")
        return self


class Params(Block):
    """What this stage reads of params.yaml."""

    seed: Seed
    clusters: Annotated[int, Field(ge=2)]
    views: ViewSettings
    strong: StrongSettings
    scan: Scan


def scan(
    params: Params,
    images: Path = Path("data/images"),
    pretext: Path = Path("data/pretext"),
    embeddings: Path = Path("data/embeddings"),
    neighbors: Path = Path("data/neighbors"),
    out: Path = Path("data/scan"),
    checkpoints: Path = Path(".ckpt"),
) -> None:
    """Train cluster heads, with `scan.train: all` also the network; write the model of one head and what it says.

    Writes model.pt, history.csv, heads.csv (the label-free losses by which heads were chosen) and
    probabilities-{train,test}.npy, float16 (N, clusters); where several heads were averaged, also
    agreement-{train,test}.npy, float16 (N,): the share of them that give an image the cluster of their mean.
    """
    p = params.scan
    train, pairs = read_images(images, "train"), np.load(neighbors / "train.npy", mmap_mode="r")
    if params.clusters > len(train):
        raise UserError(f"clusters = {params.clusters} is more than the {len(train)} training images; lower it")
    encoder = load_model(pretext / "model.pt", Encoder)
    if p.train != "heads":
        encoder.require_network("set scan.train: heads and selflabel.epochs: 0")
    # Heads that begin on cached embeddings, or stay on an encoder that does not learn, sit where these came from; heads
    # that begin with the network sit on the backbone, as in the paper.
    on_embeddings = p.head_epochs or p.train != "all"
    layer = json.loads((embeddings / "meta.json").read_text())["layer"] if on_embeddings else "backbone"
    torch.manual_seed(params.seed)
    model = synchronise_batchnorm(Classifier(encoder, layer, p.heads, params.clusters).to(device()))
    vectors = {split: np.load(embeddings / f"{split}.npy", mmap_mode="r") for split in ("train", "test")}

    kept: list[Consensus] = []

    def keep() -> None:
        kept.append(keep_consensus(model, vectors, pairs, p.entropy_weight, p.consensus))
        print(f"scan: {kept[-1]}", flush=True)

    inputs = (images, pretext, embeddings, neighbors)
    with Checkpoint(checkpoints, "scan", fingerprint(params, *inputs)) as checkpoint:
        history: History = []
        if p.head_epochs:
            history += train_heads(model, vectors["train"], pairs, params, checkpoint)
            keep()
        if p.train != "heads":
            history += train_network(model, train, pairs, params, checkpoint)
        with output_folder(out) as folder, TemporaryDirectory(dir=folder) as scratch:
            if p.train == "all":
                vectors = embed_anew(Path(scratch), images, model)
            if p.train != "heads":
                keep()
            if p.train == "all":
                write_probabilities(folder, "scan", images, model)
            else:
                write_answers(folder, embeddings, model)
            for split, share in (pair for consensus in kept for pair in consensus.agreement.items()):
                np.save(folder / f"agreement-{split}.npy", share)
            save_model(folder / "model.pt", model)
            write_json(folder / "meta.json", {"scan": computed()})
            write_table(folder / "history.csv", history)
            write_table(folder / "heads.csv", [row for consensus in kept for row in consensus.losses])


def train_heads(
    model: Classifier, vectors: np.ndarray, pairs: np.ndarray, params: Params, checkpoint: Checkpoint
) -> History:
    """Train the linear heads alone on embeddings (N, D) and their neighbours (N, K)."""
    p = params.scan
    optimizer = torch.optim.Adam(model.heads.parameters(), lr=p.head_lr)
    plan = Plan(p.head_epochs, p.head_batch_size, p.head_lr)
    task = HeadsOnEmbeddings(model, vectors, pairs, p.entropy_weight)
    return fit("scan, heads", task, model.heads, optimizer, len(vectors), plan, params.seed, checkpoint)


def train_network(
    model: Classifier, train: np.ndarray, pairs: np.ndarray, params: Params, checkpoint: Checkpoint
) -> History:
    """Train the whole network, or only its heads, on random views of images and of one random neighbour each."""
    p, input = params.scan, model.encoder.input
    views = {
        "views": SimCLRViews(params.views, input.mean, input.std),
        "strong": StrongViews(params.strong, input.mean, input.std),
    }[p.augmentation]
    compile_if_asked(model.encoder.backbone)
    model.train()
    learning: nn.Module = model
    if p.train == "views":
        model.encoder.requires_grad_(False).eval()
        learning = model.heads
    optimizer = make_optimizer(p.optimizer, learning.parameters(), p.lr, p.weight_decay)
    task = WholeNetwork(model, Images(train, device()), pairs, views, p.entropy_weight)
    plan = Plan(p.epochs, p.batch_size, p.lr)
    return fit("scan, network", task, learning, optimizer, len(train), plan, params.seed, checkpoint)


def embed_anew(folder: Path, images: Path, model: Classifier) -> dict[str, np.ndarray]:
    """Embeddings by the network as it is now, memory maps of files in a folder.

    Of test only where heads have yet to be averaged, and so to be asked about it.
    """
    return {
        split: write_embeddings(
            folder / f"{split}.npy", f"scan, measuring {split}", read_images(images, split), model.encoder, model.layer
        )
        for split in (("train", "test") if len(model.heads) > 1 else ("train",))
    }


if __name__ == "__main__":
    run(scan, within=processes.run)
