"""Surfaces of binary masks: where their pieces lie, how large they are, how far apart two lie.

The surface runs between voxels (arXiv:1809.04430). A cell is the cube between the centres of eight
neighbouring voxels; if some of the eight are foreground and some are not, the cell holds a piece of
surface. Distances run between cells, pieces weigh by their area.

Shapes: D H W volume; n pieces of surface.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from neurosam3d.evaluation.foreground_box import (
    ForegroundBox,
    MaskPair,
    iterate_planes,
    storage_order,
)
from neurosam3d.evaluation.nearest import Spacing, nearest_distances
from neurosam3d.evaluation.surface_area import cell_areas

FEW_VOXELS = 100_000  # measured in less time than threads take to start


@dataclass(frozen=True)
class Surface:
    """The pieces of one surface.

    Args:
        cells: Index (n, 3) of each piece's cell: of the highest of its eight voxels.
        areas_mm2: Area (n,) of each piece.
    """

    cells: np.ndarray
    areas_mm2: np.ndarray


@dataclass(frozen=True)
class SurfaceDistances:
    """The pieces of one surface, ordered by their distance to another one, then by area.

    Args:
        distances_mm: Distance (n,) of each piece to the nearest piece of the other surface.
        areas_mm2: Area (n,) of each piece.
    """

    distances_mm: np.ndarray
    areas_mm2: np.ndarray

    @property
    def area_mm2(self) -> float:
        """Area of the whole surface."""
        return float(self.areas_mm2.sum())

    def area_within(self, tolerance_mm: float) -> float:
        """Sum the area that lies no farther away than the tolerance, in mm^2."""
        return float(self.areas_mm2[self.distances_mm <= tolerance_mm].sum())

    def integral_mm3(self) -> float:
        """Sum distance times area over the surface, in mm^3."""
        return float(self.distances_mm @ self.areas_mm2)

    def percentile_mm(self, percent: float) -> float:
        """Return the distance that this percentage of the area does not exceed."""
        share = np.cumsum(self.areas_mm2) / self.areas_mm2.sum()
        reached = np.searchsorted(share, percent / 100)
        return float(self.distances_mm[min(int(reached), len(share) - 1)])


def measure_surfaces(
    masks: MaskPair, *, spacing: Spacing
) -> tuple[SurfaceDistances, SurfaceDistances]:
    """Measure the surface of each mask against the other one's.

    Args:
        masks: Two masks with at least one voxel each.
        spacing: Voxel side in mm along each axis.

    Returns:
        The prediction's surface as seen from the truth's, and the truth's from the prediction's.
    """
    boxes = (masks.prediction, masks.truth)
    find = partial(find_surface, spacing=spacing)
    measure = partial(_measure, spacing=spacing)
    if max(box.voxels.size for box in boxes) < FEW_VOXELS:
        first, second = map(find, boxes)
        return measure(first, second), measure(second, first)
    with ThreadPoolExecutor(max_workers=2) as pool:
        first, second = pool.map(find, boxes)
        prediction, truth = pool.map(measure, (first, second), (second, first))
    return prediction, truth


def find_surface(box: ForegroundBox, *, spacing: Spacing) -> Surface:
    """Find the cells that the surface of a mask runs through.

    Args:
        box: The mask's foreground, at least one voxel.
        spacing: Voxel side in mm along each axis.
    """
    order = storage_order(box.voxels)
    cells, codes = _cut_cells(box.voxels.transpose(order))
    d, h, w = (spacing[axis] for axis in order)
    return Surface(cells[:, np.argsort(order)] + box.corner, cell_areas((d, h, w))[codes])


def _cut_cells(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the cells that hold surface: index (n, 3) and the code (n,) of their corners.

    Corner i of a cell lies at the offsets that the bits of i tell; bit i of a code says whether it
    is foreground. One voxel of background is assumed around the mask.
    """
    _, H, W = mask.shape
    padded = np.zeros((H + 2, W + 2), np.uint8)
    below = np.zeros((H + 1, W + 1), np.uint8)  # the lower four corners' bits
    indices, codes = [], []
    for d, plane in enumerate((*iterate_planes(mask), np.zeros((H, W), bool))):
        padded[1:-1, 1:-1] = plane
        edges = padded[:, :-1] | padded[:, 1:] << 1  # (H + 2, W + 1)
        above = edges[:-1] | edges[1:] << 2  # (H + 1, W + 1)
        code = (below | above << 4).ravel()
        below = above
        cut = np.flatnonzero(code + np.uint8(1) > 1)  # neither 0 nor 255, which wraps to 0
        indices.append(cut + d * len(code))
        codes.append(code[cut])
    shape = (len(indices), H + 1, W + 1)
    cells = np.unravel_index(np.concatenate(indices), shape)
    return np.stack(cells, axis=1), np.concatenate(codes)


def _measure(surface: Surface, other: Surface, *, spacing: Spacing) -> SurfaceDistances:
    distances_mm = nearest_distances(surface.cells, other.cells, spacing=spacing)
    order = np.lexsort((surface.areas_mm2, distances_mm))
    return SurfaceDistances(distances_mm[order], surface.areas_mm2[order])
