"""How much surface a cell holds, for every pattern of its eight corners.

It is the piece that marching cubes puts there: polygons through the midpoints of the cube's edges
that join a foreground to a background voxel (arXiv:1809.04430).
"""

from functools import lru_cache

import numpy as np

from neurosam3d.evaluation.nearest import Spacing

_Point = tuple[float, ...]

# Corner i of a cell lies at these offsets; bit i of a cell's code says whether it is foreground.
_CORNERS = [(i >> 2 & 1, i >> 1 & 1, i & 1) for i in range(8)]


def cell_areas(spacing: Spacing) -> np.ndarray:
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
