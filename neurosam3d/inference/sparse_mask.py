"""Many masks of one large scan, each kept as the bits of its own box.

Everything works for any number n of spatial axes; what labels components, for two and three.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np


@dataclass(frozen=True, eq=False)
class SparseMask:
    """A mask, as the bits of the voxels of its tight box.

    A boolean for each voxel of a scan of 512 x 512 x 600 takes 157 MB; an organ's box takes
    a thousandth of that.

    Args:
        start: Voxel index of the box's lowest corner, n numbers.
        shape: Voxels of the box along each axis; zeros for an empty mask.
        bits: The box's voxels, eight to a byte, the last axis fastest.
        num_voxels: Foreground voxels.
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]
    bits: np.ndarray
    num_voxels: int

    @classmethod
    def from_array(cls, mask: np.ndarray, start: Sequence[int] | None = None) -> "SparseMask":
        """Keep a boolean array whose first voxel has the index `start` (zeros by default)."""
        low = np.zeros(mask.ndim, dtype=int) if start is None else np.asarray(start, dtype=int)
        inside = bounding_slices(mask)
        crop = mask[inside]
        corner = low + [along.start for along in inside]
        num_voxels = int(np.count_nonzero(crop))
        return cls(tuple(corner.tolist()), crop.shape, np.packbits(crop), num_voxels)

    @property
    def stop(self) -> tuple[int, ...]:
        """Voxel index just beyond the box's highest corner."""
        return tuple(a + n for a, n in zip(self.start, self.shape, strict=True))

    @property
    def box(self) -> np.ndarray:
        """Corners (2, n) of the tight box, both included."""
        return np.array([self.start, np.subtract(self.stop, 1)])

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the box lies in an array of the whole scan."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def crop(self) -> np.ndarray:
        """Return the voxels of the box, boolean."""
        size = int(np.prod(self.shape))
        return np.unpackbits(self.bits, count=size).reshape(self.shape).astype(bool)

    def dense(self, shape: Sequence[int]) -> np.ndarray:
        """Return the whole scan's voxels, boolean."""
        result = np.zeros(tuple(shape), dtype=bool)
        result[self.slices] = self.crop()
        return result


def num_shared(mask: SparseMask, other: SparseMask) -> int:
    """Count the voxels that two masks share."""
    low = np.maximum(mask.start, other.start)
    high = np.minimum(mask.stop, other.stop)
    if (high <= low).any():
        return 0
    views = []
    for one in (mask, other):
        inside = zip(low - one.start, high - one.start, strict=True)
        views.append(one.crop()[tuple(slice(a, b) for a, b in inside)])
    return int(np.count_nonzero(views[0] & views[1]))


def mask_iou(mask: SparseMask, other: SparseMask, *, at_least: float = 0.0) -> float:
    """Return the voxels in both masks divided by those in either; 0 if both are empty.

    Args:
        mask: One mask.
        other: Another one.
        at_least: Masks whose sizes alone keep their IoU below it are not compared; the result is 0.
    """
    smaller, larger = sorted((mask.num_voxels, other.num_voxels))
    if smaller < at_least * larger:
        return 0.0
    shared = num_shared(mask, other)
    return shared / max(smaller + larger - shared, 1)


def covered_share(mask: SparseMask, other: SparseMask) -> float:
    """Return which share of a mask's voxels another has too; 0 if the mask is empty."""
    return num_shared(mask, other) / max(mask.num_voxels, 1)


def share_inside(points: np.ndarray, mask: SparseMask) -> float:
    """Return which share of points (N, n), rounded to voxels, lies in a mask."""
    voxels = np.floor(points + 0.5).astype(int) - mask.start
    voxels = voxels[((voxels >= 0) & (voxels < mask.shape)).all(axis=1)]
    return np.count_nonzero(mask.crop()[tuple(voxels.T)]) / max(len(points), 1)


def clean_mask(mask: np.ndarray, *, min_voxels: float) -> np.ndarray:
    """Fill small holes, then remove small islands, as SAM's generator does.

    Voxels that touch at a corner belong to one component. A hole is a component of the background
    that does not reach the array's border.

    Args:
        mask: Boolean, two or three axes.
        min_voxels: Holes and islands with fewer voxels go; the largest island stays in any case.

    Returns:
        Boolean, a new array.
    """
    if not mask.any():
        return mask.copy()
    filled = mask | _small_holes(mask, min_voxels)
    labels, sizes = _label(filled)
    keep = sizes >= min_voxels
    keep[0] = False
    if not keep.any():
        keep[1 + sizes[1:].argmax()] = True
    return keep[labels]


def bounding_slices(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the slices of a boolean array's tight box; empty ones if there is none."""
    found = []
    for axis in range(mask.ndim):
        other = tuple(a for a in range(mask.ndim) if a != axis)
        occupied = np.flatnonzero(mask.any(axis=other)).tolist() or [0, -1]
        found.append(slice(occupied[0], occupied[-1] + 1))
    return tuple(found)


def _small_holes(mask: np.ndarray, min_voxels: float) -> np.ndarray:
    labels, sizes = _label(~mask)
    is_small = sizes < min_voxels
    is_small[0] = False
    for axis in range(mask.ndim):
        for end in (0, -1):
            is_small[np.unique(labels.take(end, axis))] = False
    return is_small[labels]


def _label(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the components from 1; return the numbers and the size of each, background first."""
    connectivity = 3**mask.ndim - 1  # all neighbours
    labels, count = cc3d.connected_components(mask, connectivity=connectivity, return_N=True)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)
