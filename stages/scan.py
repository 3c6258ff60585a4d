"""Stage scan: cluster heads that give an image and its neighbours the same cluster."""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from stages.images.loading import Images, Rows
from stages.images.store import read_images
from stages.images.strong import StrongSettings, StrongViews
from stages.images.views import SimCLRViews, ViewSettings
from stages.losses.scan import dataset_scan_loss, scan_loss
from stages.networks.classifier import Classifier, ClusterHeads
from stages.networks.encoder import Encoder
from stages.networks.model import load_model, save_model
from stages.plumbing.command import fingerprint, output_folder, run, write_json, write_table
from stages.plumbing.errors import UserError
from stages.plumbing.params import Block, Count, Positive, Seed
from stages.training import processes
from stages.training.checkpoint import Checkpoint
from stages.training.devices import compile_if_asked, computed, device
from stages.training.inference import write_embeddings, write_probabilities
from stages.training.loop import History, Plan, fit, make_optimizer
from stages.training.processes import synchronise_batchnorm

CHUNK = 2**14  # embeddings classified together where the heads are compared


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
    images: Path,
    pretext: Path,
    embeddings: Path,
    neighbors: Path,
    out: Path,
    params: Params,
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

    inputs = (images, pretext, embeddings, neighbors)
    with Checkpoint(checkpoints, "scan", fingerprint(params, *inputs)) as checkpoint:
        history: History = []
        losses: list[dict] = []
        agreed: dict[str, np.ndarray] = {}
        vectors = {split: np.load(embeddings / f"{split}.npy", mmap_mode="r") for split in ("train", "test")}
        if p.head_epochs:
            history += train_heads(model, vectors["train"], pairs, params, checkpoint)
            losses += keep_one_head(model, vectors, pairs, p, agreed)
        if p.train != "heads":
            history += train_network(model, train, pairs, params, checkpoint)
        if p.train == "views":
            losses += keep_one_head(model, vectors, pairs, p, agreed)
        with output_folder(out) as folder:
            if p.train == "all":
                # Of test only where heads have yet to be averaged, and so to be asked about it.
                for split in ("train", "test") if len(model.heads) > 1 else ("train",):
                    path, title = folder / f"vectors-{split}.npy", f"scan, measuring {split}"
                    vectors[split] = write_embeddings(path, title, read_images(images, split), model.encoder, layer)
                losses += keep_one_head(model, vectors, pairs, p, agreed)
                for path in folder.glob("vectors-*.npy"):
                    path.unlink()
                write_probabilities(folder, "scan", images, model)
            else:
                write_answers(folder, embeddings, model)
            for split, share in agreed.items():
                np.save(folder / f"agreement-{split}.npy", share)
            save_model(folder / "model.pt", model)
            write_json(folder / "meta.json", {"scan": computed()})
            write_table(folder / "history.csv", history)
            write_table(folder / "heads.csv", losses)


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


class HeadsOnEmbeddings:
    """A batch of SCAN on cached embeddings: only the heads compute."""

    def __init__(self, model: Classifier, vectors: np.ndarray, pairs: np.ndarray, entropy_weight: float):
        self.model, self.pairs, self.entropy_weight = model, pairs, entropy_weight
        self.vectors = Rows(vectors, device())

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Embeddings (B, D) of this process's images and of a neighbour each, and the size of the global batch."""
        own, partners = processes.share(len(rows)), random_neighbors(self.pairs, rows, generator)
        return self.vectors(rows[own]), self.vectors(partners[own]), len(rows)

    def step(self, anchors: Tensor, neighbors: Tensor, rows: int) -> dict[str, Tensor]:
        """The loss of every head."""
        logits = (processes.gather(self.model.classify(part), rows, dim=1) for part in (anchors, neighbors))
        return scan_loss(*logits, self.entropy_weight)


class WholeNetwork:
    """A batch of SCAN on images: a view of each and a view of a random neighbour."""

    def __init__(
        self,
        model: Classifier,
        images: Images,
        pairs: np.ndarray,
        views: SimCLRViews | StrongViews,
        entropy_weight: float,
    ):
        self.model, self.images, self.pairs = model, images, pairs
        self.views, self.entropy_weight = views, entropy_weight

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, int]:
        """Views of images of this process and of a neighbour each, by turns (2B, C, H, W); size of the global batch."""
        both = np.stack([rows, random_neighbors(self.pairs, rows, generator)], axis=1)
        own = processes.share(len(rows))
        draws = self.views.draw(both.size, generator).slice(2 * own.start, 2 * own.stop)
        return self.views(self.images(both[own].ravel()), draws), len(rows)

    def step(self, views: Tensor, rows: int) -> dict[str, Tensor]:
        """The loss of every head."""
        logits = self.model(views).unflatten(1, (-1, 2))
        return scan_loss(*processes.gather(logits, rows, dim=1).unbind(dim=2), self.entropy_weight)


def random_neighbors(pairs: np.ndarray, rows: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """One of the K neighbours of each row, at random: int64 (B,). pairs: int (N, K), may be a memory map."""
    columns = torch.randint(pairs.shape[1], (len(rows),), generator=generator).numpy()
    return pairs[rows, columns].astype(np.int64)


@torch.no_grad()
def probabilities(model: Classifier, rows: Rows) -> Tensor:
    """What the only head of the model says of embeddings (N, D): float32 (N, clusters) on the device."""
    parts = (rows(slice(start, start + CHUNK)) for start in range(0, len(rows), CHUNK))
    return torch.cat([model.classify(part)[0].softmax(dim=1) for part in parts])


def write_answers(folder: Path, embeddings: Path, model: Classifier) -> None:
    """What the only head says of the cached embeddings: probabilities-{train,test}.npy, float16 (N, clusters)."""
    for split in ("train", "test"):
        answers = probabilities(model, Rows(np.load(embeddings / f"{split}.npy", mmap_mode="r"), device()))
        np.save(folder / f"probabilities-{split}.npy", answers.half().cpu().numpy())


@torch.no_grad()
def keep_one_head(
    model: Classifier, vectors: dict[str, np.ndarray], pairs: np.ndarray, p: Scan, agreed: dict[str, np.ndarray]
) -> list[dict]:
    """Leave the model one head: the mean of its `consensus` heads of lowest SCAN loss over all training pairs.

    No label and no test image is looked at. vectors: of train and test, float32 (N, D), pairs: int (N, K), memory maps
    or not. Returns the losses of all heads, one row each; `agreed` gets what share of several heads agree, by split.
    """
    heads, losses, members = model.heads, [], {}
    if processes.first():
        rows = Rows(vectors["train"], device())
        for number in range(len(heads)):
            model.heads = heads.only(number)
            losses.append({"head": number, **dataset_scan_loss(probabilities(model, rows), pairs, p.entropy_weight)})
        best = sorted(range(len(heads)), key=lambda head: losses[head]["loss"])[: p.consensus]
        members = align(model, heads, rows, best)
    losses, members = processes.broadcast((losses, members))
    if processes.first() and len(members) > 1:
        agreed |= {split: agreement(model, heads, members, Rows(of, device())) for split, of in vectors.items()}
    model.heads = heads.consensus(members)
    lowest = min(row["loss"] for row in losses)
    which = f"the best {len(members)} of {len(heads)} heads" if len(heads) > 1 else "one head"
    print(f"scan: loss over all pairs of neighbours {lowest:.4f} at best; kept: {which}", flush=True)
    return losses


def agreement(model: Classifier, heads: ClusterHeads, members: dict[int, list[int]], rows: Rows) -> np.ndarray:
    """The share of the members that give each row the cluster which their mean gives it, float16 (N,)."""
    answers = []
    for some in (members, *({head: order} for head, order in members.items())):
        model.heads = heads.consensus(some)
        answers.append(probabilities(model, rows).argmax(dim=1))
    mean, *each = answers
    return torch.stack([of == mean for of in each]).float().mean(dim=0).half().cpu().numpy()


def align(model: Classifier, heads: ClusterHeads, rows: Rows, members: list[int]) -> dict[int, list[int]]:
    """The order of each member's clusters in which they agree most with those of the members before it."""
    orders, total = {}, 0
    for head in members:
        model.heads = heads.only(head)
        p = probabilities(model, rows)
        if orders:
            _, order = linear_sum_assignment((total.T @ p).cpu().numpy(), maximize=True)
            orders[head] = order.tolist()
        else:
            orders[head] = list(range(p.shape[1]))
        total = total + p[:, orders[head]]
    return orders


if __name__ == "__main__":
    run(scan, within=processes.run)
