"""The answers of slices, stacked on the working grid.

Shapes: H W rows and columns of a slice; X Y Z voxels of the part of the working grid from the first
to the last slice.
"""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from neurosam3d.inference.mosaic import OUTSIDE_LOGIT
from neurosam3d.inference.windows import Window
from neurosam3d.slices import Axis, axis_order, from_slices
from neurosam3d.volume import Grid, Triple, Volume


class SliceStack:
    """Logits of slices, as `Prediction` takes them; between slices without any, nothing is found.

    Args:
        grid: The working grid.
        axis: What the slices are stacked along.
        logits: (H, W) by number of the slice.
    """

    def __init__(self, grid: Grid, axis: Axis, logits: Mapping[int, Tensor]) -> None:
        self._grid = grid
        self._axis: Axis = axis
        self._logits = logits

    @property
    def windows(self) -> list[Window]:
        """The slices, as windows of the working grid."""
        return [slab_window(self._grid.shape, self._axis, n, n) for n in self._logits]

    @property
    def region(self) -> Window | None:
        """The box from the first slice to the last."""
        if not self._logits:
            return None
        return slab_window(self._grid.shape, self._axis, min(self._logits), max(self._logits))

    @cached_property
    def volume(self) -> Volume | None:
        """Logits (1, X, Y, Z) of that box."""
        if (region := self.region) is None:
            return None
        nothing = torch.full_like(next(iter(self._logits.values())), OUTSIDE_LOGIT)
        numbers = range(min(self._logits), max(self._logits) + 1)
        stacked = torch.stack([self._logits.get(n, nothing) for n in numbers])  # (N, H, W)
        part = self._grid.window(region.start, region.shape)
        return Volume(from_slices(stacked, self._axis)[None], part.affine)


def slab_window(shape: Triple, axis: Axis, first: int, last: int) -> Window:
    """Return the window of a working grid that the slices from first to last take."""
    along = axis_order(axis)[0]
    start, sides = [0, 0, 0], list(shape)
    start[along], sides[along] = first, last + 1 - first
    return Window((start[0], start[1], start[2]), (sides[0], sides[1], sides[2]))
