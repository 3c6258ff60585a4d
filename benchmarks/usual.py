"""The usual way: per-image torchvision transforms on Pillow images in DataLoader workers, float32, channels first.

Written as one would from the libraries' tutorials, for the rows of `python -m benchmarks` to be compared with.
Networks, losses and optimisers are the project's own, so that what differs is how images get to the network and how it
computes.
"""

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.timing import rate
from stages.images.store import Meta
from stages.images.strong import StrongSettings
from stages.images.views import ViewSettings

WORKERS = 2


def normalise(meta: Meta) -> list[Callable]:
    """Pillow image → normalised float32 tensor (C, H, W)."""
    return [transforms.ToTensor(), transforms.Normalize(meta.mean, meta.std)]


def simclr_views(s: ViewSettings, meta: Meta) -> Callable:
    """SimCLR's views by torchvision's transforms, with the same settings as ours."""
    steps: list[Callable] = []
    if s.crop_area != (1.0, 1.0):
        steps.append(transforms.RandomResizedCrop(meta.size, s.crop_area, s.crop_ratio))
    if s.zoom != (1.0, 1.0) or s.shift_x or s.shift_y:
        bilinear = transforms.InterpolationMode.BILINEAR
        steps.append(transforms.RandomAffine(0, (s.shift_x, s.shift_y), s.zoom, interpolation=bilinear))
    if s.flip:
        steps.append(transforms.RandomHorizontalFlip(s.flip))
    jitter = transforms.ColorJitter(s.brightness, s.contrast, s.saturation, s.hue)
    steps.append(transforms.RandomApply([jitter], s.jitter))
    if s.grayscale:
        steps.append(transforms.RandomGrayscale(s.grayscale))
    if s.blur:
        kernel = 2 * int(np.ceil(2.5 * s.blur_sigma[1])) + 1
        steps.append(transforms.RandomApply([transforms.GaussianBlur(kernel, s.blur_sigma)], s.blur))
    return transforms.Compose([*steps, *normalise(meta)])


class Strong:
    """The strong augmentation on one Pillow image: so many of 14 operations, then a hole."""

    def __init__(self, s: StrongSettings, meta: Meta):
        self.settings = s
        steps = [transforms.RandomHorizontalFlip(s.flip)] if s.flip else []
        steps += [transforms.RandomCrop(meta.size, padding=s.padding)] if s.padding else []
        self.before, self.after = transforms.Compose(steps), transforms.Compose(normalise(meta))

    def __call__(self, image: Image.Image) -> Tensor:
        """Pillow image → normalised float32 tensor (C, H, W)."""
        image = self.before(image)
        for function, low, high in random.choices(OPERATIONS, k=self.settings.operations):
            image = function(image, random.uniform(low, high))
        pixels = self.after(image)
        if self.settings.cutout:
            _, height, width = pixels.shape
            side = random.randint(1, self.settings.cutout)
            top, left = random.randrange(height) - side // 2, random.randrange(width) - side // 2
            pixels[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
        return pixels


def _affine(*matrix: float) -> Callable:
    """An operation that moves pixels by the matrix, whose entries may be functions of magnitude and size."""

    def apply(image: Image.Image, magnitude: float) -> Image.Image:
        numbers = [entry(magnitude, image.size) if callable(entry) else entry for entry in matrix]
        return image.transform(image.size, Image.Transform.AFFINE, numbers)

    return apply


OPERATIONS: list[tuple[Callable[[Image.Image, float], Image.Image], float, float]] = [
    (lambda image, _: image, 0, 0),
    (lambda image, _: ImageOps.autocontrast(image), 0, 0),
    (lambda image, _: ImageOps.equalize(image), 0, 0),
    (lambda image, degrees: image.rotate(degrees), -30, 30),
    (lambda image, threshold: ImageOps.solarize(image, int(threshold)), 0, 256),
    (lambda image, factor: ImageEnhance.Color(image).enhance(factor), 0.05, 0.95),
    (lambda image, factor: ImageEnhance.Contrast(image).enhance(factor), 0.05, 0.95),
    (lambda image, factor: ImageEnhance.Brightness(image).enhance(factor), 0.05, 0.95),
    (lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor), 0.05, 0.95),
    (_affine(1, lambda m, _: m, 0, 0, 1, 0), -0.1, 0.1),
    (_affine(1, 0, 0, lambda m, _: m, 1, 0), -0.1, 0.1),
    (_affine(1, 0, lambda m, size: m * size[0], 0, 1, 0), -0.1, 0.1),
    (_affine(1, 0, 0, 0, 1, lambda m, size: m * size[1]), -0.1, 0.1),
    (lambda image, bits: ImageOps.posterize(image, int(bits)), 4, 8),
]


class Samples(Dataset):
    """Images one by one as tuples of views; with `neighbors` (N, K), a random neighbour gets the second view."""

    def __init__(self, images: np.ndarray, views: list[Callable], neighbors: np.ndarray | None = None):
        self.images, self.views, self.neighbors = images, views, neighbors

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        rows = [row] * len(self.views)
        if self.neighbors is not None:
            rows[1] = random.choice(self.neighbors[row])
        pictures = (Image.fromarray(self.images[row].squeeze()) for row in rows)
        return tuple(view(picture) for view, picture in zip(self.views, pictures, strict=True))


def loader(samples: Samples, batch_size: int, shuffle: bool = True) -> DataLoader:
    """Batches made by worker processes."""
    return DataLoader(samples, batch_size, shuffle=shuffle, drop_last=shuffle, num_workers=WORKERS)


def endless(samples: Samples, batch_size: int) -> Iterator[list[Tensor]]:
    """Epoch after epoch of batches. Closing it ends the workers, which would else go on to fill their queue."""
    while True:
        yield from loader(samples, batch_size)


def rate_of(consume: Callable[[list[Tensor]], object], samples: Samples, batch_size: int, views: int = 1) -> float:
    """Images (times `views`) per second that `consume` takes, with workers that live as long as this measurement."""
    batches = endless(samples, batch_size)
    try:
        return rate(lambda: consume(next(batches)), batch_size * views)
    finally:
        batches.close()


def channels_first(module: nn.Module) -> nn.Module:
    """The same network with its weights, and so its convolutions, in the usual layout."""
    for child in module.modules():
        if hasattr(child, "memory_format"):
            child.memory_format = torch.contiguous_format
    return module.to(memory_format=torch.contiguous_format)
