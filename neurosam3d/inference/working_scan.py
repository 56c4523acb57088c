"""A scan as the network sees it: on a working grid, with the intensities it was trained on.

Level 0 is the grid that predictions are made on. Each further level has voxels twice as large, to
show more of the scan in one window.

Shapes: N points; D H W voxels of a window.
"""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from neurosam3d.inference.windows import Window
from neurosam3d.intensity import normalize_crop, padding_value, prepare_volume
from neurosam3d.volume import Grid, Spacing, Volume, restore


class WorkingScan:
    """A scan and its working grids, which are made when they are first needed.

    Args:
        volume: The scan as it was read, one channel.
        spacing: Voxel size of level 0 in millimetres; None for the scan's own.
        intensity: Preset of the intensities.

    Raises:
        ValueError: If the scan has several channels, or spacing or preset are unfit.
    """

    def __init__(self, volume: Volume, *, spacing: Spacing | None, intensity: str) -> None:
        if len(volume.data) != 1:
            raise ValueError(f"a scan has one channel, got {len(volume.data)}")
        self.padding = padding_value(intensity)
        self.volume = volume
        self.intensity = intensity
        canonical = volume.grid.canonical()
        self._grids = [canonical if spacing is None else canonical.with_spacing(spacing)]
        self._prepared: dict[int, Volume] = {}

    @property
    def is_interpolated(self) -> bool:
        """Whether level 0 has other voxels than the scan, not just other axes."""
        return not self._grids[0].same_as(self.volume.grid.canonical())

    def grid(self, level: int = 0) -> Grid:
        """Return the working grid of a level."""
        while len(self._grids) <= level:
            doubled = 2 ** len(self._grids) * np.array(self._grids[0].spacing)
            self._grids.append(self._grids[0].with_spacing(doubled.tolist()))
        return self._grids[level]

    def window_grid(self, window: Window) -> Grid:
        """Return the grid of a window's voxels."""
        return self.grid(window.level).window(window.start, window.shape)

    def cut(self, window: Window) -> Tensor:
        """Return the normalised intensities (1, 1, D, H, W) of a window, padded outside."""
        crop = restore(self._volume(window.level), self.window_grid(window), fill=self.padding)
        return normalize_crop(crop.data, self.intensity)[None]

    def to_working(self, points: np.ndarray, *, level: int = 0) -> np.ndarray:
        """Map voxel indices (N, 3) of the scan to those of a working grid."""
        return map_points(points, self.volume.affine, self.grid(level).affine)

    def place(self, points: np.ndarray, *, level: int = 0) -> np.ndarray:
        """Map points (N, 3) in the scan's voxels to a working grid, not beyond its outermost ones.

        The scan's own outermost voxels may lie a little further out.
        """
        last = np.subtract(self.grid(level).shape, 1)
        return np.clip(self.to_working(points, level=level), 0, last)

    def to_scan(self, points: np.ndarray, *, level: int = 0) -> np.ndarray:
        """Map voxel indices (N, 3) of a working grid to those of the scan."""
        return map_points(points, self.grid(level).affine, self.volume.affine)

    def _volume(self, level: int) -> Volume:
        """Return the prepared scan on a working grid."""
        if level not in self._prepared:
            self._prepared[level] = self._coarser(level) if level else self._finest()
        return self._prepared[level]

    def _finest(self) -> Volume:
        """Prepare and resample the scan in the order that the training data was."""
        if self.is_interpolated:
            data = prepare_volume(self.volume.data, self.intensity)
            return restore(Volume(data, self.volume.affine), self.grid())
        turned = restore(self.volume, self.grid())  # the same, but turns integers, which are small
        return Volume(prepare_volume(turned.data, self.intensity), turned.affine)

    def _coarser(self, level: int) -> Volume:
        """Sample the next finer level, so that noise goes down with every level."""
        return restore(self._volume(level - 1), self.grid(level))


def repeat_outermost(volume: Volume, *, at_start: np.ndarray, at_stop: np.ndarray) -> Volume:
    """Let a volume reach one voxel further, with the values that its outermost voxels have.

    A working grid lies inside the scan's field of view, so that the scan's own outermost voxels may
    lie up to one voxel beyond it.

    Args:
        volume: What to enlarge.
        at_start: Along which axes (3,) it is enlarged before its first voxel.
        at_stop: The same behind its last voxel.
    """
    before = np.asarray(at_start, dtype=int)
    padding = np.stack([before, at_stop], axis=1)[::-1].ravel().tolist()  # last axis first
    data = F.pad(volume.data[None], padding, mode="replicate")[0]
    return Volume(data, volume.grid.window((-before).tolist(), data.shape[1:]).affine)


def map_points(points: np.ndarray, affine: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Map indices (N, 3) under one affine to indices under another."""
    # Rounded as in `resample_to`: whole indices stay whole where only the axes differ.
    mapping = np.round(np.linalg.inv(onto) @ affine, 9)
    return points @ mapping[:3, :3].T + mapping[:3, 3]
