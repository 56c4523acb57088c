"""A mask that a user gives, as logits on a grid of its own.

Shapes: D H W voxels of the mask.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosam3d.inference.working_scan import map_points
from neurosam3d.prompts import boxes_from_masks
from neurosam3d.volume import Grid, Volume, read_volume, restore

MASK_LOGIT = 8.0  # for a mask without logits: as sure as a trained network is

MaskPrompt = Path | str | Volume | np.ndarray | Tensor


def place_mask(mask: MaskPrompt, grid: Grid) -> Volume:
    """Return a mask prompt as float32 logits (1, D, H, W).

    Args:
        mask: As in `ObjectPrompts`.
        grid: Grid of the scan.

    Raises:
        ValueError: If it cannot be read, has several channels or, as an array, another shape than
            the scan, if its logits are not finite, or all that it marks lies outside the scan.
    """
    if isinstance(mask, Path | str):
        mask = read_volume(mask)
    if not isinstance(mask, Volume):
        array = torch.as_tensor(mask)
        if array.shape != grid.shape:
            shape = tuple(array.shape)
            raise ValueError(f"a mask prompt must have the scan's shape {grid.shape}, got {shape}")
        mask = Volume(array[None], grid.affine)
    if len(mask.data) != 1:
        raise ValueError(f"a mask prompt has one channel, got {len(mask.data)}")
    data = mask.data.detach().cpu()
    if not data.is_floating_point() or ((data == 0) | (data == 1)).all():
        logits = _mask_logits(data > 0, mask.grid)
    elif data.isfinite().all():
        logits = Volume(data.float(), mask.affine)
    else:
        raise ValueError("the logits of a mask prompt must be finite, got NaN or infinity")
    _require_overlap(logits, grid)
    return logits


def _mask_logits(foreground: Tensor, grid: Grid) -> Volume:
    """Return logits for a mask (1, D, H, W), cut to a border of one voxel around its foreground."""
    first, last = boxes_from_masks(foreground[None])[0].int().numpy()
    part = restore(Volume(foreground, grid.affine), grid.window(first - 1, last - first + 3))
    return Volume(torch.where(part.data, MASK_LOGIT, -MASK_LOGIT), part.affine)


def _require_overlap(logits: Volume, grid: Grid) -> None:
    corners = boxes_from_masks(logits.data[None] > 0)[0].double().numpy()
    ends = map_points(corners, logits.affine, grid.affine)
    low, high = ends.min(axis=0), ends.max(axis=0)
    if (high < -0.5).any() or (low > np.subtract(grid.shape, 0.5)).any():
        raise ValueError(
            f"a mask prompt must mark voxels of the scan of shape {grid.shape}, "
            f"got one at {low.round().tolist()} to {high.round().tolist()}"
        )
