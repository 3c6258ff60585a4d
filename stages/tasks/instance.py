"""Instance discrimination with a memory bank (Wu et al. 2018, arXiv 1805.01978): every image is a class of its own."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.images.loading import Images
from stages.images.views import SimCLRViews
from stages.losses.info_nce import info_nce
from stages.networks.encoder import Encoder
from stages.tasks.pretext import PretextTask, Settings
from stages.training import processes


class InstanceDiscrimination(PretextTask):
    """A view must be told from the remembered vectors of other images.

    By a softmax over the image itself and negatives, drawn evenly from all images and shared by a batch. The paper's
    noise-contrastive estimation of the same softmax needs its constant, estimated when vectors are still random, and
    in short training never recovers from that.
    """

    head = "linear"

    def __init__(self, encoder: Encoder, images: Images, views: SimCLRViews, settings: Settings):
        super().__init__(encoder, images, views, settings)
        self.register_buffer("bank", F.normalize(torch.randn(len(images), encoder.dim("projection")), dim=1))

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A view of each image of this process (B, C, H, W); rows of the global batch and of its negatives."""
        negatives = torch.randint(len(self.images), (self.settings.negatives,), generator=generator)
        return self.draw_views(rows, generator, 1), torch.from_numpy(rows), negatives

    def step(self, views: Tensor, rows: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The loss; the bank then takes in the mean of what it held and what the network says now."""
        vectors = processes.gather(F.normalize(self.encoder(views).float(), dim=1), len(rows))
        rows, negatives = rows.to(vectors.device), negatives.to(vectors.device)
        remembered = self.bank[rows]
        loss = info_nce(vectors, remembered, self.bank[negatives], self.settings.temperature)
        self.bank[rows] = F.normalize(remembered + vectors.detach(), dim=1)
        return {"loss": loss}
