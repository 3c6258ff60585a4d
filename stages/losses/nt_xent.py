"""Losses of the pretext tasks that compare vectors.

All are computed in float32 whatever the network runs in: at temperature 0.1, bfloat16 resolves a logit of 10 only to
1/16.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent, normalised temperature-scaled cross-entropy: every view must find its partner among all other views.

    Source: SimCLR (Chen et al. 2020, arXiv 2002.05709), equation 1.

    a, b: float (B, D), the projections of two views of the same B images; they need not be of unit length.
    Both directions count (a finds b and b finds a), and each view has 2B - 2 negatives. Returns the mean, a scalar.

    >>> loss = nt_xent(head(backbone(view_1)), head(backbone(view_2)), temperature=0.1)
    """
    z = F.normalize(torch.cat([a, b]).float(), dim=1)
    with torch.autocast(z.device.type, enabled=False):
        logits = z @ z.T / temperature
    logits.fill_diagonal_(float("-inf"))  # a view is not its own partner
    batch = len(a)
    partner = torch.arange(2 * batch, device=z.device).roll(batch)
    return F.cross_entropy(logits, partner)


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE: every query must find its own key among it and the keys of a queue.

    queries, keys: float (B, D), need not be of unit length; queue: unit vectors (Q, D). Returns the mean, a scalar.
    Source: MoCo (He et al. 2019, arXiv 1911.05722), equation 1; with a memory bank in the place of the queue it is the
    non-parametric softmax (Wu et al. 2018, arXiv 1805.01978, equation 2) over a sample of the images.
    """
    queries, keys = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
    with torch.autocast(queries.device.type, enabled=False):
        own = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([own, queries @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def prediction_loss(predicted: Tensor, aimed: Tensor) -> Tensor:
    """The squared distance of unit vectors, 2 - 2 cos: float (…, D) each → their mean, a scalar.

    Source: BYOL (Grill et al. 2020, arXiv 2006.07733), equation 2.
    """
    return (2 - 2 * F.cosine_similarity(predicted.float(), aimed.float(), dim=-1)).mean()
