"""BYOL (Grill et al. 2020, arXiv 2006.07733): one view predicts what a slowly following network makes of the other."""

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from stages.images.loading import Images
from stages.images.views import SimCLRViews
from stages.losses.byol import byol_loss
from stages.networks.encoder import Encoder, projection_head
from stages.tasks.pretext import PretextTask, Settings
from stages.training import ema, processes


class BYOL(PretextTask):
    """No negatives. The target's decay is constant here; the paper raises it to 1 by half a cosine."""

    head = "mlp-batchnorm"

    def __init__(self, encoder: Encoder, images: Images, views: SimCLRViews, settings: Settings):
        super().__init__(encoder, images, views, settings)
        dim = encoder.dim("projection")
        self.predictor = projection_head(self.head, dim, dim)
        self.target = deepcopy(encoder).requires_grad_(False)

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, int]:
        """Two views of each image, by turns (2B, C, H, W); the size of the global batch."""
        return self.draw_views(rows, generator, 2), len(rows)

    def step(self, views: Tensor, rows: int) -> dict[str, Tensor]:
        """The loss of both directions."""
        predicted = self.predictor(self.encoder(views)).unflatten(0, (-1, 2))
        with torch.no_grad():
            aimed = self.target(views).unflatten(0, (-1, 2))
        predicted, aimed = processes.gather(predicted, rows), processes.gather(aimed, rows)
        return {"loss": byol_loss(predicted, aimed.flip(1))}

    def follow(self) -> None:
        """The target's weights follow; BatchNorm's statistics are each network's own."""
        ema.follow(self.target.parameters(), self.encoder.parameters(), self.settings.ema)
