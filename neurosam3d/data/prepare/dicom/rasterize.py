"""Fill polygons on a grid of pixels by the even-odd rule.

Every edge switches all pixels beyond it from outside to inside or back, so one running sum fills
any number of polygons at once. That takes time in the length of the outlines, not in area times
corners as asking each pixel for each polygon does (matplotlib's Path), and what lies on an edge
is settled: the lower edge of an interval belongs to the polygon, the upper does not, so polygons
that share an edge share no pixel.

Shapes: U V the axes of the pixels.
"""

from collections.abc import Iterable

import numpy as np


def fill_even_odd(polygons: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Mark the pixels whose centres lie inside an odd number of polygons.

    Args:
        polygons: (N, 2) corners in pixels; centres have whole-number coordinates. The last corner
            is joined to the first.
        shape: Number of pixels along U and V.

    Returns:
        (U, V) boolean.
    """
    num_u, num_v = shape
    switches = np.zeros((num_u + 1, num_v), dtype=np.int32)
    for points in polygons:
        u, v = points.T
        u_next, v_next = np.roll(u, -1), np.roll(v, -1)
        low = np.clip(np.ceil(np.minimum(v, v_next)), 0, num_v).astype(int)
        high = np.clip(np.ceil(np.maximum(v, v_next)), 0, num_v).astype(int)
        count = high - low  # lines of pixels that an edge crosses
        edge = np.repeat(np.arange(len(points)), count)
        line = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + low[edge]
        share = (line - v[edge]) / (v_next - v)[edge]
        crossing = u[edge] + share * (u_next - u)[edge]
        first = np.clip(np.ceil(crossing), 0, num_u).astype(int)  # first pixel beyond the edge
        np.add.at(switches, (first, line), 1)
    return switches[:-1].cumsum(axis=0) % 2 == 1
