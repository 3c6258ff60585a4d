"""The encoder: a backbone and SimCLR's projection head."""

from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.backbones import build_backbone

Layer = Literal["backbone", "projection"]


class Input(NamedTuple):
    """What a network expects: square images of `size` pixels and `channels`, normalised by mean and std (in [0, 1])."""

    size: int
    channels: int
    mean: list[float]
    std: list[float]


class ProjectionHead(nn.Sequential):
    """SimCLR's head: Linear, ReLU, Linear; (B, dim) → (B, out). The loss brings its output to unit length."""

    def __init__(self, dim: int, out: int):
        super().__init__(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, out))


class Encoder(nn.Module):
    """Backbone and projection head. `config` is all it takes to build it again."""

    def __init__(self, backbone: str, projection_dim: int, input: Input):
        super().__init__()
        self.config = {"backbone": backbone, "projection_dim": projection_dim, "input": input._asdict()}
        self.input = input
        self.backbone = build_backbone(backbone, input.channels)
        self.projection = ProjectionHead(self.backbone.dim, projection_dim)

    @classmethod
    def from_config(cls, config: dict) -> "Encoder":
        """An encoder with fresh weights."""
        return cls(config["backbone"], config["projection_dim"], Input(**config["input"]))

    def dim(self, layer: Layer) -> int:
        """Length of the vectors of that layer."""
        return self.backbone.dim if layer == "backbone" else self.config["projection_dim"]

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) → projections (B, projection_dim), not of unit length."""
        return self.projection(self.backbone(images))

    def embed(self, images: Tensor, layer: Layer) -> Tensor:
        """Normalised images (B, C, H, W) → unit vectors float32 (B, D) taken from `layer`."""
        features = self(images) if layer == "projection" else self.backbone(images)
        return F.normalize(features.float(), dim=1)
