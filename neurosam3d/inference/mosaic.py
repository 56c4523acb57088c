"""The answers of several windows of one working grid, laid over each other.

Shapes: D H W voxels of the part of the working grid that the windows cover.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurosam3d.inference.windows import Window, blend_weights, box_window, open_sides
from neurosam3d.volume import Grid, Volume

OUTSIDE_LOGIT = -10.0  # where no window looked


@dataclass(frozen=True)
class OpenFace:
    """A face of a window at which foreground ends only because the window does.

    Args:
        window: The window.
        axis: The axis that the face is perpendicular to.
        direction: -1 for the face where the window starts, 1 for the one where it stops.
        area: Foreground voxels at the face with nothing known beyond.
    """

    window: Window
    axis: int
    direction: int
    area: int


class Mosaic:
    """Logits blended with weights that fall towards each window's border, so that no seam shows.

    Where a single window looked, its logits stand unchanged.

    Args:
        grid: The working grid.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.windows: list[Window] = []
        self._region: Window | None = None
        self._logits = self._weights = torch.empty(0)

    @property
    def volume(self) -> Volume | None:
        """Logits (1, D, H, W) of the smallest box that holds all windows, as far as in the scan."""
        if self._region is None:
            return None
        part = self.grid.window(self._region.start, self._region.shape)
        return Volume(self._logits[None], part.affine)

    @property
    def region(self) -> Window | None:
        """That box."""
        return self._region

    def add(self, window: Window, logits: Tensor) -> None:
        """Lay one more window over the others.

        Args:
            window: Where it lies.
            logits: (D, H, W) of the window's shape; what lies outside the scan is dropped.
        """
        inside = window.inside(self.grid.shape)
        here, part = inside.slices(self._reach(inside)), inside.slices(window.start)
        weights = blend_weights(window.shape)[part]
        self._weights[here] += weights
        self._logits[here].lerp_(logits[part].float().cpu(), weights / self._weights[here])
        self.windows.append(window)

    def underlay(self, box: Window, logits: Tensor) -> None:
        """Fill in logits (D, H, W) of a box inside the scan where no window has looked."""
        here = box.slices(self._reach(box))
        self._logits[here] = torch.where(self._weights[here] > 0, self._logits[here], logits)

    def read(self, window: Window) -> Tensor:
        """Return the logits (D, H, W) that are known inside a window, 0 elsewhere."""
        logits = torch.zeros(window.shape)
        if self._region is not None:
            low = np.maximum(window.start, self._region.start)
            shared = box_window(low, np.minimum(window.stop, self._region.stop))
            here = shared.slices(self._region.start)
            logits[shared.slices(window.start)] = self._logits[here] * (self._weights[here] > 0)
        return logits

    def known(self) -> Volume | None:
        """Return what `volume` does, but 0 where no window looked."""
        volume = self.volume
        return volume and Volume(volume.data * (self._weights > 0), volume.affine)

    def open_faces(self) -> list[OpenFace]:
        """List the faces at which foreground ends although the scan goes on."""
        found = []
        for window in self.windows:
            for axis, direction in open_sides(window, self.grid.shape):
                if area := self._open_area(window.inside(self.grid.shape), axis, direction):
                    found.append(OpenFace(window, axis, direction, area))
        return found

    def _open_area(self, inside: Window, axis: int, direction: int) -> int:
        """Count the foreground voxels at a face beyond which nothing is known."""
        assert self._region is not None
        face = list(inside.slices(self._region.start))
        last = face[axis].start if direction < 0 else face[axis].stop - 1
        face[axis] = slice(last, last + 1)
        foreground = self._logits[tuple(face)] > 0
        beyond = last + direction
        if 0 <= beyond < self._region.shape[axis]:
            face[axis] = slice(beyond, beyond + 1)
            foreground &= self._weights[tuple(face)] == 0
        return int(foreground.sum())

    def _reach(self, box: Window) -> tuple[int, int, int]:
        """Enlarge the region until it holds a box inside the scan; return its first voxel."""
        old = self._region
        if old is None:
            self._region = region = box
        else:
            low, high = np.minimum(old.start, box.start), np.maximum(old.stop, box.stop)
            self._region = region = box_window(low, high, level=box.level)
        if region != old:
            logits, weights = self._logits, self._weights
            self._logits = torch.full(region.shape, OUTSIDE_LOGIT)
            self._weights = torch.zeros(region.shape)
            if old is not None:
                self._logits[old.slices(region.start)] = logits
                self._weights[old.slices(region.start)] = weights
        return region.start
