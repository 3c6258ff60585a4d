"""InfoNCE, the loss of MoCo, and of instance discrimination.

Computed in float32 whatever the network runs in: at temperature 0.1, bfloat16 resolves a logit of 10 only to 1/16.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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
