"""NT-Xent, the loss of SimCLR.

Computed in float32 whatever the network runs in: at temperature 0.1, bfloat16 resolves a logit of 10 only to 1/16.
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
