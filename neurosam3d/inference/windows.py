"""Where windows lie on a working grid, and how much each one counts where they overlap.

A window is a box of voxels as large as the network's field of view. All indices are voxels of the
working grid at the window's level.

Shapes: N points; D H W a window's voxels.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from neurosam3d.volume import Triple


@dataclass(frozen=True)
class Window:
    """A box of voxels of a working grid; it may reach beyond the scan, where it is padded.

    Args:
        start: Its first voxel.
        shape: Its voxels along D, H, W.
        level: Which working grid: 0 for the finest, one more for each doubling of the spacing.
    """

    start: Triple
    shape: Triple
    level: int = 0

    @property
    def stop(self) -> Triple:
        """The voxel after its last one."""
        return as_triple(np.add(self.start, self.shape))

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Tell which of the points (N, 3) lie in one of its voxels, as booleans (N,)."""
        low = np.subtract(self.start, 0.5)
        inside = (points >= low) & (points < low + self.shape)  # (N, 3)
        return np.logical_and.reduce(inside, axis=1)

    def inside(self, scan_shape: Triple) -> "Window":
        """Return its part inside a scan."""
        low, high = np.clip([self.start, self.stop], 0, scan_shape)
        return box_window(low, high, level=self.level)

    def slices(self, origin: Sequence[int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
        """Return its place in an array whose first voxel has the index `origin`."""
        d, h, w = (
            slice(first - zero, last - zero)
            for first, last, zero in zip(self.start, self.stop, origin, strict=True)
        )
        return d, h, w


def box_window(low: np.ndarray, high: np.ndarray, *, level: int = 0) -> Window:
    """Return the window from voxel `low` to the one before `high`; empty where that is lower."""
    return Window(as_triple(low), as_triple(np.maximum(np.subtract(high, low), 0)), level)


def centred_window(
    centre: Sequence[float] | np.ndarray,
    shape: Triple,
    *,
    scan_shape: Triple | None = None,
    level: int = 0,
) -> Window:
    """Return the window around a point.

    Args:
        centre: Index that comes to lie in voxel shape // 2 of the window, as in `crop_or_pad`.
        shape: Voxels of the window.
        scan_shape: Voxels of the scan, for a window that is moved inside it; along an axis where
            the scan is smaller, the window is centred on the scan. Without it, the window stays.
        level: Level of the working grid.
    """
    start = np.floor(np.add(centre, 0.5)).astype(int) - np.floor_divide(shape, 2)
    if scan_shape is not None:
        start = _moved_inside(start, shape, scan_shape)
    return Window(as_triple(start), shape, level)


def next_window(window: Window, axis: int, step: int, *, scan_shape: Triple) -> Window:
    """Return the window that lies `step` voxels further along an axis, moved inside the scan."""
    start = np.array(window.start)
    start[axis] += step
    start = _moved_inside(start, window.shape, scan_shape)
    return Window(as_triple(start), window.shape, window.level)


def count_by_window(
    points: np.ndarray, anchor: Window, step: Sequence[int], *, scan_shape: Triple
) -> Counter[Window]:
    """Deal points out to the windows of a lattice, each to the one whose middle part holds it.

    Args:
        points: Indices (N, 3) inside the scan.
        anchor: A window of the lattice.
        step: Voxels from one window to the next; the middle part of a window is as large.
        scan_shape: Voxels of the scan; windows are moved inside it.

    Returns:
        How many points each window got, for those that got one.
    """
    counts: Counter[Window] = Counter()
    if len(points) == 0:
        return counts
    margin = np.subtract(anchor.shape, step) // 2
    cells = np.floor((points + 0.5 - anchor.start - margin) / step).astype(int)  # (N, 3)
    lowest = cells.min(axis=0)
    extent = cells.max(axis=0) - lowest + 1
    keys, numbers = np.unique(np.ravel_multi_index((cells - lowest).T, extent), return_counts=True)
    for *cell, number in zip(*np.unravel_index(keys, extent), numbers, strict=True):
        start = anchor.start + np.multiply(cell + lowest, step)
        start = _moved_inside(start, anchor.shape, scan_shape)
        counts[Window(as_triple(start), anchor.shape, anchor.level)] += int(number)
    return counts


def open_sides(window: Window, scan_shape: Triple) -> Iterator[tuple[int, int]]:
    """Yield axis and direction (-1 or 1) of the faces beyond which the scan goes on."""
    for axis in range(3):
        if window.start[axis] > 0:
            yield axis, -1
        if window.stop[axis] < scan_shape[axis]:
            yield axis, 1


@lru_cache(maxsize=4)
def blend_weights(shape: Triple) -> Tensor:
    """Return Hann weights (D, H, W): all but 0 at a window's border, 1 in its middle, never 0.

    They are kept for the next caller and not to be changed.
    """
    places = [(torch.arange(side) + 0.5) / side for side in shape]
    d, h, w = ((math.pi * place).sin().square() for place in places)
    return d[:, None, None] * h[:, None] * w


def as_triple(values: Sequence[int] | np.ndarray) -> Triple:
    """Return three numbers of voxels as plain integers."""
    d, h, w = (int(value) for value in values)
    return d, h, w


def _moved_inside(start: np.ndarray, shape: Triple, scan_shape: Triple) -> np.ndarray:
    room = np.subtract(scan_shape, shape)
    middle = np.floor_divide(scan_shape, 2) - np.floor_divide(shape, 2)
    return np.where(room < 0, middle, np.clip(start, 0, np.maximum(room, 0)))
