"""The idx files of MNIST and those in its form: two zeros, 8 for uint8, the number of dimensions, each one, the values.

Source: LeCun, Cortes and Burges, THE MNIST DATABASE of handwritten digits, section "file formats".
"""

import gzip
import math
import struct
import zlib

import numpy as np


def unpacked(content: bytes) -> bytes:
    """The bytes of a file that gzip may have packed. ValueError where it is no whole gzip file."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{len(content):,} bytes that are no whole gzip file ({error})") from None


def decode(content: bytes, dimensions: int) -> np.ndarray:
    """The array of so many dimensions in an idx file of uint8. ValueError where it is no whole one."""
    header = 4 + 4 * dimensions
    if content[:4] == bytes([0, 0, 8, dimensions]) and len(content) >= header:
        shape = struct.unpack(f">{dimensions}I", content[4:header])
        if len(content) == header + math.prod(shape):
            return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    raise ValueError(f"{len(content):,} bytes that are no whole idx file, starting {content[:4].hex()}")
