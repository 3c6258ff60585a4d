"""What pretext tasks share. Each is one class in a module of its own, and `stages/pretext.py` names them.

A task is a module that holds all that learns or averages (so a checkpoint of it is complete) and knows how one batch is
made and what is lost on it. Everything random is drawn for the global batch, of which a process takes its share.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stages.images.loading import Images
from stages.images.views import SimCLRViews
from stages.networks.encoder import Encoder, Head
from stages.training import processes


class Settings(NamedTuple):
    """The numbers that tasks differ in; params.yaml says which task reads which."""

    temperature: float = 0.5
    ema: float = 0.99
    queue: int = 4096
    negatives: int = 4096


class PretextTask(nn.Module, ABC):
    """A pretext task for `training.loop.fit`: subclasses say what `prepare` makes and what `step` returns."""

    head: ClassVar[Head]  # what the encoder must end in

    def __init__(self, encoder: Encoder, images: Images, views: SimCLRViews, settings: Settings):
        super().__init__()
        self.encoder, self.images, self.views, self.settings = encoder, images, views, settings

    @abstractmethod
    def prepare(self, rows: np.ndarray, generator: torch.Generator) -> tuple:
        """What `step` gets of one batch; see `training.loop.Task`."""

    @abstractmethod
    def step(self, *prepared: Tensor) -> dict[str, Tensor]:
        """The loss of one batch; see `training.loop.Task`."""

    def follow(self) -> None:
        """What happens after each step of the optimiser: nothing, unless a network follows another."""

    def draw_views(self, rows: np.ndarray, generator: torch.Generator, count: int) -> Tensor:
        """`count` views of each image of this process, one after the other, float32 (count · B, C, H, W)."""
        own = processes.share(len(rows))
        draws = self.views.draw(count * len(rows), generator).slice(count * own.start, count * own.stop)
        return self.views(self.images(rows[own]).repeat_interleave(count, dim=0), draws)
