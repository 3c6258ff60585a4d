"""Which heads to keep, and what they agree on: choice by the SCAN loss, then the mean of the best.

No label and no test image is looked at to choose.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from stages.images.loading import Rows
from stages.losses.scan import dataset_scan_loss
from stages.networks.classifier import Classifier, ClusterHeads
from stages.training import processes
from stages.training.devices import device

EMBEDDINGS_AT_ONCE = 2**14  # that are classified


class Consensus(NamedTuple):
    """How the head that was kept came about."""

    losses: list[dict[str, float]]  # of every head: its number, and the terms of its loss over all pairs
    members: int  # heads that were averaged
    agreement: dict[str, np.ndarray]  # by split, see `heads_agree`; {} where a single head was kept

    def __str__(self) -> str:
        lowest, heads = min(row["loss"] for row in self.losses), len(self.losses)
        which = f" at best; kept: the best {self.members} of {heads} heads" if heads > 1 else ""
        return f"loss over all pairs of neighbours {lowest:.4f}{which}"


@torch.no_grad()
def keep_consensus(
    model: Classifier, vectors: dict[str, np.ndarray], pairs: np.ndarray, entropy_weight: float, members: int
) -> Consensus:
    """Leave the model one head: the mean of its `members` heads of lowest SCAN loss over all training pairs.

    vectors: of train and of other splits, float32 (N, D); pairs: int (N, K), of train; all may be memory maps.
    """
    heads, losses, orders = model.heads, [], {}
    if processes.first():
        rows = Rows(vectors["train"], device())
        for number in range(len(heads)):
            model.heads = heads.only(number)
            losses.append({"head": number, **dataset_scan_loss(probabilities(model, rows), pairs, entropy_weight)})
        best = sorted(range(len(heads)), key=lambda head: losses[head]["loss"])[:members]
        orders = align(model, heads, rows, best)
    losses, orders = processes.broadcast((losses, orders))
    agreed = {}
    if processes.first() and len(orders) > 1:
        agreed = {split: heads_agree(model, heads, orders, Rows(of, device())) for split, of in vectors.items()}
    model.heads = heads.consensus(orders)
    return Consensus(losses, len(orders), agreed)


def heads_agree(model: Classifier, heads: ClusterHeads, members: dict[int, list[int]], rows: Rows) -> np.ndarray:
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


@torch.no_grad()
def probabilities(model: Classifier, rows: Rows) -> Tensor:
    """What a classifier of one head says of embeddings (N, D): float32 (N, clusters) on the device."""
    parts = (rows(slice(start, start + EMBEDDINGS_AT_ONCE)) for start in range(0, len(rows), EMBEDDINGS_AT_ONCE))
    return torch.cat([model.classify(part)[0].softmax(dim=1) for part in parts])


def write_answers(folder: Path, embeddings: Path, model: Classifier) -> None:
    """The same as files, of both splits' cached embeddings: probabilities-{train,test}.npy, float16 (N, clusters)."""
    for split in ("train", "test"):
        answers = probabilities(model, Rows(np.load(embeddings / f"{split}.npy", mmap_mode="r"), device()))
        np.save(folder / f"probabilities-{split}.npy", answers.half().cpu().numpy())
