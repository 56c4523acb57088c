"""Exact distances from the points of a grid to the nearest of other points.

Distances are square roots of sums of squared whole steps times the spacing, in double precision, as
a double-precision distance transform computes them: one that equals a tolerance compares as equal.

Shapes: n, m points.
"""

import numpy as np
from scipy.spatial import cKDTree

Spacing = tuple[float, float, float]

REACH = 2  # points less than one voxel more than this away are found by looking around
FEW_POINTS = 10_000  # searched in less time than threads take to start


def nearest_distances(points: np.ndarray, others: np.ndarray, *, spacing: Spacing) -> np.ndarray:
    """Measure how far every point lies from the nearest of the others.

    Points that have one close by, most of two similar surfaces, are served by looking at the voxels
    around them, nearest first; a k-d tree finds the rest in as many threads as there are cores.
    Time and memory are those of the points; the box around them costs a byte per voxel at most.

    Args:
        points: Voxel indices (n, 3).
        others: Voxel indices (m, 3), at least one.
        spacing: Voxel side in mm along each axis.

    Returns:
        Distances (n,) in mm.
    """
    lowest = np.minimum(points.min(0), others.min(0)) - REACH
    D, H, W = np.maximum(points.max(0), others.max(0)) + REACH + 1 - lowest
    strides = np.array([H * W, W, 1])
    is_other = np.zeros(D * H * W, bool)
    is_other[(others - lowest) @ strides] = True
    distances, left = np.zeros(len(points)), np.arange(len(points))
    indices = (points - lowest) @ strides
    offsets, lengths = _nearest_offsets(spacing)
    for step, length in zip((offsets @ strides).tolist(), lengths.tolist(), strict=True):
        found = is_other.take(indices + step)
        if found.any():
            distances[left[found]] = length
            left, indices = left[~found], indices[~found]
    if len(left):
        distances[left] = _search(points[left], others, spacing)
    return distances


def _nearest_offsets(spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps (k, 3) to all voxels nearer than any beyond the reach, nearest first, and
    their lengths (k,) in mm.
    """
    offsets = np.indices((2 * REACH + 1,) * 3).reshape(3, -1).T - REACH
    lengths = _lengths(offsets, spacing)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] < (REACH + 1) * min(spacing)]
    return offsets[order], lengths[order]


def _search(points: np.ndarray, others: np.ndarray, spacing: Spacing) -> np.ndarray:
    # Built in a third of the time, this tree is no slower to search where points are dense, and
    # twice as fast where all are far away.
    tree = cKDTree(others * spacing, leafsize=64, balanced_tree=False, compact_nodes=False)
    threads = -1 if len(points) > FEW_POINTS else 1  # -1: as many as there are cores
    _, nearest = tree.query(points * spacing, workers=threads)
    return _lengths(points - others[nearest], spacing)


def _lengths(steps: np.ndarray, spacing: Spacing) -> np.ndarray:
    return np.sqrt(((steps * spacing) ** 2).sum(1))
