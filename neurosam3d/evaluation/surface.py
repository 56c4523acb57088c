"""Surfaces of binary masks: how large their pieces are and how far apart two of them lie.

The surface runs between voxels (arXiv:1809.04430). A cell is the cube between the centres of eight
neighbouring voxels; if some of the eight are foreground and some are not, the cell holds the piece
of surface that marching cubes puts there: polygons through the midpoints of the cube's edges that
join a foreground to a background voxel. Distances run between cells, pieces weigh by their area.

Shapes: D H W volume; n pieces of surface.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

Spacing = tuple[float, float, float]
_Point = tuple[float, ...]

# Corner i of a cell lies at these offsets; bit i of a cell's code says whether it is foreground.
_CORNERS = [(i >> 2 & 1, i >> 1 & 1, i & 1) for i in range(8)]
_UNCUT = (0, 255)  # codes of cells without surface


@dataclass(frozen=True)
class SurfaceDistances:
    """The pieces of one surface, ordered by their distance to another one.

    Args:
        distances_mm: Distance (n,) of each piece to the nearest piece of the other surface.
        areas_mm2: Area (n,) of each piece.
    """

    distances_mm: np.ndarray
    areas_mm2: np.ndarray

    def area_within(self, tolerance_mm: float) -> float:
        """Sum the area that lies no farther away than the tolerance, in mm^2."""
        return float(self.areas_mm2[self.distances_mm <= tolerance_mm].sum())

    def percentile_mm(self, percent: float) -> float:
        """Return the distance that this percentage of the area does not exceed."""
        share = np.cumsum(self.areas_mm2) / self.areas_mm2.sum()
        reached = np.searchsorted(share, percent / 100)
        return float(self.distances_mm[min(int(reached), len(share) - 1)])


def measure_surfaces(
    first: np.ndarray, second: np.ndarray, *, spacing: Spacing
) -> tuple[SurfaceDistances, SurfaceDistances]:
    """Measure the surface of each mask against the other one's.

    Args:
        first: Boolean mask (D, H, W) with at least one voxel.
        second: Likewise, of the same shape.
        spacing: Voxel side in mm along each axis.

    Returns:
        The first surface as seen from the second, and the second as seen from the first.
    """
    box = ndimage.find_objects((first | second).view(np.uint8))[0]
    first_codes, second_codes = _cell_codes(first[box]), _cell_codes(second[box])
    return (
        _distances(first_codes, second_codes, spacing),
        _distances(second_codes, first_codes, spacing),
    )


def _cell_codes(mask: np.ndarray) -> np.ndarray:
    """Encode the eight corners of every cell of a mask and its rim, (D + 1, H + 1, W + 1)."""
    padded = np.pad(mask, 1).view(np.uint8)  # (D + 2, H + 2, W + 2)
    D, H, W = (side - 1 for side in padded.shape)
    codes = np.zeros((D, H, W), np.uint8)
    for bit, (d, h, w) in enumerate(_CORNERS):
        codes |= padded[d : d + D, h : h + H, w : w + W] << np.uint8(bit)
    return codes


def _distances(codes: np.ndarray, other: np.ndarray, spacing: Spacing) -> SurfaceDistances:
    cut = ~np.isin(codes, _UNCUT)
    # Double precision: a distance equal to the tolerance has to compare as equal.
    to_other = ndimage.distance_transform_edt(np.isin(other, _UNCUT), sampling=spacing)
    distances = to_other[cut]
    order = np.argsort(distances, kind="stable")
    return SurfaceDistances(distances[order], _cell_areas(spacing)[codes[cut]][order])


def _cell_areas(spacing: Spacing) -> np.ndarray:
    """Return the surface area in mm^2 (256,) inside a cell of each code."""
    d, h, w = spacing
    normals = _unit_cell_normals() * (h * w, d * w, d * h)  # (256, triangles, 3)
    return np.linalg.norm(normals, axis=2).sum(axis=1)


@lru_cache(maxsize=1)
def _unit_cell_normals() -> np.ndarray:
    """Return the area vectors (256, triangles, 3) of each code's triangles, padded with zeros."""
    triangles = [
        np.concatenate([np.zeros((0, 3)), *map(_triangle_normals, _surface_polygons(code))])
        for code in range(256)
    ]
    normals = np.zeros((256, max(map(len, triangles)), 3))
    for code, rows in enumerate(triangles):
        normals[code, : len(rows)] = rows
    return normals


def _surface_polygons(code: int) -> list[np.ndarray]:
    """Trace the surface through a unit cell as closed polygons (points, 3).

    On every face the boundary of each run of foreground corners crosses from one edge to another;
    following these crossings from face to face closes the polygons. Foreground corners that are
    diagonal on a face stay apart; in a cell with mostly foreground the background ones do.
    """
    if code.bit_count() > 4:
        code ^= 255
    following: dict[_Point, _Point] = {}
    for face in _faces():
        inside = [bool(code >> corner & 1) for corner in face]
        for start in range(4):
            if inside[start] and not inside[start - 1]:
                end = start
                while inside[(end + 1) % 4]:
                    end += 1
                enter = _midpoint(face[start - 1], face[start])
                following[enter] = _midpoint(face[end % 4], face[(end + 1) % 4])
    polygons = []
    while following:
        first, point = following.popitem()
        polygon = [first]
        while point != first:
            polygon.append(point)
            point = following.pop(point)
        polygons.append(np.array(polygon))
    return polygons


def _faces() -> list[list[int]]:
    """List each face's corners in circular order, the same way round as seen from outside."""
    faces = []
    for axis in range(3):
        for side in (0, 1):
            square = [(0, 0), (1, 0), (1, 1), (0, 1)]
            corners = [np.roll((side, *offsets), axis).tolist() for offsets in square]
            faces.append([_CORNERS.index(tuple(c)) for c in (corners if side else corners[::-1])])
    return faces


def _midpoint(corner: int, other: int) -> _Point:
    return tuple((a + b) / 2 for a, b in zip(_CORNERS[corner], _CORNERS[other], strict=True))


def _triangle_normals(polygon: np.ndarray) -> np.ndarray:
    """Split a polygon into a fan of triangles; return their area vectors (triangles, 3).

    Where the polygon is not flat the fan decides the area; the largest one is taken, as the
    reference implementation of the metrics does.
    """
    fans = []
    for hub in range(len(polygon)):
        spokes = np.delete(np.roll(polygon, -hub, axis=0), 0, axis=0) - polygon[hub]
        fans.append(np.cross(spokes[:-1], spokes[1:]) / 2)
    return max(fans, key=lambda normals: np.linalg.norm(normals, axis=1).sum())
