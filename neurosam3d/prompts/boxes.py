"""Boxes around reference masks.

Shapes: B batch, D H W volume.
"""

import torch
from torch import Tensor

from neurosam3d.prompts.foreground import foreground


def boxes_from_masks(
    mask: Tensor, *, jitter: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """Find the tight box around every mask of the batch, without waiting for the device.

    Args:
        mask: Boolean (B, 1, D, H, W).
        jitter: Largest shift of a corner along an axis, as a fraction of the box's side there;
            each coordinate moves by its own uniform amount in either direction.
        generator: Source of the jitter, on the mask's device or on the CPU.

    Returns:
        Corners (B, 2, 3), float32, lowest voxel first, both included, inside the volume. An empty
        mask gives the whole volume. Jittered corners are not rounded to voxels.

    Raises:
        ValueError: If the mask is not (B, 1, D, H, W) or the jitter is negative.
    """
    if mask.ndim != 5 or mask.shape[1] != 1:
        raise ValueError(f"mask must be (B, 1, D, H, W), got {tuple(mask.shape)}")
    if jitter < 0:
        raise ValueError(f"jitter must be a fraction of the box side >= 0, got {jitter}")
    mask = foreground(mask[:, 0])  # (B, D, H, W)
    extents = [_extent(mask.any(other)) for other in ((2, 3), (1, 3), (1, 2))]
    corners = torch.stack(extents, dim=2).float()  # (B, 2, 3)
    return _move_corners(corners, jitter, generator, mask.shape[1:]) if jitter else corners


def _extent(occupied: Tensor) -> Tensor:
    """Find the first and last true entry of every row (B, n), as (B, 2); of an empty row, its ends.

    `argmax` returns the first of equal values, which is 0 for a row without any true entry.
    """
    first = occupied.int().argmax(1)
    last = occupied.shape[1] - 1 - occupied.int().flip(1).argmax(1)
    return torch.stack([first, last], dim=1)


def _move_corners(
    corners: Tensor, jitter: float, generator: torch.Generator | None, shape: torch.Size
) -> Tensor:
    device = corners.device if generator is None else generator.device
    shift = 2 * torch.rand(corners.shape, generator=generator, device=device) - 1  # (B, 2, 3)
    sides = corners[:, 1:] - corners[:, :1] + 1  # (B, 1, 3)
    moved = corners + shift.to(corners.device, non_blocking=True) * jitter * sides
    moved = moved.sort(dim=1).values  # the corners of a one-voxel box can cross
    inside = [along.clamp(0, side - 1) for along, side in zip(moved.unbind(2), shape, strict=True)]
    return torch.stack(inside, dim=2)  # (B, 2, 3)
