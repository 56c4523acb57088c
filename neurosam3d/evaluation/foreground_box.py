"""Where a mask's foreground lies, found without copying the volume.

A scan of 512 x 512 x 600 voxels holds 157 MB as bytes, its object often a thousandth of that. So
masks are read plane by plane as they are, and everything after works on the box around the object.

Shapes: D H W volume.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

Mask = ArrayLike | Tensor


@dataclass(frozen=True)
class ForegroundBox:
    """The tight box around a mask's foreground, a view of the mask.

    Args:
        voxels: Mask inside the box, of any number type, foreground above 0; of an empty mask,
            without a voxel.
        corner: Index (3,) of the box's lowest voxel in the volume.
        num_voxels: Number of foreground voxels.
    """

    voxels: np.ndarray
    corner: np.ndarray
    num_voxels: int

    @property
    def is_empty(self) -> bool:
        """Whether the mask has no foreground."""
        return self.num_voxels == 0


class MaskPair:
    """A prediction and its truth, each in its box.

    Args:
        prediction: Boolean mask (D, H, W); of other number types, what is positive counts.
        truth: Reference mask of the same shape.

    Raises:
        ValueError: If the masks are not volumes of one shape.
    """

    def __init__(self, prediction: Mask, truth: Mask) -> None:
        first, second = _as_array(prediction), _as_array(truth)
        if first.ndim != 3 or first.shape != second.shape:
            raise ValueError(
                "prediction and truth must be volumes (D, H, W) of one shape, "
                f"got {first.shape} and {second.shape}"
            )
        self.prediction, self.truth = find_foreground(first), find_foreground(second)

    @property
    def num_empty(self) -> int:
        """How many of the two masks have no foreground."""
        return self.prediction.is_empty + self.truth.is_empty

    @cached_property
    def num_shared(self) -> int:
        """Number of voxels that are foreground in both masks."""
        boxes = (self.prediction, self.truth)
        lowest = np.maximum(*(box.corner for box in boxes))
        end = np.minimum(*(box.corner + box.voxels.shape for box in boxes))
        if (lowest >= end).any():
            return 0
        first, second = (
            box.voxels[tuple(map(slice, lowest - box.corner, end - box.corner))] for box in boxes
        )
        both = zip(iterate_planes(first), iterate_planes(second), strict=True)
        return sum(int(np.count_nonzero(one & other)) for one, other in both)


def find_foreground(mask: np.ndarray) -> ForegroundBox:
    """Find the tight box around the foreground of a mask (D, H, W)."""
    order = storage_order(mask)
    stored = mask.transpose(order)
    highest = np.fmax.reduce(stored, axis=(1, 2), initial=0)  # NaN is no foreground
    occupied = np.flatnonzero(highest > 0)
    if not len(occupied):
        return ForegroundBox(mask[:0, :0, :0], np.zeros(3, int), 0)
    footprint = np.zeros(stored.shape[1:], bool)  # what all planes cover together
    num_voxels = 0
    for plane in iterate_planes(stored[occupied[0] : occupied[-1] + 1]):
        num_voxels += int(np.count_nonzero(plane))
        footprint |= plane
    box = [slice(0)] * 3
    extents = (occupied, np.flatnonzero(footprint.any(1)), np.flatnonzero(footprint.any(0)))
    for axis, extent in zip(order, extents, strict=True):
        box[axis] = slice(extent[0], extent[-1] + 1)
    return ForegroundBox(mask[tuple(box)], np.array([side.start for side in box]), num_voxels)


def iterate_planes(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the boolean planes (H, W) of a mask of any number type."""
    return iter(mask) if mask.dtype == bool else (plane > 0 for plane in mask)


def storage_order(mask: np.ndarray) -> tuple[int, ...]:
    """Return the axes so that stepping along the last one moves least in memory.

    NIfTI files are read with the first axis moving fastest: planes along it would be scattered.
    """
    return tuple(np.argsort(np.abs(mask.strides), kind="stable")[::-1].tolist())


def _as_array(mask: Mask) -> np.ndarray:
    if not isinstance(mask, Tensor):
        return np.asarray(mask)
    # NumPy has no bfloat16, and one byte per voxel comes faster from a GPU than four.
    mask = mask > 0 if mask.is_floating_point() else mask.detach()
    return mask.cpu().numpy()
