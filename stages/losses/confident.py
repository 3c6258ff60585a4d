"""The self-labeling loss of SCAN (arXiv 2005.12320, section 2.3): learn from what the network is already sure of."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Confident(NamedTuple):
    """The pseudo-labels of a batch."""

    mask: Tensor  # bool (B,): which images are confident
    labels: Tensor  # int64 (B,): the likeliest cluster of every image


def pseudo_labels(probabilities: Tensor, threshold: float) -> Confident:
    """The likeliest cluster of each row of probabilities (B, C), and whether its probability exceeds `threshold`."""
    confidence, labels = probabilities.max(dim=1)
    return Confident(confidence > threshold, labels)


def confident_loss(logits: Tensor, confident: Confident, class_weights: bool) -> Tensor:
    """Cross-entropy of the strong views against the pseudo-labels of the plain ones, over the confident images.

    logits: (B, C) of the strong views. With `class_weights`, every cluster weighs the same in the batch: n / count of
    its confident labels, averaged by weight as torch's cross_entropy does. The mask must not be empty.
    """
    chosen, labels = logits[confident.mask].float(), confident.labels[confident.mask]
    weight = None
    if class_weights:
        counts = torch.bincount(labels, minlength=logits.shape[1])
        weight = torch.where(counts > 0, len(labels) / counts.clamp_min(1), 1.0)
    return F.cross_entropy(chosen, labels, weight=weight)
