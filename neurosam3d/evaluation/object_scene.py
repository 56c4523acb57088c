"""What a picture shows of some objects of a scan, in anatomical axes: which slices, which part.

Shapes: D H W volume, n points; canonical axes run to the Right, Anterior and Superior.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neurosam3d.volume import Grid, Volume, restore, to_canonical

MARGIN_MM = 40.0  # least surroundings shown around an object


@dataclass(frozen=True, eq=False)
class ObjectScene:
    """A part of a scan and its label map, in canonical axes.

    Args:
        image: Intensities (D, H, W).
        values: Label map (D, H, W).
        spacing: Voxel side in mm along each axis (3,).
        slices: Voxel at which each axis is cut (3,).
        to_scene: (4, 4) matrix from voxel indices of the scan to those of this part.
    """

    image: np.ndarray
    values: np.ndarray
    spacing: np.ndarray
    slices: np.ndarray
    to_scene: np.ndarray

    @property
    def extent_mm(self) -> np.ndarray:
        """Sides of the part (3,)."""
        return np.array(self.image.shape) * self.spacing

    def place(self, points: np.ndarray) -> np.ndarray:
        """Move voxel indices (n, 3) of the scan to this part's."""
        return points @ self.to_scene[:3, :3].T + self.to_scene[:3, 3]


Boxes = Sequence[tuple[slice, ...] | None]
"""Where the objects of a label map lie, as `scipy.ndimage.find_objects` returns it."""


def arrange_objects(
    image: Volume, values: np.ndarray, *, boxes: Boxes, wanted: Sequence[int], marks: np.ndarray
) -> ObjectScene:
    """Cut objects with their surroundings out of a scan, and choose the slices that show them best.

    Each object counts by how much of its own largest slice is seen. Where there is no foreground,
    the slices go through the middle of the marks, else of the scan.

    Args:
        image: The scan, (1, D, H, W).
        values: Its label map (D, H, W).
        boxes: Where each object lies.
        wanted: The values of the objects.
        marks: Voxel indices (n, 3) that must be seen, too.
    """
    present = {
        value: box
        for value, box in enumerate(boxes, start=1)
        if value in wanted and box is not None
    }
    start, shape = _surroundings(image.grid, present.values(), marks)
    part = restore(image, image.grid.window(start, shape))
    inside = tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))
    numbers = torch.from_numpy(values[inside].astype(np.float32))[None]  # (1, D, H, W)
    part = to_canonical(Volume(torch.cat([part.data.float(), numbers]), part.affine))
    intensities, labels = part.data.numpy()
    to_scene = np.linalg.inv(part.affine) @ image.affine
    if present:
        voxel = _best_slices(values, present)
    else:
        voxel = marks.mean(axis=0) if len(marks) else np.subtract(image.shape, 1) / 2
    slices = np.rint(to_scene[:3, :3] @ voxel + to_scene[:3, 3]).astype(int)
    return ObjectScene(
        intensities,
        labels.astype(values.dtype),
        np.array(part.spacing),
        slices.clip(0, np.subtract(labels.shape, 1)),
        to_scene,
    )


def _surroundings(
    grid: Grid, boxes: Collection[tuple[slice, ...]], marks: np.ndarray
) -> tuple[list[int], list[int]]:
    """Return the first voxel and the sides of what to show."""
    corners = [np.transpose([(side.start, side.stop - 1) for side in box]) for box in boxes]
    points = np.concatenate([marks, *corners])  # (n, 3)
    if not len(points):
        return [0, 0, 0], list(grid.shape)
    end = np.subtract(grid.shape, 1)
    lowest, highest = points.min(axis=0), points.max(axis=0)
    margin = np.maximum(MARGIN_MM / np.array(grid.spacing), (highest - lowest + 1) / 2)
    first = np.floor(lowest - margin).clip(0, end).astype(int)
    last = np.ceil(highest + margin).clip(0, end).astype(int)
    return first.tolist(), (last - first + 1).tolist()


def _best_slices(values: np.ndarray, boxes: Mapping[int, tuple[slice, ...]]) -> np.ndarray:
    """Find along each axis the slice that shows the objects best."""
    scores = [np.zeros(size) for size in values.shape]
    for value, box in boxes.items():
        mask = values[box] == value
        for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
            areas = mask.sum(axis=others)
            scores[axis][box[axis]] += areas / areas.max()
    return np.array([score.argmax() for score in scores])
