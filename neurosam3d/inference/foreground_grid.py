"""Where an automatic generator asks: overlapping windows over the body, a grid of points in each.

Shapes: D H W voxels of the scan along the axes nearest to R, A and S; N points.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from neurosam3d.inference.sparse_mask import bounding_slices
from neurosam3d.inference.windows import Window
from neurosam3d.volume import Triple

_BODY_STEP_MM = 4.0  # the body's outline is found on voxels of about this size
_SMALLEST_PART = 0.01  # of the foreground; less is noise, a tube or a wire
_AIR_LEVEL = 0.1


@dataclass(frozen=True, eq=False)
class PromptWindow:
    """A window and the points that are asked in it.

    Args:
        window: Where it lies.
        points: Voxel indices (N, 3) of the scan, the last axis fastest.
    """

    window: Window
    points: np.ndarray


def find_body(scan: np.ndarray, *, spacing: Sequence[float]) -> np.ndarray:
    """Tell the body from the air around it; lungs, bowel and bone inside belong to it.

    What is brighter than air is divided into its parts, tiny ones are dropped, and every slice
    along every axis is filled, so that lungs count even where the scan cuts them open.

    Args:
        scan: Intensities (D, H, W).
        spacing: Voxel size in mm.

    Returns:
        Boolean (D, H, W); all true where the scan has one value only.
    """
    steps = [max(1, int(_BODY_STEP_MM / side)) for side in spacing]
    coarse = scan[tuple(slice((step - 1) // 2, None, step) for step in steps)]
    bright = coarse >= _brighter_than_air(coarse)
    labels = cc3d.connected_components(bright, connectivity=26)
    sizes = np.bincount(labels.ravel())
    keep = sizes >= _SMALLEST_PART * np.count_nonzero(bright)
    keep[0] = False
    body = keep[labels]
    for axis in range(3):
        for plane in np.moveaxis(body, axis, 0):
            plane |= ndimage.binary_fill_holes(plane)
    for axis, (step, side) in enumerate(zip(steps, scan.shape, strict=True)):
        nearest = np.minimum(np.arange(side) // step, body.shape[axis] - 1)
        body = body.take(nearest, axis)
    return body


def _brighter_than_air(values: np.ndarray) -> float:
    """Return the intensity a tenth of the way up from the darkest, at most from 0.

    So low that in a field of view without any air almost everything lies above it; a threshold
    between the two largest groups (Otsu's) would there divide fat from muscle. The lowest value
    itself is left out, because scanners and programs pad with it.
    """
    scanned = values[values > values.min()]
    if not len(scanned):
        return float(values.min())
    dark, bright = np.percentile(scanned, (0.5, 99.5)).tolist()
    dark = min(dark, 0.0)  # where MR has its air, in the field of view or not
    return dark + _AIR_LEVEL * (bright - dark)


def plan_prompts(
    body: np.ndarray,
    *,
    roi_size: Triple,
    points_per_side: int,
    overlap: float,
) -> list[PromptWindow]:
    """Lay windows over the body's box and a grid of points over each window's share of it.

    A place is asked about in the window whose middle is nearest, where an object around it has most
    room, and in no other. Points are the centres of equal cells, as in SAM's generator, of those
    cells whose centre lies in the body.

    Args:
        body: Boolean (D, H, W).
        roi_size: Voxels of a window along D, H, W.
        points_per_side: Points along each side of a whole window.
        overlap: Share of a window that its neighbour covers too, at least.

    Returns:
        The windows that have any points, the last axis fastest.
    """
    box = bounding_slices(body)
    axes = [
        _lay_windows(along.start, along.stop, scan_side, side, overlap)
        for along, scan_side, side in zip(box, body.shape, roi_size, strict=True)
    ]
    pitch = np.divide(roi_size, points_per_side)
    planned = []
    for d, h, w in itertools.product(*axes):
        share = np.array([(low, high) for _, low, high in (d, h, w)]).T  # (2, 3)
        counts = np.maximum((np.diff(share, axis=0)[0] / pitch + 0.5).astype(int), 1)
        points = cell_centres(share, counts).astype(int)
        points = points[body[tuple(points.T)]]
        if len(points):
            planned.append(PromptWindow(Window((d[0], h[0], w[0]), roi_size), points))
    return planned


def cell_centres(box: np.ndarray, counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Divide a box into equal cells and return their centres.

    Args:
        box: Where it begins and ends, (2, n); a voxel of index i covers i to i + 1.
        counts: Cells along each of the n axes.

    Returns:
        (N, n), the last axis fastest.
    """
    along = [
        low + (np.arange(count) + 0.5) * (high - low) / count
        for low, high, count in zip(*box, counts, strict=True)
    ]
    return np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, len(along))


def _lay_windows(
    low: int, high: int, scan_side: int, side: int, overlap: float
) -> list[tuple[int, float, float]]:
    """Cover `low` to `high` along one axis; return each window's start and share (from, to)."""
    if scan_side <= side:  # centred on the scan and padded
        starts = [scan_side // 2 - side // 2]
    elif high - low <= side:  # centred on the body, but inside the scan
        starts = [min(max((low + high - side) // 2, 0), scan_side - side)]
    else:
        stride = max(1, int(side * (1 - overlap)))
        count = math.ceil((high - low - side) / stride) + 1
        starts = np.rint(np.linspace(low, high - side, count)).astype(int).tolist()
    borders = [(a + b + side) / 2 for a, b in itertools.pairwise(starts)]
    return list(zip(starts, [low, *borders], [*borders, high], strict=True))
