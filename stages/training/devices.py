"""Which device computes, and in which precision."""

import ctypes
import os
import time
from contextlib import AbstractContextManager, suppress
from functools import cache

import torch
from torch import nn

from stages.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


@cache
def device() -> torch.device:
    """The device named by the environment variable DEVICE, or the best there is: CUDA, then MPS, then CPU.

    Under torchrun, `cuda` is the GPU of this process.
    """
    name = os.environ.get("DEVICE", "")
    if not name:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"DEVICE={name}: {str(error).splitlines()[0]}; use cpu, cuda, cuda:1, mps or unset it"
        ) from None
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    elif chosen.type == "cpu":
        _keep_freed_memory()
    return chosen


def compile_if_asked(module: nn.Module) -> None:
    """Let torch.compile work on a module where the environment variable COMPILE is 1.

    It needs a C++ compiler, takes half a minute and makes equal seeds give other last digits. On the CPUs measured it
    gains nothing for the default network (a row of `python -m benchmarks`), so it is no default.
    """
    wanted = os.environ.get("COMPILE", "")
    if wanted not in ("", "0", "1"):
        raise UserError(f"COMPILE={wanted}: expected 0 or 1, or unset it")
    if wanted == "1":
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError("COMPILE=1 is for one process; several synchronise BatchNorm, which it was not tried with")
        module.compile()


def _keep_freed_memory() -> None:
    """Let the C library keep what large tensors free for the next ones.

    By default glibc gives it back to the system, and takes it anew, page by page, in every step: up to 40 % of the time
    of augmentations and 7 % of that of training.
    """
    with suppress(OSError, AttributeError):  # no glibc here
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest it takes
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def mixed_precision() -> AbstractContextManager:
    """Autocast to bfloat16 where it pays: on CUDA, and on processors where a trial says so; else float32 throughout.

    The environment variable PRECISION (float32 or bfloat16) decides instead, where it is set.
    """
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=_bfloat16_pays())


@cache
def _bfloat16_pays() -> bool:
    wanted = os.environ.get("PRECISION", "")
    if wanted not in ("", "float32", "bfloat16"):
        raise UserError(f"PRECISION={wanted}: expected float32 or bfloat16, or unset it")
    if wanted:
        return wanted == "bfloat16"
    if device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device().type != "cpu" or int(os.environ.get("WORLD_SIZE", 1)) > 1:  # several trials might not agree
        return False
    # Processors without bfloat16 units emulate it ten times slower; those with them gain twofold. The margin between
    # leaves no room for noise to turn the answer, which would cost reproducibility.
    return 1.3 * _convolution_seconds(torch.bfloat16) < _convolution_seconds(torch.float32)


def _convolution_seconds(dtype: torch.dtype) -> float:
    """Best of three of a convolution as the small network has them."""
    images = torch.ones(64, 32, 14, 14, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(32, 32, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(4):  # the first one also prepares
            start = time.perf_counter()
            torch.conv2d(images, weight, padding=1)
            seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
