"""The strong augmentation of SCAN (arXiv 2005.12320, appendix): flip, crop, some of 14 operations in a row, cutout.

The operations are RandAugment's (arXiv 1909.13719) in SCAN's ranges: each sample gets its own, drawn with replacement,
and its own magnitudes. They mean what Pillow means by them and give Pillow's pixels, but work on whole batches of
tensors on any device: every round sorts the batch by operation and treats each run of equals at once. Between
operations images are uint8, as in Pillow, which rounds after each one.

All draws come from a CPU generator and apart from their use: the same seed gives the same views on every device, and
several processes can each take their slice of one draw for the global batch. Small images cost less the more of them
are made in one call.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

Natural = Annotated[int, Field(ge=0)]


class StrongSettings(BaseModel, extra="forbid", frozen=True, strict=True, allow_inf_nan=False):
    """The block `strong` of params.yaml; what each key does is said there."""

    flip: Annotated[float, Field(ge=0, le=1)]
    padding: Natural
    operations: Natural
    cutout: Natural


class Draws(NamedTuple):
    """One row of numbers per image: what will be done to it. CPU tensors; k is the number of operations."""

    flip: Tensor  # (n,) bool
    shift: Tensor  # (n, 2) int64, the crop's place in x and y, -padding … padding
    operation: Tensor  # (n, k) int64, places in OPERATIONS
    magnitude: Tensor  # (n, k) float32, within the range of the operation beside it
    side: Tensor  # (n,) int64, the hole's side, 1 … cutout; 0 for none
    centre: Tensor  # (n, 2) float32, the hole's centre in x and y, as a share of the image's width and height

    def slice(self, start: int, stop: int) -> "Draws":
        """The draws of images start … stop-1: the share of one process in a global batch."""
        return Draws(*(part[start:stop] for part in self))


class StrongViews:
    """Strongly augmented views of uint8 images, normalised, as float32.

    >>> views = StrongViews(settings, meta.mean, meta.std)
    >>> strong = views(images, views.draw(len(images), generator))
    """

    def __init__(self, settings: StrongSettings, mean: list[float], std: list[float]):
        self.settings = settings
        self.mean = 255 * torch.tensor(mean).view(-1, 1, 1)
        self.std = 255 * torch.tensor(std).view(-1, 1, 1)

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """The random numbers of n views; they depend on nothing but n, the settings and the generator's state."""
        s = self.settings

        def uniform(*shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=generator)

        def whole(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high + 1, (n, *shape), generator=generator)

        flip = uniform() < s.flip
        shift = whole(-s.padding, s.padding, 2)
        operation = whole(0, len(OPERATIONS) - 1, s.operations)
        low, high = torch.tensor([*OPERATIONS.values()]).T
        magnitude = torch.lerp(low[operation], high[operation], uniform(s.operations))
        return Draws(flip, shift, operation, magnitude, whole(min(1, s.cutout), s.cutout), uniform(2))

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Views of images, uint8 (B, C, H, W) → float32 (B, C, H, W), normalised; C is 1 or 3."""
        if self.settings.flip or self.settings.padding:
            images = flip_and_shift(images, draws.flip, draws.shift)
        if self.settings.operations:
            images = apply(images, draws.operation, draws.magnitude)
        pixels = images.float().sub_(self.mean.to(images.device)).div_(self.std.to(images.device))
        # Normalised, the mean colour is 0: that is what the hole is filled with.
        return cut(pixels, draws.side, draws.centre) if self.settings.cutout else pixels


def apply(images: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
    """To each image its own operations, one after the other, at its own magnitudes.

    images uint8 (B, C, H, W); operation int64 (B, k), places in OPERATIONS; magnitude float32 (B, k); both on the CPU,
    where grouping by operation costs the device no wait. Returns a new uint8 tensor.
    """
    # Round by round the batch is rearranged so that equal operations lie together. What depends on the draws alone is
    # done once for all rounds: with small images it is the number of calls that costs.
    order = operation.T.argsort(dim=1, stable=True)  # (k, B)
    operation, magnitude = operation.T.gather(1, order), magnitude.T.gather(1, order)
    # The movements, last in OPERATIONS, differ only in their maps and share one group.
    counts = F.one_hot(operation.clamp(max=len(RECOLOURINGS)), len(RECOLOURINGS) + 1).sum(1).tolist()
    maps = affine_maps(operation, magnitude, *images.shape[-2:]).to(images.device)
    magnitude = magnitude.to(images.device)
    back = order.argsort(dim=1)
    steps = torch.cat([order[:1], back[:-1].gather(1, order[1:]), back[-1:]]).to(images.device)
    functions = [function for function, _, _ in RECOLOURINGS.values()]
    for i, count in enumerate(counts):
        *groups, moved = images.index_select(0, steps[i]).split(count)
        todo = zip(count, functions, groups, magnitude[i].split(count))
        done = [function(group, m) for n, function, group, m in todo if n]
        images = torch.cat([*done, affine(moved, maps[i, len(order[i]) - len(moved) :])])
    return images.index_select(0, steps[-1])


# The operations that change values. Each takes images, uint8 (B, C, H, W) with C = 1 or 3, and one magnitude per image,
# float32 (B,) on the images' device; it returns uint8 of the same shape and never writes into its input.


def identity(images: Tensor, magnitude: Tensor) -> Tensor:
    """The image as it is; there is no magnitude."""
    return images


def autocontrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Stretch each channel so that its darkest pixel becomes 0 and its lightest 255; there is no magnitude."""
    # Pillow reckons in doubles and cuts the fraction off, so near whole numbers only doubles give the same. Apple's
    # GPUs have none: there, a few values come out one level away.
    real = torch.float32 if images.device.type == "mps" else torch.float64
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high  # stays as it is
    low, span = low.masked_fill_(flat, 0).to(real), (high - low).masked_fill_(flat, 255).to(real)
    scale = torch.full_like(span, 255).div_(span)
    return _to_bytes(images.to(real).mul_(scale).sub_(low * scale))


def equalize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Spread each channel's values so that all occur about equally often; there is no magnitude."""
    values = images.flatten(2).long()  # (B, C, H·W)
    ones = torch.ones_like(values, dtype=torch.int32)
    counts = ones.new_zeros(*values.shape[:2], 256).scatter_add_(2, values, ones)
    # A value becomes the number of pixels below it, in steps of a 255th of all but those of the lightest value.
    below = counts.cumsum(2, dtype=torch.int32).sub_(counts).float()
    step = (below * (counts > 0)).amax(2, keepdim=True).div_(255).floor_()
    table = (below + step / 2).div_(step.clamp(min=1)).clamp_(max=255)
    # Without a whole step (one value, few pixels) the channel stays as it is.
    table = torch.where(step > 0, table, torch.arange(256.0, device=images.device))
    return _to_bytes(table).gather(2, values).view_as(images)


def solarize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Invert the values from the magnitude upwards; 0 inverts all, 256 none."""
    above = images.float() >= _column(magnitude)
    return images ^ above.view(torch.uint8).neg_()  # a byte of ones flips every bit: 255 - value


def colour(images: Tensor, magnitude: Tensor) -> Tensor:
    """Mix with the image's grey: 0 is grey, 1 the image. One channel is its own grey and stays as it is."""
    if images.shape[1] == 1:
        return images
    pixels = images.float()
    return _mix(_grey(pixels), pixels, magnitude)


def contrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Mix with the image's mean grey: 0 is that grey all over, 1 the image."""
    pixels = images.float()
    total = _grey(pixels).sum((1, 2, 3), keepdim=True, dtype=torch.int64)
    count = images[0, 0].numel()
    mean = (total + count // 2) // count  # rounded half up
    return _mix(mean.float(), pixels, magnitude)


def brightness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Mix with black: 0 is black, 1 the image."""
    return _to_bytes(images.float().mul_(_column(magnitude)))


def sharpness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Mix with a smoothed image: 0 is smooth, 1 the image. The border, where no 3 × 3 pixels fit, stays as it is."""
    width = images.shape[3]
    pixels = images.float()
    rows = (pixels[:, :, :-2] + pixels[:, :, 1:-1]).add_(pixels[:, :, 2:]).flatten(2)
    # Along the rows the flat image is fastest; sums that run over a line's end land on the border.
    inner = slice(width + 1, -width - 1)
    pixels = pixels.flatten(2)[..., inner]
    total = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(pixels, alpha=4)  # the middle weighs 5
    result = images.clone()
    result.flatten(2)[..., inner] = _mix(total.div_(13).round_(), pixels, magnitude)
    result[..., 0], result[..., -1] = images[..., 0], images[..., -1]
    return result


def posterize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Keep the magnitude's whole number of highest bits, the others become 0."""
    dropped = 8 - _column(magnitude).to(torch.uint8)
    return images.bitwise_right_shift(dropped).bitwise_left_shift_(dropped)


# What changes values, with its lowest and highest magnitude, as SCAN has them.
RECOLOURINGS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float, float]] = {
    "identity": (identity, 0, 0),
    "autocontrast": (autocontrast, 0, 0),
    "equalize": (equalize, 0, 0),
    "solarize": (solarize, 0, 256),
    "colour": (colour, 0.05, 0.95),
    "contrast": (contrast, 0.05, 0.95),
    "brightness": (brightness, 0.05, 0.95),
    "sharpness": (sharpness, 0.05, 0.95),
    "posterize": (posterize, 4, 8),
}
# What moves pixels, all by `affine_maps`.
MOVEMENTS: dict[str, tuple[float, float]] = {
    "rotate": (-30, 30),  # degrees about the image's centre, counter-clockwise
    "shear_x": (-0.1, 0.1),  # times its distance from the top each row moves, positive to the left
    "shear_y": (-0.1, 0.1),  # times its distance from the left edge each column moves, positive upwards
    "translate_x": (-0.1, 0.1),  # of the width, positive to the left
    "translate_y": (-0.1, 0.1),  # of the height, positive upwards
}
OPERATIONS = {name: (low, high) for name, (_, low, high) in RECOLOURINGS.items()} | MOVEMENTS


def flip_and_shift(images: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
    """Mirror those images that `flip` (B,) marks, then move the window by `shift` (B, 2) whole pixels in x and y.

    Images are uint8 (B, C, H, W); what the window takes in from outside is black, as in a crop after padding.
    """
    height, width = images.shape[-2:]
    column, row = torch.arange(1, width + 1) + shift[:, :1], torch.arange(1, height + 1) + shift[:, 1:]
    column = torch.where(flip[:, None], width + 1 - column, column)
    return _pick(images, row.to(images.device)[:, :, None], column.to(images.device)[:, None, :])


def affine_maps(operation: Tensor, magnitude: Tensor, height: int, width: int) -> Tensor:
    """The maps of movements, in fixed point with 16 bits of fraction, as Pillow has them.

    operation int64, places in OPERATIONS, and magnitude, both of any one shape (…) and on the CPU; returns int32
    (…, 2, 3): what is to be seen at column x and row y lies at column m[0] · (x, y, 1) and row m[1] · (x, y, 1).
    Operations that do not move get the map that changes nothing.
    """
    amounts = torch.zeros(*magnitude.shape, len(OPERATIONS), dtype=torch.float64)
    amounts = amounts.scatter_(-1, operation[..., None], magnitude.double()[..., None])
    angle, shear_x, shear_y, x, y = amounts[..., len(RECOLOURINGS) :].unbind(-1)
    cos, sin = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
    across = [cos, shear_x - sin, x * width + ((1 - cos) * width + sin * height) / 2]
    down = [shear_y + sin, cos, y * height + ((1 - cos) * height - sin * width) / 2]
    maps = torch.stack(across + down, dim=-1).unflatten(-1, (2, 3))
    maps[..., 2] += (maps[..., 0] + maps[..., 1]) / 2  # pixels are taken at their middles
    return maps.mul_(65536).add_(0.5).floor_().to(torch.int32)


def affine(images: Tensor, maps: Tensor) -> Tensor:
    """Each image, uint8 (B, C, H, W), by its map of `affine_maps` (B, 2, 3): the nearest pixel, black outside."""
    height, width = images.shape[-2:]
    by_x, by_y, offset = maps.permute(2, 1, 0)[..., None, None]  # each (2, B, 1, 1)
    x, y = (torch.arange(length, dtype=torch.int32, device=images.device) for length in (width, height))
    offset = offset + 65536  # places are counted from 1
    column, row = (by_x * x + (by_y * y[:, None] + offset)).bitwise_right_shift_(16)
    return _pick(images, row, column)


def cut(pixels: Tensor, side: Tensor, centre: Tensor) -> Tensor:
    """Cutout (arXiv 1708.04552): set a square of each image, float (B, C, H, W), to 0, in place.

    side int (B,) in pixels; centre (B, 2) its middle in x and y, shares of width and height in [0, 1). As in that
    paper every pixel is equally likely to be the middle and what reaches past the border is lost; squares kept wholly
    inside would hardly ever cover the corners.
    """
    height, width = pixels.shape[-2:]

    def kept(length: int, middle: Tensor) -> Tensor:
        start = ((middle * length).long() - side // 2)[:, None]
        place = torch.arange(length)
        return ((place < start) | (place >= start + side[:, None])).to(pixels.device)

    columns, rows = kept(width, centre[:, 0]), kept(height, centre[:, 1])
    return pixels.mul_((rows[:, None, :, None] | columns[:, None, None, :]).to(pixels.dtype))


def _pick(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The pixels at the given rows and columns, whole numbers counted from 1 that broadcast to (B, H, W).

    Places outside are black: they are clamped to a black pixel around the image. Writes into row and column.
    """
    height, width = images.shape[-2:]
    index = torch.add(column.clamp_(0, width + 1), row.clamp_(0, height + 1), alpha=width + 2).long()
    index = index.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return F.pad(images, (1, 1, 1, 1)).flatten(2).gather(2, index).view_as(images)


def _mix(degenerate: Tensor, pixels: Tensor, share: Tensor) -> Tensor:
    """As Pillow's blend: the degenerate where `share` (B,) is 0, the pixels where it is 1; writes into the pixels.

    Both hold whole numbers in float32; returns uint8.
    """
    return _to_bytes(pixels.sub_(degenerate).mul_(_column(share, pixels.ndim)).add_(degenerate))


def _grey(pixels: Tensor) -> Tensor:
    """Pillow's grey of (B, C, H, W), whole numbers in float32, as (B, 1, H, W) of the same kind."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels.split(1, dim=1)
    # Weights of ITU-R BT.601 in 65536ths: every sum stays below 2²⁴, so float32 is exact.
    return red.mul(19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(32768).mul_(1 / 65536).floor_()


def _to_bytes(values: Tensor) -> Tensor:
    """Floats in [0, 256) as uint8, fractions cut off; on a CPU the way over int32 is several times faster."""
    return values.to(torch.int32).to(torch.uint8)


def _column(values: Tensor, dimensions: int = 4) -> Tensor:
    """One value per image (B,), to be broadcast against images (B, …)."""
    return values.view(-1, *[1] * (dimensions - 1))
