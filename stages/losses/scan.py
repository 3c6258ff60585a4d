"""The SCAN loss (Van Gansbeke et al. 2020, arXiv 2005.12320, equation 2), for several heads at once."""

import numpy as np
import torch
from torch import Tensor

from stages.losses.entropy import EPSILON, entropy

NUMBERS_AT_ONCE = 2**20  # of probabilities: few enough to stay in a processor's cache


def scan_loss(anchors: Tensor, neighbors: Tensor, entropy_weight: float) -> dict[str, Tensor]:
    """Neighbours should agree and be sure of it, while all clusters stay in use.

    anchors, neighbors: logits (B, C) or, for several heads, (heads, B, C); row i of `neighbors` belongs to a neighbour
    of row i of `anchors`. Returns per head (a scalar without the head dimension):
        consistency  -mean log <p(x), p(x')>
        entropy      H(mean p(x)), at most log C
        loss         consistency - entropy_weight * entropy; negative as soon as the clusters are used evenly
    """
    # log <p, q> = logsumexp(log p + log q): stays finite where the product underflows.
    log_p, log_q = torch.log_softmax(anchors.float(), dim=-1), torch.log_softmax(neighbors.float(), dim=-1)
    consistency = -torch.logsumexp(log_p + log_q, dim=-1).mean(dim=-1)
    spread = entropy(log_p.exp().mean(dim=-2))
    return {"loss": consistency - entropy_weight * spread, "consistency": consistency, "entropy": spread}


@torch.no_grad()
def dataset_scan_loss(
    p: Tensor, neighbors: np.ndarray, entropy_weight: float, at_once: int = NUMBERS_AT_ONCE
) -> dict[str, float]:
    """The SCAN loss of one head over a whole dataset and all its neighbour pairs: the label-free measure of a head.

    p: probabilities float32 (N, C); neighbors: int (N, K), may be a memory map. Reads the N·K pairs, at most `at_once`
    probabilities of neighbours at a time; no N × N matrix comes into being.
    """
    total, step = 0.0, max(1, at_once // (neighbors.shape[1] * p.shape[1]))
    for start in range(0, len(p), step):
        partners = p[torch.from_numpy(neighbors[start : start + step].astype(np.int64)).to(p.device)]
        agreement = torch.einsum("nc,nkc->nk", p[start : start + step], partners)
        total += -torch.log(agreement.clamp_min(EPSILON)).sum().item()
    consistency = total / neighbors.size
    spread = entropy(p.mean(dim=0)).item()
    return {"loss": consistency - entropy_weight * spread, "consistency": consistency, "entropy": spread}
