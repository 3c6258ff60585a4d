"""The entropy term of the SCAN loss (arXiv 2005.12320, equation 2): it is largest where all clusters are used alike."""

import torch
from torch import Tensor

EPSILON = 1e-8  # the least probability whose logarithm is taken


def entropy(p: Tensor) -> Tensor:
    """Entropy in nats of distributions along the last dimension: float (…, C) → (…), at most log C."""
    return -(p * torch.log(p.clamp_min(EPSILON))).sum(dim=-1)
