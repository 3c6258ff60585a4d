"""Backbones by name: images (B, C, H, W) in, one feature vector (B, dim) each out.

To add one, write a function from the number of channels to a module with an attribute `dim`, and register it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, conv1x1


class Backbone(nn.Module):
    """A network that ends in one feature vector per image, of length `dim`."""

    def __init__(self, body: nn.Module, dim: int):
        super().__init__()
        self.body = body
        self.dim = dim

    def forward(self, images: Tensor) -> Tensor:
        """Images float (B, C, H, W) → features (B, dim)."""
        # Channels-last is how the convolutions of every device here are fastest.
        return self.body(images.contiguous(memory_format=torch.channels_last))


def small(channels: int) -> Backbone:
    """A residual network for two CPU cores: stride-2 stem of width 32, then one basic block of 64 and one of 128.

    6.4 million multiplications for a 28 × 28 image, 0.29 million weights.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
    ]
    width = 32
    for wider in (64, 128):
        shortcut = nn.Sequential(conv1x1(width, wider, stride=2), nn.BatchNorm2d(wider))
        layers.append(BasicBlock(width, wider, stride=2, downsample=shortcut))
        width = wider
    return Backbone(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), dim=width)


def resnet18_cifar(channels: int) -> Backbone:
    """ResNet-18 (He et al. 2016) with the stem for 32 × 32 images: 3 × 3, stride 1, no max-pooling; 512 features."""
    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return Backbone(network, dim=512)


BACKBONES: dict[str, Callable[[int], Backbone]] = {"small": small, "resnet18-cifar": resnet18_cifar}


def build_backbone(name: str, channels: int) -> Backbone:
    """The backbone of that name, its convolutions started from Kaiming normal, fan-out. KeyError if there is none."""
    backbone = BACKBONES[name](channels)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone.to(memory_format=torch.channels_last)
