"""The axes of networks that were made for slices.

Scans are turned to RAS+, so that their last axis goes from slice to slice of an axial scan. The
3DSAM-adapter and its baselines (arXiv:2306.13465) look at slices first, then rows and columns, and
that matters: their weights know slices from columns, and 2-D SAM's know nothing but slices. So
whoever feeds such a network swaps the first and the last axis, and swaps them back in its answer.

Shapes: R A S voxels of a scan from left to right, from back to front, from foot to head.
"""

from torch import Tensor


def swap_slices(volume: Tensor) -> Tensor:
    """Return a view (..., S, A, R) of a volume (..., R, A, S), or the other way round."""
    return volume.transpose(-3, -1)


def swap_slices_of_points(points: Tensor) -> Tensor:
    """Return points (..., 3) in the axes that `swap_slices` makes."""
    return points.flip(-1)
