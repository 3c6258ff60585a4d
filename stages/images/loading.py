"""Batches of stored images as tensors."""

import numpy as np
import torch


def load(images: np.ndarray, index: np.ndarray | slice, device: torch.device | str = "cpu") -> torch.Tensor:
    """Rows of a split (uint8 (N, H, W, C), usually a memory map) as a uint8 tensor (B, C, H, W) on `device`."""
    rows = torch.from_numpy(np.array(images[index])).to(device, non_blocking=True)
    return rows.permute(0, 3, 1, 2).contiguous()
