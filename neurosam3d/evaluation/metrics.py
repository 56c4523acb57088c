"""Overlap and surface agreement of two masks.

If both masks are empty they agree fully (Dice 1, surface Dice 1, Hausdorff distance 0); if only one
is, not at all (0, 0, infinite).

Shapes: B batch, D H W volume.
"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from neurosam3d.evaluation.surface import Spacing, measure_surfaces

UNIT_SPACING: Spacing = (1.0, 1.0, 1.0)


def dice(
    prediction: ArrayLike | Tensor,
    truth: ArrayLike | Tensor,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
) -> float:
    """Compute twice the intersection over the sum of the volumes, in 0..1.

    Args:
        prediction: Boolean mask (D, H, W); of other number types, what is positive counts.
        truth: Reference mask of the same shape.
        spacing: Not needed; every metric takes the same arguments.
        tolerance_mm: Not needed.

    Raises:
        ValueError: If the masks are not volumes of one shape.
    """
    prediction, truth = _as_masks(prediction, truth)
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(prediction & truth) / total if total else 1.0


def surface_dice(
    prediction: ArrayLike | Tensor,
    truth: ArrayLike | Tensor,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
) -> float:
    """Compute the share of both surfaces that lies within the tolerance of the other, in 0..1.

    Also called normalised surface distance, NSD (arXiv:1809.04430).

    Args:
        prediction: Boolean mask (D, H, W); of other number types, what is positive counts.
        truth: Reference mask of the same shape.
        spacing: Voxel side in mm along each axis.
        tolerance_mm: Distance up to which a piece of surface counts as right.

    Raises:
        ValueError: If the masks are not volumes of one shape or spacing or tolerance is negative.
    """
    return surface_scores(prediction, truth, spacing=spacing, tolerance_mm=tolerance_mm)[0]


def hausdorff95(
    prediction: ArrayLike | Tensor,
    truth: ArrayLike | Tensor,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
) -> float:
    """Compute the distance in mm that 95 % of either surface's area does not exceed.

    Args:
        prediction: Boolean mask (D, H, W); of other number types, what is positive counts.
        truth: Reference mask of the same shape.
        spacing: Voxel side in mm along each axis.
        tolerance_mm: Not needed; every metric takes the same arguments.

    Raises:
        ValueError: If the masks are not volumes of one shape or the spacing is not positive.
    """
    return surface_scores(prediction, truth, spacing=spacing)[1]


def surface_scores(
    prediction: ArrayLike | Tensor,
    truth: ArrayLike | Tensor,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
) -> tuple[float, float]:
    """Compute surface Dice and the 95 % Hausdorff distance from one measurement.

    Args:
        prediction: Boolean mask (D, H, W); of other number types, what is positive counts.
        truth: Reference mask of the same shape.
        spacing: Voxel side in mm along each axis.
        tolerance_mm: Distance up to which a piece of surface counts as right.

    Raises:
        ValueError: If the masks are not volumes of one shape or spacing or tolerance is negative.
    """
    if len(spacing) != 3 or not all(0 < side < math.inf for side in spacing):
        raise ValueError(f"spacing must be three positive lengths in mm, got {spacing}")
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm must be a length >= 0, got {tolerance_mm}")
    prediction, truth = _as_masks(prediction, truth)
    if not (prediction.any() and truth.any()):
        return (0.0, math.inf) if prediction.any() or truth.any() else (1.0, 0.0)
    surfaces = measure_surfaces(prediction, truth, spacing=spacing)
    within = sum(surface.area_within(tolerance_mm) for surface in surfaces)
    total = sum(float(surface.areas_mm2.sum()) for surface in surfaces)
    return within / total, max(surface.percentile_mm(95) for surface in surfaces)


def batch_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Compute the Dice of every item on its own device, without waiting for it.

    Args:
        logits: Predictions (B, 1, D, H, W), foreground above 0; booleans will do.
        truth: Reference (B, 1, D, H, W), foreground above 0.

    Returns:
        Dice (B,), float32; 1 where both masks are empty.

    Raises:
        ValueError: If the shapes differ.
    """
    if logits.shape != truth.shape:
        raise ValueError(
            f"logits must have the truth's shape {tuple(truth.shape)}, got {tuple(logits.shape)}"
        )
    prediction, truth = (logits > 0).flatten(1), (truth > 0).flatten(1)  # (B, D*H*W)
    shared = (prediction & truth).sum(1)  # (B,)
    total = prediction.sum(1) + truth.sum(1)
    return torch.where(total > 0, 2 * shared / total.clamp(min=1), 1.0)


def _as_masks(
    prediction: ArrayLike | Tensor, truth: ArrayLike | Tensor
) -> tuple[np.ndarray, np.ndarray]:
    first, second = _as_mask(prediction), _as_mask(truth)
    if first.ndim != 3 or first.shape != second.shape:
        raise ValueError(
            "prediction and truth must be volumes (D, H, W) of one shape, "
            f"got {first.shape} and {second.shape}"
        )
    return first, second


def _as_mask(mask: ArrayLike | Tensor) -> np.ndarray:
    return (mask > 0).cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask) > 0
