"""SimCLR's views: a random affine crop, flip, blur and colour change of every image, made in batches on any device.

All draws come from a CPU generator and apart from their use: the same seed gives the same views on every device, and
several processes can each take their slice of one draw for the global batch.

The family covers both photographs (SimCLR's random resized crop, arXiv 2002.05709, appendix A) and small centred
objects (a slight change of size, a shift). Each image is sampled once, so crops, shifts and flips cost one bilinear
interpolation together; all changes of colour are one 3 × 4 matrix per image, so they cost one matrix product.
"""

import math
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, BaseModel, Field
from torch import Tensor

Probability = Annotated[float, Field(ge=0, le=1)]


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("expected [low, high] with low <= high")
    return bounds


# YAML has lists, not tuples; the numbers inside stay strict.
Bounds = Annotated[
    tuple[Annotated[float, Field(gt=0, strict=True)], Annotated[float, Field(gt=0, strict=True)]],
    Field(strict=False),
    AfterValidator(_ordered),
]


class ViewSettings(BaseModel, extra="forbid", frozen=True, strict=True, allow_inf_nan=False):
    """The block `views` of params.yaml; what each key does is said there."""

    crop_area: Bounds
    crop_ratio: Bounds
    zoom: Bounds
    shift_x: Probability
    shift_y: Probability
    flip: Probability
    jitter: Probability
    brightness: Probability
    contrast: Probability
    saturation: Probability
    hue: Annotated[float, Field(ge=0, le=0.5)]
    grayscale: Probability
    blur: Probability
    blur_sigma: Bounds


class Draws(NamedTuple):
    """One row of numbers per image: what will be done to it. CPU tensors, float32."""

    window: Tensor  # (n, 4) centre x, y and half width, height of the sampled window; the image is [-1, 1]²
    inside: Tensor  # (n, 4) left, top, right, bottom that sampling is clamped to
    colour: Tensor  # (n, 3) factors of brightness, contrast, saturation
    hue: Tensor  # (n,) turn of the hue, as a share of the circle
    sigma: Tensor  # (n,) blur in pixels, 0 for none

    def slice(self, start: int, stop: int) -> "Draws":
        """The draws of images start … stop-1: the share of one process in a global batch."""
        return Draws(*(part[start:stop] for part in self))


class SimCLRViews:
    """Random views of uint8 images, normalised, as float32.

    >>> views = SimCLRViews(settings, meta.mean, meta.std)
    >>> a = views(images, views.draw(len(images), generator))
    """

    def __init__(self, settings: ViewSettings, mean: list[float], std: list[float]):
        self.settings = settings
        self.mean = 255 * torch.tensor(mean).view(-1, 1, 1)
        self.std = 255 * torch.tensor(std).view(-1, 1, 1)

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """The random numbers of n views; they depend on nothing but n, the settings and the generator's state."""
        s = self.settings

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=generator)

        def chance(p: float) -> Tensor:
            return torch.rand(n, generator=generator) < p

        # The crop: a window of random area and aspect ratio anywhere inside the image; torchvision draws again until
        # the window fits, here its sides are capped instead, which costs no loop and differs only for long thin crops.
        area, ratio = uniform(*s.crop_area), torch.exp(uniform(*map(math.log, s.crop_ratio)))
        width, height = (area * ratio).sqrt().clamp_(max=1), (area / ratio).sqrt().clamp_(max=1)
        x, y = (1 - width) * uniform(-1, 1), (1 - height) * uniform(-1, 1)
        inside = torch.stack([x - width, y - height, x + width, y + height], dim=1)
        # Zoom and shift: the window grows and moves, past the image's edge where it must (black there).
        zoom = uniform(*s.zoom)
        x, y = x + 2 * s.shift_x * uniform(-1, 1), y + 2 * s.shift_y * uniform(-1, 1)
        if s.zoom[0] < 1 or s.shift_x or s.shift_y:
            inside = torch.tensor([-9.0, -9.0, 9.0, 9.0]).expand(n, 4)
        flip = 1 - 2 * chance(s.flip).float()
        window = torch.stack([x, y, flip * width / zoom, height / zoom], dim=1)

        jitter = chance(s.jitter)
        colour = torch.stack([uniform(1 - v, 1 + v) for v in (s.brightness, s.contrast, s.saturation)], dim=1)
        colour = torch.where(jitter[:, None], colour, 1.0)
        hue = torch.where(jitter, uniform(-s.hue, s.hue), 0.0)
        colour[:, 2].masked_fill_(chance(s.grayscale), 0.0)  # grey is no saturation at all
        sigma = torch.where(chance(s.blur), uniform(*s.blur_sigma), 0.0)
        return Draws(window, inside, colour, hue, sigma)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Views of images, uint8 (B, C, H, W) → float32 (B, C, H, W), normalised; C is 1 or 3."""
        draws = Draws(*(part.to(images.device) for part in draws))
        pixels = sample(images.float(), draws.window, draws.inside)
        if self.settings.blur:
            pixels = blur(pixels, draws.sigma, self.settings.blur_sigma[1])
        if self.settings.jitter or self.settings.grayscale:
            pixels = recolour(pixels, draws.colour, draws.hue)
        return pixels.sub_(self.mean.to(pixels.device)).div_(self.std.to(pixels.device))


class PlainView:
    """The image itself, normalised; the same interface as the random views, with nothing to draw."""

    def __init__(self, mean: list[float], std: list[float]):
        self.mean = 255 * torch.tensor(mean).view(-1, 1, 1)
        self.std = 255 * torch.tensor(std).view(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Images, uint8 (B, C, H, W) → float32 (B, C, H, W), normalised."""
        return images.float().sub_(self.mean.to(images.device)).div_(self.std.to(images.device))


def sample(pixels: Tensor, window: Tensor, inside: Tensor) -> Tensor:
    """Cut each image's window out and stretch it to the image's size, bilinearly.

    pixels float (B, C, H, W); window (B, 4) centre x, y and half width, height in [-1, 1]² coordinates, a negative
    width flips; inside (B, 4) left, top, right, bottom beyond which the window's own edge pixels repeat, as if the
    crop had been cut before it was stretched. Beyond the image lies black.
    """
    height, width = pixels.shape[-2:]

    def axis(length: int, centre: Tensor, half: Tensor, low: Tensor, high: Tensor) -> Tensor:
        middles = (torch.arange(length, device=pixels.device) * 2 + 1) / length - 1
        places = centre[:, None] + half[:, None] * middles
        edge = 1 / length  # half a pixel: the middles of the outermost pixels inside
        low, high = low + edge, high - edge
        # A window thinner than a pixel has its edges crossed over: its middle is all there is.
        low, high = torch.minimum(low, (low + high) / 2), torch.maximum(high, (low + high) / 2)
        return torch.maximum(torch.minimum(places, high[:, None]), low[:, None])

    x = axis(width, window[:, 0], window[:, 2], inside[:, 0], inside[:, 2])
    y = axis(height, window[:, 1], window[:, 3], inside[:, 1], inside[:, 3])
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def blur(pixels: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Gaussian blur of each image (B, C, H, W) by its own sigma (B,) in pixels; 0 leaves it as it is.

    `largest` bounds sigma and so the kernel. Beyond the image its edge pixels repeat.
    """
    radius = min(max(1, math.ceil(2.5 * largest)), min(pixels.shape[-2:]) - 1)
    chosen = sigma.nonzero().squeeze(1)
    if len(chosen) == 0 or radius == 0:
        return pixels
    offsets = torch.arange(-radius, radius + 1, device=pixels.device)
    kernel = torch.exp(-0.5 * (offsets / sigma[chosen, None]).square())
    kernel = kernel / kernel.sum(dim=1, keepdim=True)  # (b, 2 radius + 1)

    _, channels, height, width = pixels.shape
    rows, columns = (band_matrix(kernel, length) for length in (height, width))
    blurred = pixels[chosen]
    # A blur is linear and separable: one band matrix down the columns, one along the rows.
    blurred = torch.bmm(rows, blurred.transpose(1, 2).reshape(-1, height, channels * width))
    blurred = blurred.view(-1, height, channels, width).transpose(1, 2).reshape(-1, channels * height, width)
    blurred = torch.bmm(blurred, columns.transpose(1, 2)).view(-1, channels, height, width)
    return pixels.index_copy(0, chosen, blurred)


def band_matrix(kernel: Tensor, length: int) -> Tensor:
    """Kernels (b, 2r + 1) as matrices (b, length, length) that convolve a column, the edge value repeating outside."""
    radius = kernel.shape[1] // 2
    target = torch.arange(length, device=kernel.device)
    source = (target[:, None] + torch.arange(-radius, radius + 1, device=kernel.device)).clamp_(0, length - 1)
    matrix = kernel.new_zeros(len(kernel), length, length)
    return matrix.scatter_add_(2, source.expand(len(kernel), -1, -1), kernel[:, None, :].expand(-1, length, -1))


# Luma weights of ITU-R BT.601, as Pillow and torchvision use for grey.
_LUMA = torch.tensor([0.299, 0.587, 0.114])
# YIQ: luma and two axes of colour, in whose plane a change of hue is a rotation.
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def recolour(pixels: Tensor, colour: Tensor, hue: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue of each image, as one affine map of its colours.

    pixels float (B, C, H, W) in [0, 255]; colour (B, 3): factors of brightness, of contrast about the image's mean grey
    and of saturation about each pixel's grey (0 makes it grey); hue (B,): rotation of the YIQ colour plane, as a share
    of the circle. One channel has neither saturation nor hue. Returns a new tensor, clamped to [0, 255].

    torchvision applies these one by one in a random order, rounding and clamping in between; composing them without
    costs a fraction and changes only colours that leave the range half-way.
    """
    brightness, contrast, saturation = (column.view(-1, 1, 1, 1) for column in colour.unbind(1))
    if pixels.shape[1] == 1:
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        return torch.addcmul((1 - contrast) * brightness * mean, pixels, brightness * contrast).clamp_(0, 255)
    luma, to_yiq = _LUMA.to(pixels.device), _TO_YIQ.to(pixels.device)
    angle = 2 * math.pi * hue
    turn = torch.zeros(len(pixels), 3, 3, device=pixels.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = torch.cos(angle)
    turn[:, 2, 1] = torch.sin(angle)
    turn[:, 1, 2] = -turn[:, 2, 1]
    grey = luma.expand(3, 3)  # every channel becomes the luma
    saturate = saturation.view(-1, 1, 1) * torch.eye(3, device=pixels.device) + (1 - saturation).view(-1, 1, 1) * grey
    matrix = saturate @ torch.linalg.inv(to_yiq) @ turn @ to_yiq
    matrix = matrix * (brightness * contrast).view(-1, 1, 1)
    mean = pixels.mean(dim=(2, 3)) @ luma
    offset = ((1 - contrast) * brightness).view(-1, 1, 1) * mean.view(-1, 1, 1)
    return torch.baddbmm(offset, matrix, pixels.flatten(2)).view_as(pixels).clamp_(0, 255)
