"""MoCo v2 (Chen et al. 2020, arXiv 2003.04297; He et al. 2019, arXiv 1911.05722): negatives from a queue of keys."""

from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.images.loading import Images
from stages.images.views import SimCLRViews
from stages.losses.info_nce import info_nce
from stages.networks.encoder import Encoder
from stages.plumbing.errors import UserError
from stages.tasks.pretext import PretextTask, Settings
from stages.training import ema, processes

GROUPS, LEAST = 8, 16  # parts that a batch of keys is normalised in, as by eight GPUs, of at least so many images


class MoCo(PretextTask):
    """A query must find its key, the other view through a slowly following encoder, among the keys of past batches."""

    head = "mlp"

    def __init__(self, encoder: Encoder, images: Images, views: SimCLRViews, settings: Settings):
        super().__init__(encoder, images, views, settings)
        if settings.queue > len(images) // 2:
            raise UserError(
                f"pretext.queue = {settings.queue}, but there are {len(images)} images: their own keys would be among "
                f"the negatives; set it to {len(images) // 2} or less"
            )
        self.key_encoder = deepcopy(encoder).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue, encoder.dim("projection")), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Two views of each image, by turns (2B, C, H, W); an order of these images (B,); the global batch's size."""
        order = torch.randperm(len(rows), generator=generator)[processes.share(len(rows))].argsort()
        return self.draw_views(rows, generator, 2), order, len(rows)

    def step(self, views: Tensor, order: Tensor, rows: int) -> dict[str, Tensor]:
        """InfoNCE of queries against their keys and the queue, which then takes in the keys."""
        a, b = views.unflatten(0, (-1, 2)).unbind(dim=1)
        queries = self.encoder(a)
        with torch.no_grad():
            keys = F.normalize(self._keys(b, order.to(b.device), rows).float(), dim=1)
        queries, keys = processes.gather(queries, rows), processes.gather(keys, rows)
        loss = info_nce(queries, keys, self.queue.clone(), self.settings.temperature)
        kept = keys[-len(self.queue) :]
        places = (self.oldest + torch.arange(len(kept), device=kept.device)) % len(self.queue)
        self.queue[places] = kept
        self.oldest.copy_((self.oldest + len(kept)) % len(self.queue))
        return {"loss": loss}

    def _keys(self, images: Tensor, order: Tensor, rows: int) -> Tensor:
        """Keys (B, D), normalised by BatchNorm in shuffled groups.

        In the same batch as its query, a key could be told by the batch's statistics instead of by what it shows.
        """
        groups = max(1, min(GROUPS, rows // (LEAST * processes.count())))
        keys = torch.cat([self.key_encoder(part) for part in images[order].tensor_split(groups)])
        return keys[order.argsort()]

    def follow(self) -> None:
        """The key encoder's weights follow; BatchNorm's statistics are each network's own."""
        ema.follow(self.key_encoder.parameters(), self.encoder.parameters(), self.settings.ema)
