"""Connected components of binary masks."""

import cc3d
import numpy as np
import torch
from torch import Tensor

from neurosam3d.prompts.foreground import foreground


def largest_component(mask: Tensor) -> Tensor:
    """Keep the largest 26-connected component of every volume.

    Components are labelled on the CPU; call it once per crop and keep the result rather than
    once per step. Of two equally large components the one met first in memory order is kept.

    Args:
        mask: Boolean (D, H, W) or (B, 1, D, H, W); any other number type counts as
            foreground where positive.

    Returns:
        Boolean tensor of the same shape and device; empty where the mask is empty.

    Raises:
        ValueError: If the mask has neither shape.
    """
    if mask.ndim != 3 and (mask.ndim != 5 or mask.shape[1] != 1):
        raise ValueError(f"mask must be (D, H, W) or (B, 1, D, H, W), got {tuple(mask.shape)}")
    volumes = foreground(mask).cpu().numpy().reshape(-1, *mask.shape[-3:])  # (B, D, H, W)
    kept = np.stack([_largest_of_volume(volume) for volume in volumes])
    return torch.from_numpy(kept).view(mask.shape).to(mask.device)


def _largest_of_volume(volume: np.ndarray) -> np.ndarray:
    labels, count = cc3d.connected_components(volume, connectivity=26, return_N=True)
    if count == 0:
        return np.zeros_like(volume)
    if count == 1:
        return volume
    sizes = np.bincount(labels.ravel())
    return labels == 1 + int(sizes[1:].argmax())
