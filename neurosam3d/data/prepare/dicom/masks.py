"""Masks that may overlap, kept as the boxes that hold them and put on the grid when asked for.

A hundred organs of a whole body would fill the memory as whole masks.

Shapes: D H W the axes of the image's grid.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosam3d.data.prepare.problems import CaseError, Kind
from neurosam3d.volume import Grid, Triple, Volume, restore


@dataclass(frozen=True, eq=False)
class Box:
    """Part of a mask; around it there is background.

    Args:
        start: Index of its first voxel on the grid.
        voxels: (d, h, w) boolean, maybe without a voxel.
    """

    start: Triple
    voxels: Tensor


class Masks(Mapping[int, Tensor]):
    """Number of a segment -> mask, (1, D, H, W) boolean, made at every access.

    Args:
        boxes: Number -> box that holds the foreground, inside the grid.
        shape: Shape of the grid.
    """

    def __init__(self, boxes: Mapping[int, Box], shape: Triple) -> None:
        self._boxes = dict(boxes)
        self._shape = shape

    def __getitem__(self, number: int) -> Tensor:
        box = self._boxes[number]
        mask = torch.zeros((1, *self._shape), dtype=torch.bool)
        d, h, w = box.start
        num_d, num_h, num_w = box.voxels.shape
        mask[0, d : d + num_d, h : h + num_h, w : w + num_w] = box.voxels
        return mask

    def __iter__(self) -> Iterator[int]:
        return iter(self._boxes)

    def __len__(self) -> int:
        return len(self._boxes)


def empty_box() -> Box:
    """Return the box of a mask without foreground."""
    return Box((0, 0, 0), torch.zeros((0, 0, 0), dtype=torch.bool))


def check_overlap(boxes: Mapping[int, Box], path: Path) -> None:
    """Make sure that of a label file with foreground some may lie on the grid.

    Raises:
        CaseError: If not.
    """
    if not any(box.voxels.numel() for box in boxes.values()):
        raise CaseError(f"{path} does not overlap its image", Kind.NO_OVERLAP)


def put_on_grid(mask: np.ndarray, affine: np.ndarray, grid: Grid) -> Box:
    """Bring the foreground of a mask onto another grid, by the nearest voxel.

    Args:
        mask: (i, j, k) boolean.
        affine: Index in `mask` to RAS+ millimetres.
        grid: The grid of the result.
    """
    if not mask.any():
        return empty_box()
    low, high = zip(*(_extent(mask, axis) for axis in range(3)), strict=True)
    inner = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    source = Grid(mask.shape, affine).window(low, inner.shape)
    # The foreground ends half a voxel beyond the outermost centres.
    ends = np.stack([np.full(3, -0.5), np.array(inner.shape) - 0.5])
    corners = np.array([(ends[a, 0], ends[b, 1], ends[c, 2], 1) for a, b, c in np.ndindex(2, 2, 2)])
    index = (np.linalg.inv(grid.affine) @ source.affine @ corners.T)[:3]  # (3, 8)
    start = np.clip(np.floor(index.min(axis=1)).astype(int), 0, grid.shape)
    stop = np.clip(np.ceil(index.max(axis=1)).astype(int) + 1, 0, grid.shape)
    if (stop <= start).any():
        return empty_box()
    data = torch.from_numpy(np.ascontiguousarray(inner, dtype=np.uint8))[None]
    window = grid.window(start.tolist(), (stop - start).tolist())
    placed = restore(Volume(data, source.affine), window, mode="nearest")
    d, h, w = start.tolist()
    return Box((d, h, w), placed.data[0] > 0)


def _extent(mask: np.ndarray, axis: int) -> tuple[int, int]:
    """Return the first index along an axis with foreground, and the one after the last."""
    others = tuple(other for other in range(3) if other != axis)
    found = np.flatnonzero(mask.any(axis=others))
    return int(found[0]), int(found[-1]) + 1
