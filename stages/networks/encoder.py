"""The encoder: a backbone and the head that a pretext task compares images by."""

from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.backbones import Absent, build_backbone
from stages.plumbing.errors import UserError

Layer = Literal["backbone", "projection"]
Head = Literal["mlp", "mlp-batchnorm", "linear", "none"]


class Input(NamedTuple):
    """What a network expects: square images of `size` pixels and `channels`, normalised by mean and std (in [0, 1])."""

    size: int
    channels: int
    mean: list[float]
    std: list[float]


def projection_head(kind: Head, dim: int, out: int) -> nn.Module:
    """A head (B, dim) → (B, out): `mlp` of SimCLR and MoCo v2, `mlp-batchnorm` of BYOL, `linear`.

    The losses bring what comes out to unit length.
    """
    if kind == "linear":
        return nn.Linear(dim, out)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, out))
    wide = 2 * dim
    return nn.Sequential(
        nn.Linear(dim, wide, bias=False), nn.BatchNorm1d(wide), nn.ReLU(inplace=True), nn.Linear(wide, out)
    )


class Encoder(nn.Module):
    """Backbone and projection head. `config` is all it takes to build it again.

    `channels` are those that the backbone takes, where they are not the images': see `backbones.Backbone`. `features`
    is the length of its vectors, where that is known and need not be measured. UserError if the backbone cannot take
    such images.
    """

    def __init__(
        self,
        backbone: str,
        projection_dim: int,
        input: Input,
        head: Head = "mlp",
        channels: int | None = None,
        features: int | None = None,
    ):
        super().__init__()
        self.backbone = build_backbone(backbone, channels or input.channels, input.size, features)
        self.config = {
            "backbone": backbone,
            "projection_dim": projection_dim,
            "input": input._asdict(),
            "head": head,
            "channels": channels,
            "features": self.backbone.dim,
        }
        self.input = input
        self.projection = None if head == "none" else projection_head(head, self.backbone.dim, projection_dim)

    @classmethod
    def from_config(cls, config: dict) -> "Encoder":
        """An encoder with fresh weights."""
        return cls(**{**config, "input": Input(**config["input"])})

    def dim(self, layer: Layer) -> int:
        """Length of the vectors of that layer. Raises UserError if the encoder does not have it."""
        if layer == "backbone":
            return self.backbone.dim
        if self.projection is None:
            raise UserError("this pretext has no projection to take embeddings from; set embed.layer: backbone")
        return self.config["projection_dim"]

    def require_network(self, way_out: str) -> None:
        """Raise UserError, which names the way out, if the embeddings were made elsewhere and there is no network."""
        if isinstance(self.backbone, Absent):
            raise UserError(
                f"the embeddings were made elsewhere (pretext.method: embeddings), so there is no network to train or "
                f"to run on images; {way_out}"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) → projections (B, projection_dim), not of unit length."""
        return self.projection(self.backbone(images))

    def embed(self, images: Tensor, layer: Layer) -> Tensor:
        """Normalised images (B, C, H, W) → unit vectors float32 (B, D) taken from `layer`."""
        features = self(images) if layer == "projection" else self.backbone(images)
        return F.normalize(features.float(), dim=1)
