"""RotNet (Gidaris et al. 2018, arXiv 1803.07728): which way up is the image?"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.images.loading import Images
from stages.images.views import SimCLRViews
from stages.networks.encoder import Encoder
from stages.tasks.pretext import PretextTask, Settings
from stages.training import processes


class RotNet(PretextTask):
    """Each view comes in all four orientations, and a linear layer on the backbone tells them apart."""

    head = "none"

    def __init__(self, encoder: Encoder, images: Images, views: SimCLRViews, settings: Settings):
        super().__init__(encoder, images, views, settings)
        self.orientation = nn.Linear(encoder.dim("backbone"), 4)

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, int]:
        """Four orientations of a view of each image, by turns (4B, C, H, W); the size of the global batch."""
        views = self.draw_views(rows, generator, 1)
        turned = torch.stack([views.rot90(quarter, dims=(2, 3)) for quarter in range(4)], dim=1)
        return turned.flatten(0, 1), len(rows)

    def step(self, turned: Tensor, rows: int) -> dict[str, Tensor]:
        """Cross-entropy over the four orientations; the share that is told right."""
        logits = self.orientation(self.encoder.backbone(turned)).unflatten(0, (-1, 4))
        logits = processes.gather(logits, rows).flatten(0, 1).float()
        answers = torch.arange(4, device=logits.device).repeat(rows)
        return {"loss": F.cross_entropy(logits, answers), "accuracy": (logits.argmax(1) == answers).float().mean()}
