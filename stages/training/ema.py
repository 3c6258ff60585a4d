"""Exponential moving averages of weights: how MoCo's keys, BYOL's target and the mean teacher follow a network."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def follow(average: Iterable[Tensor], live: Iterable[Tensor], decay: float) -> None:
    """Take one step, in place: average ← decay · average + (1 - decay) · live, tensor by tensor.

    Whole numbers, such as BatchNorm's counter of batches, have no average and are copied.
    """
    for mine, theirs in zip(average, live, strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)
