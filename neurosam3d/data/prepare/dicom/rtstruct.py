"""RTSTRUCT files: closed planar contours, filled on the slices of an image.

A contour belongs to the slice nearest to it, if that is at most half a slice away; from half-way
between two slices it goes to the one of higher index. Where contours of several planes fall to
one slice, those of the nearest plane are filled. Slices between two contours stay empty, and what
lies outside the image is left out. Contours of one region on one slice are joined by the even-odd
rule, so a contour within a contour is a hole.

Shapes: D H W the axes of the image's grid; S its slices, U V the two axes within a slice.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurosam3d.data.prepare.dicom.masks import Box, check_overlap, empty_box
from neurosam3d.data.prepare.dicom.rasterize import fill_even_odd
from neurosam3d.data.prepare.problems import CaseError, Kind
from neurosam3d.volume import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_ONE_PLANE = 0.1  # slices; contours closer than this lie in one plane
_MAX_TILT = 0.5  # slices between the lowest and the highest point of a contour


def list_regions(dataset: "Dataset") -> dict[int, str]:
    """Return number -> name of the regions of interest."""
    regions = dataset.get("StructureSetROISequence") or ()
    return {int(region.ROINumber): str(region.get("ROIName", "")) for region in regions}


def fill_regions(
    dataset: "Dataset", grid: Grid, *, path: Path
) -> tuple[dict[int, Box], tuple[str, ...]]:
    """Fill the contours of every region.

    Args:
        dataset: The file.
        grid: The image's grid.
        path: The file's path, for messages.

    Returns:
        Number of the region -> its mask, empty for a region without contours; and notes on what
        was ignored.

    Raises:
        CaseError: If the file holds no contours, they cross the slices, or none lies on the grid.
    """
    if "ROIContourSequence" not in dataset:
        raise CaseError(f"{path} holds no contours", Kind.BAD_LABEL)
    names = list_regions(dataset)
    notes: list[str] = []
    contours = {}  # number -> contours, each (N, 3) in voxels
    for item in dataset.ROIContourSequence:
        number = int(item.ReferencedROINumber)
        contours[number] = _closed_contours(item, names.get(number, str(number)), notes)
    on_grid = {
        number: [_to_voxels(points, grid) for points in found] for number, found in contours.items()
    }
    every = [points for found in on_grid.values() for points in found]
    axis = _slice_axis(every)
    boxes = {}
    for number, name in names.items():
        found = on_grid.get(number, [])
        _check_flat(found, axis, name=name, path=path)
        slices = _by_slice(found, axis)
        inside = {at: slices[at] for at in slices if 0 <= at < grid.shape[axis]}
        if len(inside) < len(slices):
            notes.append(f"{name}: contours beyond the first or last slice of the image ignored")
        boxes[number] = _fill(inside, axis, grid)
    if every:
        check_overlap(boxes, path)
    return boxes, tuple(notes)


def _closed_contours(item: "Dataset", name: str, notes: list[str]) -> list[np.ndarray]:
    """Return the closed contours of a region, each (N, 3) in LPS millimetres."""
    closed, ignored = [], Counter[str]()
    for contour in item.get("ContourSequence") or ():
        points = _points(contour)
        kind = str(contour.get("ContourGeometricType", "CLOSED_PLANAR"))
        if kind not in _CLOSED:
            ignored[f"of type {kind}"] += 1
        elif len(points) < 3 or not np.isfinite(points).all():
            ignored["with fewer than 3 points"] += 1
        else:
            closed.append(points)
    for which, count in ignored.items():
        notes.append(f"{name}: {count} contour{'s' * (count > 1)} {which} ignored")
    return closed


def _points(contour: "Dataset") -> np.ndarray:
    """Return the points of a contour, (N, 3) in LPS millimetres."""
    # Taken as text, which is how a file holds them: pydicom makes an object of every number.
    data = contour.get_item("ContourData").value
    if isinstance(data, bytes):
        data = [text for text in data.strip(b"\0 ").split(b"\\") if text]
    return np.array(data or (), dtype=np.float64).reshape(-1, 3)


def _to_voxels(points: np.ndarray, grid: Grid) -> np.ndarray:
    """Bring points (N, 3) from LPS millimetres to voxel indices."""
    inverse = np.linalg.inv(grid.affine)
    index = (points * _LPS_TO_RAS) @ inverse[:3, :3].T + inverse[:3, 3]
    return np.round(index, 6)  # a corner on a voxel's centre must not be off by a float's last bit


def _slice_axis(contours: Sequence[np.ndarray]) -> int:
    """Return the axis of the grid along which the contours are flat; W if there are none."""
    if not contours:
        return 2
    return int(np.sum([np.ptp(points, axis=0) for points in contours], axis=0).argmin())


def _check_flat(contours: Sequence[np.ndarray], axis: int, *, name: str, path: Path) -> None:
    """Make sure that every contour of a region lies in a slice."""
    tilt = max((float(np.ptp(points[:, axis])) for points in contours), default=0.0)
    if tilt > _MAX_TILT:
        raise CaseError(
            f"contours lie in the slices of the image, one of {name} in {path} crosses {tilt:.1f}",
            Kind.BAD_LABEL,
        )


def _by_slice(contours: Sequence[np.ndarray], axis: int) -> Mapping[int, list[np.ndarray]]:
    """Group contours by the slice they belong to, as corners (N, 2) within it."""
    planes: dict[int, list[tuple[float, np.ndarray]]] = defaultdict(list)
    for points in contours:
        height = round(float(points[:, axis].mean()), 3)
        planes[int(np.floor(height + 0.5))].append((height, np.delete(points, axis, axis=1)))
    slices = {}
    for number, found in planes.items():
        nearest = min((height for height, _ in found), key=lambda height: abs(height - number))
        slices[number] = [p for height, p in found if abs(height - nearest) < _ONE_PLANE]
    return slices


def _fill(slices: Mapping[int, Sequence[np.ndarray]], axis: int, grid: Grid) -> Box:
    """Fill the contours of one region, given by the slices of the grid that they lie on."""
    if not slices:
        return empty_box()
    plane = np.delete(grid.shape, axis)  # (U, V)
    corners = np.concatenate([points for found in slices.values() for points in found])
    low = np.clip(np.floor(corners.min(axis=0)), 0, plane).astype(int)
    high = np.clip(np.floor(corners.max(axis=0)) + 1, low, plane).astype(int)
    first = min(slices)
    num_u, num_v = (high - low).tolist()
    voxels = np.zeros((max(slices) - first + 1, num_u, num_v), dtype=bool)  # (S, U, V)
    for number, found in slices.items():
        voxels[number - first] = fill_even_odd((points - low for points in found), (num_u, num_v))
    d, h, w = np.insert(low, axis, first).tolist()
    box = np.ascontiguousarray(np.moveaxis(voxels, 0, axis))  # (S, U, V) -> (D, H, W)
    return Box((d, h, w), torch.from_numpy(box))
