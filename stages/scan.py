"""Stage scan: cluster heads that give an image and its neighbours the same cluster."""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from stages.command import fingerprint, output_folder, run, write_table
from stages.errors import UserError
from stages.images.loading import load
from stages.images.store import read_images
from stages.images.strong import StrongSettings, StrongViews
from stages.images.views import SimCLRViews, ViewSettings
from stages.networks.classifier import Classifier
from stages.networks.clustering import dataset_scan_loss, scan_loss
from stages.networks.encoder import Encoder
from stages.networks.model import load_model, save_model
from stages.params import Block, Count, Positive, Seed
from stages.training.checkpoint import Checkpoint
from stages.training.devices import device
from stages.training.inference import write_embeddings, write_probabilities
from stages.training.loop import History, Plan, fit


class Scan(Block):
    """The block `scan`; what each key does is said in params.yaml."""

    entropy_weight: Annotated[float, Field(ge=0)]
    train: Literal["heads", "all"]
    augmentation: Literal["views", "strong"]
    heads: Count
    head_epochs: Annotated[int, Field(ge=0)]
    head_batch_size: Annotated[int, Field(ge=2)]
    head_lr: Positive
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
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
    images: Path,
    pretext: Path,
    embeddings: Path,
    neighbors: Path,
    out: Path,
    params: Params,
    checkpoints: Path = Path(".ckpt"),
) -> None:
    """Train cluster heads, with `scan.train: all` also the network; write the model of the best head and what it says.

    Writes model.pt, history.csv, heads.csv (the label-free losses by which heads were chosen) and
    probabilities-{train,test}.npy, float16 (N, clusters).
    """
    p = params.scan
    train, pairs = read_images(images, "train"), torch.from_numpy(np.load(neighbors / "train.npy"))
    if params.clusters > len(train):
        raise UserError(f"clusters = {params.clusters} is more than the {len(train)} training images; lower it")
    encoder = load_model(pretext / "model.pt", Encoder)
    # Heads that begin on cached embeddings sit where these came from; heads that begin with the network sit on the
    # backbone, as in the paper.
    layer = json.loads((embeddings / "meta.json").read_text())["layer"] if p.head_epochs else "backbone"
    torch.manual_seed(params.seed)
    model = Classifier(encoder, layer, p.heads, params.clusters).to(device())

    inputs = (images, pretext, embeddings, neighbors)
    with Checkpoint(checkpoints, "scan", fingerprint(params, *inputs)) as checkpoint:
        history: History = []
        losses: list[dict] = []
        if p.head_epochs:
            vectors = torch.from_numpy(np.load(embeddings / "train.npy")).to(device())
            history += train_heads(model, vectors, pairs, params, checkpoint)
            losses += keep_best_head(model, vectors, pairs, p.entropy_weight)
        if p.train == "all":
            history += train_network(model, train, pairs, params, checkpoint)
        with output_folder(out) as folder:
            if p.train == "all":
                write_embeddings(folder / "vectors.npy", "scan, measuring", train, model.encoder, layer)
                vectors = torch.from_numpy(np.load(folder / "vectors.npy")).to(device())
                losses += keep_best_head(model, vectors, pairs, p.entropy_weight)
                (folder / "vectors.npy").unlink()
            write_probabilities(folder, "scan", images, model)
            save_model(folder / "model.pt", model)
            write_table(folder / "history.csv", history)
            write_table(folder / "heads.csv", losses)
    checkpoint.clear()


def train_heads(model: Classifier, vectors: Tensor, pairs: Tensor, params: Params, checkpoint: Checkpoint) -> History:
    """Train the linear heads alone on embeddings (N, D) and their neighbours (N, K)."""
    p = params.scan
    optimizer = torch.optim.Adam(model.heads.parameters(), lr=p.head_lr)

    def step(index: np.ndarray, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.from_numpy(index)
        partners = random_neighbors(pairs, rows, generator)
        return scan_loss(model.classify(vectors[rows]), model.classify(vectors[partners]), p.entropy_weight)

    plan = Plan(p.head_epochs, p.head_batch_size, p.head_lr)
    return fit("scan, heads", step, model.heads, optimizer, len(vectors), plan, params.seed, checkpoint)


def train_network(
    model: Classifier, train: np.ndarray, pairs: Tensor, params: Params, checkpoint: Checkpoint
) -> History:
    """Train the whole network on random views of images and of one random neighbour each."""
    p, input = params.scan, model.encoder.input
    views = {
        "views": SimCLRViews(params.views, input.mean, input.std),
        "strong": StrongViews(params.strong, input.mean, input.std),
    }[p.augmentation]
    optimizer = torch.optim.Adam(model.parameters(), lr=p.lr, weight_decay=p.weight_decay)
    model.train()

    def step(index: np.ndarray, generator: torch.Generator) -> dict[str, Tensor]:
        partners = random_neighbors(pairs, torch.from_numpy(index), generator).numpy()
        both = load(train, np.concatenate([index, partners]), device())
        logits = model(views(both, views.draw(len(both), generator)))
        return scan_loss(*logits.chunk(2, dim=1), p.entropy_weight)

    plan = Plan(p.epochs, p.batch_size, p.lr)
    return fit("scan, network", step, model, optimizer, len(train), plan, params.seed, checkpoint)


def random_neighbors(pairs: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """One of the K neighbours of each row, at random: int64 (B,)."""
    columns = torch.randint(pairs.shape[1], (len(rows),), generator=generator)
    return pairs[rows, columns].long()


@torch.no_grad()
def keep_best_head(model: Classifier, vectors: Tensor, pairs: Tensor, entropy_weight: float) -> list[dict]:
    """Leave the model the head of lowest SCAN loss over all training pairs; no label and no test image is looked at.

    Returns the losses of all heads, one row each.
    """
    model.eval()
    heads, losses = model.heads, []
    for number in range(len(heads)):
        model.heads = heads.only(number)
        terms = dataset_scan_loss(model.classify(vectors)[0].softmax(dim=1), pairs, entropy_weight)
        losses.append({"head": number, **terms})
    best = min(losses, key=lambda row: row["loss"])
    model.heads = heads.only(best["head"])
    which = f"head {best['head'] + 1} of {len(heads)}"
    print(f"scan: loss over all pairs of neighbours {best['loss']:.4f}, {which}", flush=True)
    return losses


if __name__ == "__main__":
    run(scan)
