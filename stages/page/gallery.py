"""Many small images as a few pictures that a page has room for."""

import io

import numpy as np
from PIL import Image

from stages.images.store import Concatenated

SHEET = 256  # images on a sheet, in COLUMNS columns
COLUMNS = 16
SIDES = (96, 72, 56, 40, 28, 20)  # pixels an image may take, the largest first that the budget allows
QUALITY = 82  # of WebP


def sheets(images: Concatenated, numbers: list[int], budget: int) -> tuple[int, list[bytes]]:
    """Images side by side, as large as a budget allows.

    images: uint8 (N, H, W, C). numbers: which of them, in order. Returns the side of an image in pixels and sheets of
    SHEET images each, WebP, row by row, together at most `budget` bytes where the smallest side allows it.
    """
    native = images.shape[1]
    for side in [min(native, SIDES[0]), *(side for side in SIDES[1:] if side < native)]:
        made: list[bytes] = []
        for start in range(0, len(numbers), SHEET):
            made.append(_sheet(images[np.array(numbers[start : start + SHEET])], side))
            # Sheets are about equally large, so mostly the first one tells whether all of them will do.
            if sum(map(len, made)) / len(made) * len(numbers) / SHEET > budget and side > SIDES[-1]:
                break
        else:
            break
    return side, made


def _sheet(images: np.ndarray, side: int) -> bytes:
    """Up to SHEET images uint8 (n, H, W, C), each brought to `side` pixels, as one picture."""
    sheet = Image.new("RGB", (COLUMNS * side, -(-len(images) // COLUMNS) * side))
    for place, image in enumerate(map(coloured, images)):
        if image.width != side:
            much = image.width > 2 * side
            image = image.resize((side, side), Image.Resampling.BOX if much else Image.Resampling.LANCZOS)
        sheet.paste(image, (place % COLUMNS * side, place // COLUMNS * side))
    buffer = io.BytesIO()
    sheet.save(buffer, "webp", quality=QUALITY, method=4)
    return buffer.getvalue()


def coloured(image: np.ndarray) -> Image.Image:
    """An image uint8 (H, W, C) in red, green and blue: of three channels and more the first three, else the first."""
    channels = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    return Image.fromarray(np.ascontiguousarray(channels))
