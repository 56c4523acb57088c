"""Linear interpolation between grids whose axes are parallel, one axis after the other.

Shapes: C channels; D H W voxels of the volume; I J K of the new grid.
"""

import numpy as np
import torch
from torch import Tensor


def is_separable(mapping: np.ndarray) -> bool:
    """Tell whether an index map (4, 4) has one axis of the volume for each axis of the grid."""
    has_part = mapping[:3, :3] != 0
    return bool((has_part.sum(axis=0) == 1).all() and (has_part.sum(axis=1) == 1).all())


def sample_linearly(
    data: Tensor, mapping: np.ndarray, shape: tuple[int, int, int], *, fill: float
) -> Tensor:
    """Sample a volume at ``mapping @ index`` for every index of a grid.

    Equal to ITK's linear interpolation up to rounding: within half a voxel around the outermost
    centres their values count, further out the fill value.

    Args:
        data: Floating point (C, D, H, W).
        mapping: Separable index map (4, 4), from the grid's indices to the volume's.
        shape: Voxels I, J, K of the grid.
        fill: Value outside the volume's field of view.

    Returns:
        (C, I, J, K), of the same type.
    """
    axes = np.abs(mapping[:3, :3]).argmax(axis=0)  # of the volume, along each axis of the grid
    result = data.permute(0, *(1 + axes).tolist())  # (C, D, H, W) in the order of I, J, K
    outside = {}
    # What makes the volume smaller comes first.
    for axis in sorted(range(3), key=lambda axis: shape[axis] / result.shape[1 + axis]):
        step, offset = mapping[axes[axis], [axis, 3]]
        place = offset + step * torch.arange(shape[axis], dtype=torch.float64)
        size = result.shape[1 + axis]
        outside[axis] = ((place < -0.5) | (place >= size - 0.5)).nonzero()[:, 0]
        result = _interpolate(result, 1 + axis, place.clamp(0, size - 1))
    for axis, indices in outside.items():
        result.index_fill_(1 + axis, indices.to(result.device), fill)
    return result


def _interpolate(data: Tensor, axis: int, place: Tensor) -> Tensor:
    """Sample along one axis at places between 0 and its last index, into a new tensor."""
    below = place.floor()
    share = (place - below).to(data)
    first = below.long().to(data.device)
    result = data.index_select(axis, first)
    if share.any():
        above = data.index_select(axis, first + (share > 0))
        result.lerp_(above, share.view(-1, *[1] * (data.ndim - 1 - axis)))
    return result
