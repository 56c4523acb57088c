"""Exact Euclidean distance to the background, on any device.

Shapes: B batch, D H W volume.
"""

import math

import edt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurosam3d.prompts.foreground import foreground

Spacing = tuple[float, float, float]
UNIT_SPACING: Spacing = (1.0, 1.0, 1.0)


def distance_transform(mask: Tensor, *, spacing: Spacing = UNIT_SPACING) -> Tensor:
    """Measure how deep every voxel lies inside the mask.

    Everything beyond the volume's border counts as background, so the distance of a border voxel
    is one step. On the CPU the `edt` package does the work, elsewhere `separable_distance`; both
    are exact.

    Args:
        mask: Boolean (B, 1, D, H, W).
        spacing: Length of a voxel along D, H, W, in mm or any other unit.

    Returns:
        Distances (B, 1, D, H, W) to the nearest background voxel's centre, in the unit of the
        spacing, float32; 0 on the background.

    Raises:
        ValueError: If the mask is not (B, 1, D, H, W), or the spacing not three positive lengths.
    """
    if mask.ndim != 5 or mask.shape[1] != 1:
        raise ValueError(f"mask must be (B, 1, D, H, W), got {tuple(mask.shape)}")
    if len(spacing) != 3 or not all(0 < step < math.inf for step in spacing):
        raise ValueError(f"spacing must be three positive lengths, got {tuple(spacing)}")
    if mask.device.type != "cpu":
        return separable_distance(mask, spacing=spacing)
    # edt numbers the axes of a C-ordered array as numpy does.
    volumes = np.ascontiguousarray(foreground(mask[:, 0]).numpy())  # (B, D, H, W)
    threads = torch.get_num_threads()
    return torch.from_numpy(
        np.stack(
            [
                edt.edt(volume, anisotropy=spacing, black_border=True, parallel=threads)
                for volume in volumes
            ]
        )
    ).unsqueeze(1)


def separable_distance(mask: Tensor, *, spacing: Spacing = UNIT_SPACING) -> Tensor:
    """Compute `distance_transform` with tensor operations only, without a host sync.

    The squared distance is a minimum over three independent offsets, so the axes are handled one
    after the other. Because the border is background, no voxel is deeper than half the shortest
    side, which bounds the offsets that have to be tried.

    Args:
        mask: Boolean (B, 1, D, H, W).
        spacing: Length of a voxel along D, H, W.

    Returns:
        Distances (B, 1, D, H, W) in the unit of the spacing, float32.
    """
    sides = zip(mask.shape[2:], spacing, strict=True)
    deepest = min((side + 1) // 2 * step for side, step in sides)
    # Any finite start above the deepest possible square will do: the border caps it.
    squared = foreground(mask).float() * (deepest * deepest + 1)
    for axis, step in zip((2, 3, 4), spacing, strict=True):
        squared = _lower_envelope(squared, axis, math.ceil(deepest / step), step)
    return squared.sqrt()


def _lower_envelope(squared: Tensor, axis: int, reach: int, step: float) -> Tensor:
    """Minimise `squared` at k voxels' distance plus (k step)^2 over k up to `reach` on one axis."""
    side = squared.shape[axis]
    padding = [0] * 6
    padding[2 * (4 - axis)] = padding[2 * (4 - axis) + 1] = reach  # F.pad counts axes from the end
    padded = F.pad(squared, padding)  # background on both ends of the axis
    nearest = squared
    for offset in range(1, reach + 1):
        below = padded.narrow(axis, reach - offset, side)
        above = padded.narrow(axis, reach + offset, side)
        nearest = torch.minimum(nearest, torch.minimum(below, above) + (offset * step) ** 2)
    return nearest
