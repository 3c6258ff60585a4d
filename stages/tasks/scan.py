"""What one batch of SCAN is: an image and a neighbour of it, as cached embeddings or as views."""

import numpy as np
import torch
from torch import Tensor

from stages.images.loading import Images, Rows
from stages.images.strong import StrongViews
from stages.images.views import SimCLRViews
from stages.losses.scan import scan_loss
from stages.networks.classifier import Classifier
from stages.training import processes
from stages.training.devices import device


class HeadsOnEmbeddings:
    """A batch of SCAN on cached embeddings: only the heads compute."""

    def __init__(self, model: Classifier, vectors: np.ndarray, pairs: np.ndarray, entropy_weight: float):
        self.model, self.pairs, self.entropy_weight = model, pairs, entropy_weight
        self.vectors = Rows(vectors, device())

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Embeddings (B, D) of this process's images and of a neighbour each, and the size of the global batch."""
        own, partners = processes.share(len(rows)), random_neighbors(self.pairs, rows, generator)
        return self.vectors(rows[own]), self.vectors(partners[own]), len(rows)

    def step(self, anchors: Tensor, neighbors: Tensor, rows: int) -> dict[str, Tensor]:
        """The loss of every head."""
        logits = (processes.gather(self.model.classify(part), rows, dim=1) for part in (anchors, neighbors))
        return scan_loss(*logits, self.entropy_weight)


class WholeNetwork:
    """A batch of SCAN on images: a view of each and a view of a random neighbour."""

    def __init__(
        self,
        model: Classifier,
        images: Images,
        pairs: np.ndarray,
        views: SimCLRViews | StrongViews,
        entropy_weight: float,
    ):
        self.model, self.images, self.pairs = model, images, pairs
        self.views, self.entropy_weight = views, entropy_weight

    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, int]:
        """Views of images of this process and of a neighbour each, by turns (2B, C, H, W); size of the global batch."""
        both = np.stack([rows, random_neighbors(self.pairs, rows, generator)], axis=1)
        own = processes.share(len(rows))
        draws = self.views.draw(both.size, generator).slice(2 * own.start, 2 * own.stop)
        return self.views(self.images(both[own].ravel()), draws), len(rows)

    def step(self, views: Tensor, rows: int) -> dict[str, Tensor]:
        """The loss of every head."""
        logits = self.model(views).unflatten(1, (-1, 2))
        return scan_loss(*processes.gather(logits, rows, dim=1).unbind(dim=2), self.entropy_weight)


def random_neighbors(pairs: np.ndarray, rows: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """One of the K neighbours of each row, at random: int64 (B,). pairs: int (N, K), may be a memory map."""
    columns = torch.randint(pairs.shape[1], (len(rows),), generator=generator).numpy()
    return pairs[rows, columns].astype(np.int64)
