"""One image file, of whatever kind, as a square of bytes.

An exported model has a copy of this file beside it, so that pictures are read for it as the pipeline read its own.
Nothing of the project is imported here, therefore: numpy, and Pillow 11.3 or newer, are enough, and HEIC takes pi-heif.
The licence is MIT.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Named, because Pillow would also hand a file to programs outside (EPS) or open what is no picture (HDF5). MPO, which
# some cameras write, is a JPEG to begin with.
FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF"]
with suppress(ImportError):  # without it, all other kinds can be read all the same
    from pi_heif import register_heif_opener

    register_heif_opener()
    FORMATS.append("HEIF")  # after AVIF: both may begin with the brand mif1, and Pillow's AVIF leaves HEIF to others
_SUFFIXES = "jpg jpeg jpe jfif mpo png apng gif webp bmp dib tif tiff ppm pgm pbm pnm tga jp2 j2k avif heic heif hif"
SUFFIXES = frozenset(f".{name}" for name in _SUFFIXES.split())
# What files of each format begin with. TGA is missing, for it has no such mark. BMP's and PPM's are of two letters, so
# that what follows them is looked at, too: a text may begin so.
_MARKS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "PPM": rb"P[1-6]\s+[#\d]",
    "JPEG2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    "AVIF": rb"....ftyp(avi[fs]|m[is]f1....(....)*?avi[fs])",
    "HEIF": rb"....ftyp(he[iv][cxms]|m[is]f1)",  # after AVIF, which is told by a brand further on
}
_HEAD = 64  # bytes that hold any of these
BACKGROUND = (255, 255, 255, 255)  # transparent pictures are mostly drawn for a white page


class UnreadableError(Exception):
    """A file that cannot be read as an image. `reason` says why in few words, without the path: for a table."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(path, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.reason}"


def read(path: str | Path, size: int, channels: int = 3) -> np.ndarray:
    """The first frame of an image file as uint8 (size, size, channels), of 3 channels (RGB) or 1 (grey).

    It is turned as its EXIF data says, cut to the square in its middle and resized with antialiasing, which equals
    bringing the short side to `size` and cutting out the middle. Transparency is laid on white. 16-bit grey is scaled
    to 8 bits. Of 3 channels, those of a grey picture are equal; of 1, colours become their luma and grey stays what it
    is. Raises UnreadableError.

    HEIC says itself how it is turned, and its EXIF data only repeats that: pi-heif turns it and clears that entry. Of
    several pictures in a file it is the one marked as primary.
    """
    try:
        if os.stat(path).st_size == 0:
            raise ValueError("empty file")
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as opened:
            # Lets a JPEG be decoded at a half, a quarter or an eighth while that leaves twice the size to resize from.
            opened.draft(None, (2 * size, 2 * size))
            image = _square(_flat(_middle(_upright(opened))), size)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableError(path, _reason(path, error)) from None
    return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(size, size, channels)


def side_lengths(path: str | Path) -> tuple[int, int]:
    """Width and height as the header of an image file has them. Raises UnreadableError."""
    try:
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            return image.size
    except Exception as error:
        raise UnreadableError(path, _reason(path, error)) from None


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pixels (H, W, 1 or 3) as `read` would bring them to uint8 (size, size, 1 or 3)."""
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    return np.asarray(_square(_middle(image), size)).reshape(size, size, -1)


def format_of(path: str | Path) -> str | None:
    """The format of which a file's first bytes are the mark, or None; TGA has no mark. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(_HEAD)
    return next((name for name, mark in _MARKS.items() if re.match(mark, head, re.DOTALL)), None)


@contextmanager
def quietly() -> Iterator[None]:
    """Without Pillow's warnings (odd metadata, large images): what matters of them ends in an UnreadableError."""
    Image.init()  # loads the decoders now: threads that did it together would get in each other's way
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # metadata that cannot be read says nothing about the pixels
        return image


def _middle(image: Image.Image) -> Image.Image:
    """The largest square in the middle. Cutting first keeps a strip of 1 x 10,000 from growing without bounds."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image if width == height else image.crop((left, top, left + side, top + side))


def _flat(image: Image.Image) -> Image.Image:
    """As 8-bit grey (L) or colour (RGB), laid on white where transparent."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("grey values of more than 16 bits; save it with 8 or 16")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is anyone's guess; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image.convert("RGBA"))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def _reason(path: str | Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the link leads nowhere" if os.path.islink(path) else "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, UnidentifiedImageError):
        if "HEIF" not in FORMATS and format_of(path) == "HEIF":
            return "HEIC, which takes one package more: pip install pi-heif"
        return "no image that can be read here"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller"
    return " ".join(str(error).split()) or type(error).__name__
