"""What an automatic generator keeps of the masks that a grid of prompts gave.

The rules are those of SAM's generator (arXiv:2304.02643, appendix B) for any number n of spatial
axes, so that slices and volumes share them. Boxes are (B, 2, n): the lowest and the highest voxel
along each axis, both included.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neurosam3d.inference.sparse_mask import SparseMask, covered_share, mask_iou


def stability_scores(logits: Tensor, *, offset: float, threshold: float = 0.0) -> Tensor:
    """Measure how little each mask changes when its threshold is moved.

    Args:
        logits: One map per mask, (B, *axes).
        offset: By how much the threshold is raised and lowered.
        threshold: Logits above it are foreground.

    Returns:
        (B,): the size above the raised threshold divided by that above the lowered one. Nothing
        above either gives NaN, which no filter lets through.
    """
    return count_voxels(logits > threshold + offset) / count_voxels(logits > threshold - offset)


def count_voxels(masks: Tensor) -> Tensor:
    """Count the foreground of each mask, boolean (B, *axes); returns (B,), int64."""
    if masks.device.type == "cpu":  # where NumPy takes a hundredth of the time of a sum
        return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()])
    return masks.flatten(1).sum(1, dtype=torch.int64)


def tight_boxes(masks: Tensor) -> Tensor:
    """Find the box around each mask.

    Args:
        masks: Boolean (B, *axes).

    Returns:
        Corners (B, 2, n), int64; of an empty mask zeros.
    """
    axes = range(1, masks.ndim)
    extents = []
    for axis in axes:
        other = [a for a in axes if a != axis]
        occupied = (masks.any(dim=other) if other else masks).int()  # (B, side)
        last = occupied.shape[1] - 1 - occupied.flip(1).argmax(1)
        extents.append(torch.stack([occupied.argmax(1), last], dim=1))
    found = masks.flatten(1).any(1)
    return torch.stack(extents, dim=2) * found[:, None, None]  # (B, 2, n)


def end_at_window(
    boxes: np.ndarray,
    window: np.ndarray,
    scan: np.ndarray,
    *,
    tolerance: float | np.ndarray,
) -> np.ndarray:
    """Tell which boxes end where their window ends, but not the scan: their objects may go on.

    Args:
        boxes: (B, 2, n).
        window: Corners (2, n) of the window.
        scan: Corners (2, n) of the whole scan, in the same coordinates.
        tolerance: A face this near, in voxels (one number or one per axis), is reached.

    Returns:
        Boolean (B,).
    """
    at_window = np.abs(boxes - window) <= tolerance
    at_scan = np.abs(boxes - scan) <= tolerance
    return (at_window & ~at_scan).any(axis=(1, 2))


def box_ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Compare one box (2, n) with others (B, 2, n): voxels in both divided by voxels in either."""
    low = np.maximum(box[0], boxes[:, 0])
    high = np.minimum(box[1], boxes[:, 1])
    shared = np.clip(high - low + 1, 0, None).prod(axis=1, dtype=np.float64)
    sizes = (boxes[:, 1] - boxes[:, 0] + 1).prod(axis=1, dtype=np.float64)
    return shared / ((box[1] - box[0] + 1).prod(dtype=np.float64) + sizes - shared)


def suppress_boxes(boxes: np.ndarray, scores: np.ndarray, *, threshold: float) -> list[int]:
    """Drop every box that overlaps too much with a better one that is kept.

    Args:
        boxes: (B, 2, n).
        scores: (B,), the higher the better; of equals the first is better.
        threshold: Largest allowed IoU of two boxes.

    Returns:
        Positions of the boxes that are kept, the best first.
    """
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[box_ious(boxes[best], boxes[order]) <= threshold]
    return kept


def suppress_masks(
    masks: Sequence[SparseMask],
    scores: np.ndarray,
    *,
    threshold: float,
    containment: float | None = None,
) -> list[int]:
    """Drop every mask that overlaps too much with a better one that is kept.

    Args:
        masks: The masks, (B,) of them.
        scores: (B,), the higher the better; of equals the first is better.
        threshold: Largest allowed IoU of two masks.
        containment: Largest allowed share of a mask inside a better one; None allows all.

    Returns:
        Positions of the masks that are kept, the best first.
    """
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        mask = masks[index]
        is_double = any(
            mask_iou(mask, masks[other], at_least=threshold) > threshold for other in kept
        )
        is_part = containment is not None and any(
            covered_share(mask, masks[other]) > containment for other in kept
        )
        if not is_double and not is_part:
            kept.append(index)
    return kept
