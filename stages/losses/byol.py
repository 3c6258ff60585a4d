"""The loss of BYOL, which has no negatives."""

import torch.nn.functional as F
from torch import Tensor


def byol_loss(predicted: Tensor, aimed: Tensor) -> Tensor:
    """Squared distance of the prediction to its target, both of unit length: 2 - 2 cos, on average.

    predicted, aimed: float (…, D), need not be of unit length. Returns a scalar.
    Source: BYOL (Grill et al. 2020, arXiv 2006.07733), equation 2.
    """
    return (2 - 2 * F.cosine_similarity(predicted.float(), aimed.float(), dim=-1)).mean()
