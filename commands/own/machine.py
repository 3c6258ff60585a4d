"""The machine that a run is planned for: its kind, in words, and its free memory."""

import os
from pathlib import Path

import torch

from stages.training.devices import device


def kind() -> str:
    """Which ladder is this machine's."""
    return "cpu" if device().type == "cpu" else "gpu"


def describe() -> str:
    """The device in words, and whether it is busy, which makes a choice more modest than it need be."""
    if device().type == "cuda":
        return torch.cuda.get_device_name(device())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"{cores} CPU cores, no GPU" if device().type == "cpu" else f"{device().type}, {cores} CPU cores"
    return name + (", busy with other work at the moment" if os.getloadavg()[0] > cores else "")


def free_memory() -> float:
    """Bytes that a run may still take, of the GPU's memory where there is one."""
    if device().type == "cuda":
        torch.cuda.empty_cache()  # of what was measured before
        return torch.cuda.mem_get_info(device())[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
