"""Slices of a scan: the planes that a network of slices looks at.

A slice is a plane of a scan that is turned to RAS+. The axis that slices are stacked along names
them: axial slices lie one above the other, coronal ones one before the other, sagittal ones side by
side. Rows and columns follow the other two axes in reversed order, as `neurosam3d.axes` has it:

    axis      slices  rows  columns
    axial     S       A     R
    coronal   A       S     R
    sagittal  R       S     A

Points of a scan are voxel indices (R, A, S); those of a slice are (x, y): its column, then its row.

Shapes: R A S voxels of a scan from left to right, from back to front, from foot to head; N slices,
H rows, W columns; n points.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

T = TypeVar("T")
Axis = Literal["axial", "coronal", "sagittal"]
AXES: tuple[Axis, ...] = get_args(Axis)

# The axes of a scan (0: R, 1: A, 2: S) that slices, rows and columns follow.
_ORDERS: dict[str, tuple[int, int, int]] = {
    "axial": (2, 1, 0),
    "coronal": (1, 2, 0),
    "sagittal": (0, 2, 1),
}


def axis_order(axis: Axis) -> tuple[int, int, int]:
    """Return the axes of a scan, out of 0, 1 and 2, that slices, rows and columns follow.

    Raises:
        ValueError: If there is no such axis.
    """
    if axis not in _ORDERS:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    return _ORDERS[axis]


def in_slice_order(triple: Sequence[T], axis: Axis) -> tuple[T, T, T]:
    """Return three numbers of R, A, S, such as a shape or a spacing, for slices, rows, columns."""
    slices, rows, columns = axis_order(axis)
    return triple[slices], triple[rows], triple[columns]


def to_slices(volume: Tensor, axis: Axis = "axial") -> Tensor:
    """Return a view (N, H, W) of a scan (1, R, A, S)."""
    return volume[0].permute(axis_order(axis))


def from_slices(slices: Tensor, axis: Axis = "axial") -> Tensor:
    """Return a view (..., R, A, S) of slices (N, ..., H, W)."""
    stacked = slices.movedim(0, -3)  # (..., N, H, W)
    order = axis_order(axis)
    return stacked.movedim((-3, -2, -1), tuple(a - 3 for a in order))


def points_to_slices(points: Tensor, axis: Axis = "axial") -> tuple[Tensor, Tensor]:
    """Return the slices (n,) that points (n, 3) of a scan lie in, and the points (n, 2) in them."""
    slices, rows, columns = axis_order(axis)
    return points[:, slices], points[:, [columns, rows]]


def points_from_slices(slices: Tensor, points: Tensor, axis: Axis = "axial") -> Tensor:
    """Return points (n, 3) of a scan from their slices (n,) and the points (n, 2) in them."""
    x, y = points.unbind(-1)
    in_order = torch.stack([slices.to(points), y, x], dim=-1)
    return in_order[:, torch.tensor(axis_order(axis)).argsort()]
