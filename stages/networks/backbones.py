"""Backbones by name: images (B, C, H, W) in, one feature vector (B, dim) each out.

To add one, write a function from the number of channels to a module, and register it. How long its vectors are is
measured.
"""

import difflib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from stages.plumbing.errors import UserError


class Backbone(nn.Module):
    """A network that ends in one feature vector per image, of length `dim` (0: not measured yet).

    Grey images that meet a network for three channels fill all three: so it is with networks that were trained on
    photographs.
    """

    # How the convolutions of every device here are fastest.
    memory_format = torch.channels_last

    def __init__(self, body: nn.Module, channels: int, dim: int = 0):
        super().__init__()
        self.body = body
        self.channels = channels
        self.dim = dim

    def forward(self, images: Tensor) -> Tensor:
        """Images float (B, C, H, W) → features (B, dim)."""
        if images.shape[1] == 1 and self.channels == 3:
            images = images.expand(-1, 3, -1, -1)
        return self.body(images.contiguous(memory_format=self.memory_format))


class Absent(Backbone):
    """In the place of a network that made embeddings elsewhere: it has a length, and nothing to run images through."""

    def __init__(self, dim: int):
        super().__init__(nn.Identity(), 0, dim)


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


def residual(channels: int, stem: int, widths: list[int]) -> nn.Sequential:
    """A 3 × 3 convolution of stride `stem` and the first width, then one residual block of stride 2 for each other."""
    layers: list[nn.Module] = [convolution(channels, widths[0], 3, stem), nn.ReLU(inplace=True)]
    layers += [Residual(narrow, wide, stride=2) for narrow, wide in pairwise(widths)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def tiny(channels: int) -> nn.Sequential:
    """A residual network for two CPU cores and images of 28 × 28 or more; 64 features.

    0.9 million multiplications for a 28 × 28 image, 58 thousand weights.
    """
    return residual(channels, stem=4, widths=[32, 64])


def small(channels: int) -> nn.Sequential:
    """The same for images down to 8 × 8: 128 features, 6.5 million multiplications, 0.29 million weights."""
    return residual(channels, stem=2, widths=[32, 64, 128])


def resnet(depth: int, stem: str, channels: int) -> nn.Module:
    """ResNet-18, -34 or -50 (He et al. 2016) as torchvision has it, but for its stem.

    Stem `imagenet`: 7 × 7 of stride 2, max-pooling; `cifar`, for 32 × 32: 3 × 3 of stride 1, none; `stl`, for 96 × 96:
    3 × 3 of stride 1, max-pooling of 2. 512 features, 2,048 of ResNet-50.
    """
    from torchvision import models  # its import takes seconds that the others need not wait

    network = getattr(models, f"resnet{depth}")(weights=None)
    if stem == "imagenet":
        if channels != 3:
            network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        network.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        network.maxpool = nn.MaxPool2d(2) if stem == "stl" else nn.Identity()
    network.fc = nn.Identity()
    return network


BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "tiny": tiny,
    "small": small,
    "resnet18-cifar": partial(resnet, 18, "cifar"),
    "resnet18-stl": partial(resnet, 18, "stl"),
    "resnet18": partial(resnet, 18, "imagenet"),
    "resnet34": partial(resnet, 34, "imagenet"),
    "resnet50": partial(resnet, 50, "imagenet"),
}
TIMM = "timm:"
ABSENT = "absent:"  # and a length


def timm_network(name: str, channels: int) -> nn.Module:
    """Any network of the library timm, without its classifier. UserError if it has none that can be had so."""
    import timm  # like torchvision's

    if not timm.is_model(name):
        close = ", ".join(difflib.get_close_matches(name, timm.list_models())) or "none"
        raise UserError(f"pretext.backbone = {TIMM}{name}: timm knows no such network; close: {close}")
    # Transformers expect images of the size that they were trained on, unless told otherwise; other networks take any
    # size and know no such option.
    for any_size in (["dynamic_img_size", "dynamic_img_pad"], ["dynamic_img_size"], ["dynamic_img_pad"], []):
        try:
            options = dict.fromkeys(any_size, True)
            return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **options)
        except Exception as error:  # each network has its own for an option that it lacks
            reason = _in_one_line(error)
    raise UserError(
        f"pretext.backbone = {TIMM}{name}: timm cannot build it with in_chans={channels} and without its classifier "
        f"({reason}); name another network"
    )


def measure(backbone: nn.Module, name: str, size: int) -> int:
    """Length of the vectors that come out for images of `size` pixels: what a network says of itself may be wrong.

    Neither its weights nor the state of torch's random numbers change. UserError if it cannot take such images, or does
    not give one vector for each.
    """
    images = torch.zeros(2, backbone.channels, size, size)
    shape = f"{size} × {size} × {backbone.channels}"
    backbone.eval()  # BatchNorm would count these images
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            features = backbone(images)
    except Exception as error:  # networks raise nearly anything
        *_, made_for = getattr(backbone.body, "pretrained_cfg", {}).get("input_size", [None])
        larger = f"data.image_size to {made_for}, which it was made for" if made_for else "a larger data.image_size"
        way_out = "" if made_for == size else f" set {larger}, or"  # at that size, it is not the size
        problem = f"it cannot take images of {shape} ({_in_one_line(error)});{way_out}"
    else:
        if isinstance(features, Tensor) and features.ndim == 2 and len(features) == 2:
            backbone.train()
            return features.shape[1]
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        problem = f"of 2 images of {shape} it makes {found}, expected vectors (2, D);"
    raise UserError(f"pretext.backbone = {name}: {problem} name another network")


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__


def _known(name: str) -> str:
    if name not in BACKBONES and not name.startswith(TIMM):
        raise ValueError(f"expected {', '.join(BACKBONES)} or {TIMM}<name>")
    return name


Name = Annotated[str, AfterValidator(_known)]  # as params.yaml may say it


def build_backbone(name: str, channels: int, size: int, dim: int | None = None) -> Backbone:
    """The backbone of that name with fresh weights: convolutions from Kaiming normal, fan-out; timm's as timm has them.

    It is for images of `size` pixels, and a few blank ones tell how long its vectors are, unless `dim` does. KeyError
    if there is none of that name; UserError if it cannot be built, or not for such images.
    """
    if name.startswith(ABSENT):
        return Absent(int(name.removeprefix(ABSENT)))
    if name.startswith(TIMM):
        body = timm_network(name.removeprefix(TIMM), channels)
    else:
        body = BACKBONES[name](channels)
        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for weight in body.parameters():
        if weight.ndim == 4:  # a few of timm's have convolutions over three dimensions, which know no such layout
            weight.data = weight.data.to(memory_format=Backbone.memory_format)
    backbone = Backbone(body, channels)
    backbone.dim = dim or measure(backbone, name, size)
    return backbone
