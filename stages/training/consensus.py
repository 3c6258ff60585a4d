"""Which heads to keep, and what they agree on: choice by the SCAN loss, then the mean of the best.

No label and no test image is looked at to choose.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from stages.images.loading import Rows
from stages.losses.scan import dataset_scan_loss
from stages.networks.classifier import Classifier, ClusterHeads
from stages.training import processes
from stages.training.devices import device
from stages.training.inference import probabilities


class Consensus(NamedTuple):
    """How the head that was kept came about."""

    losses: list[dict[str, float]]  # of every head: its number, and the terms of its loss over all pairs
    agreement: dict[str, np.ndarray]  # by split, see `agreement`; {} where a single head was kept


@torch.no_grad()
def keep_consensus(
    title: str,
    model: Classifier,
    vectors: dict[str, np.ndarray],
    pairs: np.ndarray,
    entropy_weight: float,
    members: int,
) -> Consensus:
    """Leave the model one head: the mean of its `members` heads of lowest SCAN loss over all training pairs.

    title: of the work, for the line that says what was kept. vectors: of train and of other splits, float32 (N, D);
    pairs: int (N, K), of train; all may be memory maps.
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
        agreed = {split: agreement(model, heads, orders, Rows(of, device())) for split, of in vectors.items()}
    model.heads = heads.consensus(orders)
    lowest = min(row["loss"] for row in losses)
    which = f"the best {len(orders)} of {len(heads)} heads" if len(heads) > 1 else "one head"
    print(f"{title}: loss over all pairs of neighbours {lowest:.4f} at best; kept: {which}", flush=True)
    return Consensus(losses, agreed)


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
