"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image should find each other among all others."""

import numpy as np
import torch
from torch import Tensor

from stages.losses.nt_xent import nt_xent
from stages.tasks.pretext import PretextTask
from stages.training import processes


class SimCLR(PretextTask):
    """Negatives are the other images of the batch, so large batches help."""

    head = "mlp"

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, int]:
        """Two views of each image, by turns (2B, C, H, W); the size of the global batch."""
        return self.draw_views(rows, generator, 2), len(rows)

    def step(self, views: Tensor, rows: int) -> dict[str, Tensor]:
        """NT-Xent."""
        # Both views in one forward, so that BatchNorm sees them together.
        projections = self.encoder(views).unflatten(0, (-1, 2))
        a, b = processes.gather(projections, rows).unbind(dim=1)
        return {"loss": nt_xent(a, b, self.settings.temperature)}
