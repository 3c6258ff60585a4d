"""Backbones by name: images (B, C, H, W) in, one feature vector (B, dim) each out.

To add one, write a function from the number of channels to a module with an attribute `dim`, and register it.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """A network that ends in one feature vector per image, of length `dim`."""

    # How the convolutions of every device here are fastest.
    memory_format = torch.channels_last

    def __init__(self, body: nn.Module, dim: int):
        super().__init__()
        self.body = body
        self.dim = dim

    def forward(self, images: Tensor) -> Tensor:
        """Images float (B, C, H, W) → features (B, dim)."""
        return self.body(images.contiguous(memory_format=self.memory_format))


def convolution(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, but for its stride, and BatchNorm."""
    padding = kernel // 2
    return nn.Sequential(nn.Conv2d(channels, width, kernel, stride, padding, bias=False), nn.BatchNorm2d(width))


class Residual(nn.Module):
    """Two 3 × 3 convolutions, the first of which may have a stride, beside a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, width, 3, stride), nn.ReLU(inplace=True), convolution(width, width, 3)
        )
        change = stride > 1 or channels != width
        self.shortcut = convolution(channels, width, 1, stride) if change else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, channels, H, W) → (B, width, H / stride, W / stride)."""
        return torch.relu_(self.body(images) + self.shortcut(images))


def residual(channels: int, stem: int, widths: list[int]) -> Backbone:
    """A 3 × 3 convolution of stride `stem` and the first width, then one residual block of stride 2 for each other."""
    layers: list[nn.Module] = [convolution(channels, widths[0], 3, stem), nn.ReLU(inplace=True)]
    layers += [Residual(narrow, wide, stride=2) for narrow, wide in pairwise(widths)]
    return Backbone(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), dim=widths[-1])


def tiny(channels: int) -> Backbone:
    """A residual network for two CPU cores and images of 28 × 28 or more; 64 features.

    0.9 million multiplications for a 28 × 28 image, 58 thousand weights.
    """
    return residual(channels, stem=4, widths=[32, 64])


def small(channels: int) -> Backbone:
    """The same for images down to 8 × 8: 128 features, 6.5 million multiplications, 0.29 million weights."""
    return residual(channels, stem=2, widths=[32, 64, 128])


def resnet18_cifar(channels: int) -> Backbone:
    """ResNet-18 (He et al. 2016) with the stem for 32 × 32 images: 3 × 3, stride 1, no max-pooling; 512 features."""
    from torchvision.models import resnet18  # its import takes seconds that the others need not wait

    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return Backbone(network, dim=512)


BACKBONES: dict[str, Callable[[int], Backbone]] = {"tiny": tiny, "small": small, "resnet18-cifar": resnet18_cifar}


def build_backbone(name: str, channels: int) -> Backbone:
    """The backbone of that name, its convolutions started from Kaiming normal, fan-out. KeyError if there is none."""
    backbone = BACKBONES[name](channels)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone.to(memory_format=backbone.memory_format)
