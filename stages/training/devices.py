"""Which device computes, and in which precision."""

import ctypes
import os
import platform
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Literal

import torch
from torch import nn

from stages.plumbing.errors import UserError
from stages.plumbing.launch import launch

Precision = Literal["float32", "bfloat16"]
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
        name = f"cuda:{launch().local_rank}"
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
        if launch().count > 1:
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
    """Autocast to bfloat16 where `precision` says so; else float32 throughout."""
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=precision() == "bfloat16")


@cache
def precision() -> Precision:
    """What networks compute in: bfloat16 where the device has units for it, else float32.

    It follows from what the device is, never from a timing: a busy machine must not give other results for the same
    seed. The environment variable PRECISION (float32 or bfloat16) decides instead, where it is set; a processor without
    units then emulates bfloat16, ten times slower. Every process of a run on one kind of machine answers the same.
    """
    wanted = os.environ.get("PRECISION", "")
    if wanted not in ("", "float32", "bfloat16"):
        raise UserError(f"PRECISION={wanted}: expected float32 or bfloat16, or unset it")
    if wanted:
        return "bfloat16" if wanted == "bfloat16" else "float32"
    if device().type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device().type == "cpu" and bfloat16_units() else "float32"


def bfloat16_units() -> list[str]:
    """The units of this processor that compute in bfloat16, by torch's names for them; empty where there are none.

    Only those of x86 count: what torch gains by those of other processors was not measured.
    """
    if hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
    else:  # torch 2.11
        has = {"avx512_bf16": torch.cpu._is_avx512_bf16_supported(), "amx_bf16": torch.cpu._is_amx_tile_supported()}
    return [name for name in ("avx512_bf16", "amx_bf16") if has.get(name)]


def computed() -> dict[str, str]:
    """What besides params, data and code decides the last digits of a result: equal values and seeds, equal bytes."""
    if device().type == "cuda":
        processor = torch.cuda.get_device_name(device())
    else:
        units = bfloat16_units() if precision() == "bfloat16" else []
        threads = f"{torch.get_num_threads()} threads"  # sums come out a little different with each number of them
        processor = " ".join([platform.machine(), torch.backends.cpu.get_cpu_capability(), *units, threads])
    return {"device": device().type, "processor": processor, "precision": precision(), "torch": torch.__version__}
