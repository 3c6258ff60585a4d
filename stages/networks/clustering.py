"""The SCAN loss (Van Gansbeke et al. 2020, arXiv 2005.12320, equation 2), for several heads at once."""

import torch
from torch import Tensor

EPSILON = 1e-8


def entropy(p: Tensor) -> Tensor:
    """Entropy in nats of distributions along the last dimension."""
    return -(p * torch.log(p.clamp_min(EPSILON))).sum(dim=-1)


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
def dataset_scan_loss(p: Tensor, neighbors: Tensor, entropy_weight: float, chunk: int = 8192) -> dict[str, float]:
    """The SCAN loss of one head over a whole dataset and all its neighbour pairs: the label-free measure of a head.

    p: probabilities (N, C); neighbors: int (N, K). Reads the N·K pairs in chunks; no N × N matrix comes into being.
    """
    total = 0.0
    for start in range(0, len(p), chunk):
        rows, partners = p[start : start + chunk].float(), p[neighbors[start : start + chunk].long()].float()
        agreement = torch.einsum("nc,nkc->nk", rows, partners)
        total += -torch.log(agreement.clamp_min(EPSILON)).double().sum().item()
    consistency = total / neighbors.numel()
    spread = entropy(p.double().mean(dim=0)).item()
    return {"loss": consistency - entropy_weight * spread, "consistency": consistency, "entropy": spread}
