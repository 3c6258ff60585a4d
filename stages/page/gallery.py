"""Which images stand for a cluster, and all of them as a few pictures small enough for a page."""

import io

import numpy as np
from PIL import Image

from stages.images.store import Concatenated

KINDS = ("typical", "random", "unsure", "torn")
TORN = 0.8  # what the two likeliest clusters of an image have to share for it to lie between just these two
SHEET = 256  # images on a sheet, in COLUMNS columns
COLUMNS = 16
SIDES = (96, 72, 56, 40, 28, 20)  # pixels an image may take, the largest first that the budget allows
QUALITY = 82  # of WebP


def choose(members: np.ndarray, confidence: np.ndarray, second: np.ndarray, count: int) -> dict[str, list[int]]:
    """At most `count` of a cluster's images of each kind: typical, random, unsure, and torn between two clusters.

    members: int (M,), the images in it. confidence, second: float (N,), the largest and second largest probability of
    every image. Typical are the surest, unsure the least sure; torn those that nearly as well belong to one other
    cluster, which two share nearly all of the probability. An image may be of several kinds.
    """
    first, next_best = confidence[members].astype(np.float32), second[members].astype(np.float32)
    drawn = np.random.default_rng(0).permutation(len(members))[:count]
    torn = np.flatnonzero(first + next_best >= TORN)
    torn = torn[np.argsort((first - next_best)[torn], kind="stable")][:count]
    orders = {
        "typical": np.argsort(-first, kind="stable")[:count],
        "random": np.sort(drawn),
        "unsure": np.argsort(first, kind="stable")[:count],
        # Where even these are sure, nothing lies at the border.
        "torn": torn[first[torn] - next_best[torn] < 0.5],
    }
    return {kind: members[orders[kind]].tolist() for kind in KINDS}


def sheets(images: Concatenated, numbers: list[int], budget: int) -> tuple[int, list[bytes]]:
    """Images side by side, as large as a budget allows.

    images: uint8 (N, H, W, C). numbers: which of them, in order. Returns the side of an image in pixels and sheets of
    SHEET images each, WebP, row by row, together at most `budget` bytes where the smallest side allows it.
    """
    native = images.shape[1]
    for side in [min(native, SIDES[0]), *(side for side in SIDES[1:] if side < native)]:
        made: list[bytes] = []
        for start in range(0, len(numbers), SHEET):
            made.append(_sheet(images, numbers[start : start + SHEET], side))
            # Sheets are about equally large, so mostly the first one tells whether all of them will do.
            if sum(map(len, made)) / len(made) * len(numbers) / SHEET > budget and side > SIDES[-1]:
                break
        else:
            break
    return side, made


def _sheet(images: Concatenated, numbers: list[int], side: int) -> bytes:
    rows = -(-len(numbers) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * side, rows * side))
    for place, pixels in enumerate(images[np.array(numbers)]):
        tile = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        if tile.width != side:
            tile = tile.resize(
                (side, side), Image.Resampling.BOX if tile.width > 2 * side else Image.Resampling.LANCZOS
            )
        sheet.paste(tile, (place % COLUMNS * side, place // COLUMNS * side))
    buffer = io.BytesIO()
    sheet.save(buffer, "webp", quality=QUALITY, method=4)
    return buffer.getvalue()
