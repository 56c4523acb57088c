"""Images and labels as the crops need them: canonical, resampled, intensities prepared.

Their voxels may lie in memory or in a file of the store: both are read by windows.

Shapes: D H W voxels of the prepared image, or of an object's bounding box; S side of a crop.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from neurosam3d.intensity import get_preset, prepare_volume
from neurosam3d.volume import (
    Grid,
    Mode,
    Spacing,
    Triple,
    Volume,
    read_grid,
    read_volume,
    resample,
    splat_foreground,
    to_canonical,
)


class Array(Protocol):
    """What both numpy's arrays and those of the store are: something to read windows of."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its length along each axis."""

    def __getitem__(self, window: tuple[slice, ...], /) -> np.ndarray:
        """Read a window."""


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A prepared image, to be cut into crops.

    Args:
        voxels: (D, H, W) float32.
        affine: (4, 4) matrix from voxel index to RAS+ millimetres.
    """

    voxels: Array
    affine: np.ndarray

    @property
    def grid(self) -> Grid:
        """The grid the voxels lie on."""
        d, h, w = self.voxels.shape
        return Grid((d, h, w), self.affine)

    def crop(self, size: Triple, *, center: Triple, fill: float) -> Volume:
        """Cut out a box of voxels, (1, *size), as `neurosam3d.volume.crop_or_pad` does."""
        data = _cut(self.voxels, size, center, fill)
        return Volume(data, self.grid.window(_first_voxel(size, center), size).affine)


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """The label of one object, cut to its bounding box.

    Args:
        voxels: (D, H, W) uint8, the voxels of the bounding box.
        foreground: (N,), the flat indices in the box of the foreground voxels, rising.
        start: Index of the box's first voxel in the prepared image.
        center: Index in the box of the foreground voxel nearest to the centre of mass.
    """

    voxels: Array
    foreground: Array
    start: Triple
    center: Triple

    @property
    def shape(self) -> Triple:
        """Voxels of the box along D, H, W."""
        d, h, w = self.voxels.shape
        return d, h, w

    @property
    def num_foreground(self) -> int:
        """Foreground voxels of the object."""
        return self.foreground.shape[0]

    def middle_of_box(self) -> Triple:
        """Return the middle voxel of the box, which need not be foreground."""
        d, h, w = self.shape
        return d // 2, h // 2, w // 2

    def draw_voxel(self) -> Triple:
        """Draw one foreground voxel of the box, all equally likely."""
        number = int(torch.randint(self.num_foreground, ()))
        flat = int(self.foreground[(slice(number, number + 1),)][0])
        rest, w = divmod(flat, self.shape[2])
        return *divmod(rest, self.shape[1]), w

    def crop(self, size: Triple, *, center: Triple) -> Tensor:
        """Cut out a box of voxels around a voxel of the object's box, (1, *size) uint8."""
        return _cut(self.voxels, size, center, fill=0)

    def paint(self, labels: np.ndarray, *, first: Triple, value: int) -> None:
        """Write a value wherever the object is, into a window of the prepared image.

        Args:
            labels: (D, H, W), changed in place. Only what the object's box covers is read.
            first: Index of the window's first voxel in the prepared image; it may be outside.
            value: What to write.
        """
        source, target = [], []
        for begin, origin, length, wanted in zip(
            first, self.start, self.shape, labels.shape, strict=True
        ):
            low, high = max(begin, origin), min(begin + wanted, origin + length)
            if low >= high:
                return
            source.append(slice(low - origin, high - origin))
            target.append(slice(low - begin, high - begin))
        labels[tuple(target)][self.voxels[tuple(source)] > 0] = value


@dataclass(frozen=True)
class Preparation:
    """How images and labels are prepared.

    Args:
        spacing: Voxel size in mm to resample to; None keeps each scan's own.
        intensity: Intensity preset, whose volume stage is applied.
    """

    spacing: Spacing | None
    intensity: str

    @property
    def of_images(self) -> tuple[object, ...]:
        """What a prepared image depends on besides its file; presets may have a stage in common."""
        return self.spacing, get_preset(self.intensity).volume_stage.__name__

    @property
    def of_labels(self) -> tuple[object, ...]:
        """What a prepared label depends on besides its file and the image's grid."""
        return (self.spacing,)

    def prepare_image(self, path: Path) -> PreparedImage:
        """Read and prepare an image.

        Raises:
            ValueError: If the file cannot be read or has several channels.
        """
        volume = read_volume(path, dtype=torch.float32)
        if len(volume.data) != 1:
            raise ValueError(f"a prepared image has one channel, got {len(volume.data)} in {path}")
        volume = Volume(prepare_volume(volume.data, self.intensity), volume.affine)
        volume = self._to_working_grid(volume, mode="linear")
        return PreparedImage(volume.data[0].numpy(), volume.affine)

    def prepare_object(self, path: Path, *, image: Path) -> ObjectMask:
        """Read the label of an object and bring it to the grid of its prepared image.

        An object that falls between the voxels of that grid is kept as the voxels nearest to it.

        Raises:
            ValueError: If the file cannot be read, does not lie on its image's grid, or has no
                foreground.
        """
        label = read_volume(path)
        if not label.grid.same_as(read_grid(image)):
            raise ValueError(f"a label lies on its image's grid, got {path}: prepare it anew")
        mask = Volume((label.data > 0).to(torch.uint8), label.affine)
        if not mask.data.any():
            raise ValueError(f"a label has foreground, {path} has none: prepare it anew")
        on_grid = self._to_working_grid(mask, mode="nearest")
        if not on_grid.data.any():  # smaller or thinner than a voxel, and between two of them
            on_grid = splat_foreground(mask, on_grid.grid)
        return _object_mask(on_grid.data[0].numpy())

    def _to_working_grid(self, volume: Volume, *, mode: Mode) -> Volume:
        volume = to_canonical(volume)
        return volume if self.spacing is None else resample(volume, self.spacing, mode=mode)


def _object_mask(mask: np.ndarray) -> ObjectMask:
    """Cut the mask of an object (D, H, W) to its bounding box."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    d, h, w = (part.start for part in box)
    voxels = np.ascontiguousarray(mask[tuple(box)])
    flat = np.flatnonzero(voxels).astype(np.int32 if voxels.size < 2**31 else np.int64)
    return ObjectMask(voxels, flat, (d, h, w), _central_voxel(voxels))


def _central_voxel(mask: np.ndarray) -> Triple:
    """Return the foreground voxel nearest to the centre of mass, the first of several."""
    voxels = np.argwhere(mask)  # (N, 3)
    distances = ((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1)
    d, h, w = voxels[distances.argmin()].tolist()
    return d, h, w


def _first_voxel(size: Triple, center: Triple) -> Triple:
    d, h, w = (c - n // 2 for c, n in zip(center, size, strict=True))
    return d, h, w


def _cut(array: Array, size: Triple, center: Triple, fill: float) -> Tensor:
    """Read the box of `size` around a voxel, (1, *size), with `fill` where it leaves the array."""
    source, target = [], []
    for length, first, wanted in zip(array.shape, _first_voxel(size, center), size, strict=True):
        low = min(max(first, 0), length)
        high = max(min(first + wanted, length), low)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    voxels = array[tuple(source)]
    if voxels.shape == size and voxels.base is None:  # fresh from a file, nobody else's
        return torch.from_numpy(voxels[None])
    result = np.full((1, *size), fill, voxels.dtype)
    result[0][tuple(target)] = voxels
    return torch.from_numpy(result)
