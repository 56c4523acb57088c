"""Overlap and surface agreement of two masks, in millimetres on their own grid.

All functions take the arguments of `score_masks` and ignore what they do not need.

If both masks are empty they agree fully: overlap scores 1, distances and volume error 0. If only
one is they do not agree at all: 0 and infinite distances; the volume error is -1 where the
prediction is empty and infinite where the truth is.

Shapes: B batch, D H W volume.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosam3d.evaluation.conventions import (
    Convention,
    find_convention,
    pooled_voxel_hausdorff95,
)
from neurosam3d.evaluation.foreground_box import Mask, MaskPair
from neurosam3d.evaluation.nearest import Spacing
from neurosam3d.evaluation.surface import SurfaceDistances, measure_surfaces

UNIT_SPACING: Spacing = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scores:
    """How a prediction agrees with the truth; the functions of the same names say what it means.

    Args:
        dice: In 0..1.
        iou: In 0..1.
        surface_dice: In 0..1.
        hausdorff95: In mm.
        assd: In mm.
        volume_error: Signed share of the truth's volume.
        prediction_empty: Whether the prediction has no voxel.
        truth_empty: Whether the truth has no voxel.
    """

    dice: float
    iou: float
    surface_dice: float
    hausdorff95: float
    assd: float
    volume_error: float
    prediction_empty: bool
    truth_empty: bool


def score_masks(
    prediction: Mask,
    truth: Mask,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
    legacy: str | None = None,
) -> Scores:
    """Compute all scores from one measurement of the surfaces.

    Memory is that of the box around the foreground, not of the volume.

    Args:
        prediction: Boolean mask (D, H, W), array or tensor; of other number types, what is
            positive counts.
        truth: Reference mask of the same shape.
        spacing: Voxel side in mm along each axis.
        tolerance_mm: Distance up to which a piece of surface counts as right.
        legacy: Name of a published program whose conventions are followed, a key of
            `neurosam3d.evaluation.conventions.LEGACY`. What it does not compute is scored as ever.

    Raises:
        ValueError: If the masks are not volumes of one shape, a length is out of range, or the
            name is unknown.
    """
    rules = find_convention(legacy)
    d, h, w = _check_lengths(spacing, tolerance_mm)
    masks = MaskPair(prediction, truth)
    surfaces = () if masks.num_empty else measure_surfaces(masks, spacing=(d, h, w))
    return Scores(
        dice=_dice(masks, rules),
        iou=_iou(masks, rules),
        surface_dice=_surface_dice(masks, surfaces, tolerance_mm, rules),
        hausdorff95=_hausdorff95(masks, surfaces, rules),
        assd=_assd(masks, surfaces),
        volume_error=_volume_error(masks),
        prediction_empty=masks.prediction.is_empty,
        truth_empty=masks.truth.is_empty,
    )


def dice(
    prediction: Mask,
    truth: Mask,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
    legacy: str | None = None,
) -> float:
    """Compute twice the intersection over the sum of the volumes, in 0..1."""
    return _dice(MaskPair(prediction, truth), find_convention(legacy))


def iou(
    prediction: Mask,
    truth: Mask,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
    legacy: str | None = None,
) -> float:
    """Compute the intersection over the union of the volumes, in 0..1."""
    return _iou(MaskPair(prediction, truth), find_convention(legacy))


def volume_error(
    prediction: Mask,
    truth: Mask,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
    legacy: str | None = None,
) -> float:
    """Compute the prediction's volume less the truth's, over the truth's; at least -1."""
    find_convention(legacy)
    return _volume_error(MaskPair(prediction, truth))


def surface_dice(
    prediction: Mask,
    truth: Mask,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
    legacy: str | None = None,
) -> float:
    """Compute the share of both surfaces that lies within the tolerance of the other, in 0..1.

    Also called normalised surface distance, NSD (arXiv:1809.04430).
    """
    scores = score_masks(
        prediction, truth, spacing=spacing, tolerance_mm=tolerance_mm, legacy=legacy
    )
    return scores.surface_dice


def hausdorff95(
    prediction: Mask,
    truth: Mask,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
    legacy: str | None = None,
) -> float:
    """Compute the distance in mm that 95 % of either surface's area does not exceed.

    Percentiles of both directions are taken apart; the larger one counts (arXiv:1809.04430).
    """
    if find_convention(legacy).pooled_voxels:  # no surface has to be measured
        return pooled_voxel_hausdorff95(MaskPair(prediction, truth))
    return score_masks(prediction, truth, spacing=spacing, legacy=legacy).hausdorff95


def assd(
    prediction: Mask,
    truth: Mask,
    *,
    spacing: Spacing = UNIT_SPACING,
    tolerance_mm: float = 1.0,
    legacy: str | None = None,
) -> float:
    """Compute the average symmetric surface distance in mm, both surfaces weighing by area.

    It is the mean over both surfaces taken together, as in Metrics Reloaded (arXiv:2206.01653), not
    the mean of the two directions' means (MASD there).
    """
    return score_masks(prediction, truth, spacing=spacing, legacy=legacy).assd


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


def _dice(masks: MaskPair, rules: Convention) -> float:
    if masks.num_empty == 2:
        return rules.both_empty
    if masks.truth.is_empty and rules.invented is not None:
        return rules.invented
    total = masks.prediction.num_voxels + masks.truth.num_voxels
    return (2 * masks.num_shared + rules.smoothing) / (total + rules.smoothing)


def _iou(masks: MaskPair, rules: Convention) -> float:
    if masks.num_empty == 2:
        return rules.both_empty
    union = masks.prediction.num_voxels + masks.truth.num_voxels - masks.num_shared
    return masks.num_shared / union


def _volume_error(masks: MaskPair) -> float:
    difference = masks.prediction.num_voxels - masks.truth.num_voxels
    if masks.truth.is_empty:
        return math.inf if difference else 0.0
    return difference / masks.truth.num_voxels


def _surface_dice(
    masks: MaskPair, surfaces: Sequence[SurfaceDistances], tolerance_mm: float, rules: Convention
) -> float:
    if masks.num_empty:
        return rules.both_empty if masks.num_empty == 2 else 0.0
    if rules.tolerance_mm is not None:
        tolerance_mm = rules.tolerance_mm
    within = sum(surface.area_within(tolerance_mm) for surface in surfaces)
    return within / sum(surface.area_mm2 for surface in surfaces)


def _hausdorff95(masks: MaskPair, surfaces: Sequence[SurfaceDistances], rules: Convention) -> float:
    if rules.pooled_voxels:
        return pooled_voxel_hausdorff95(masks)
    if masks.num_empty:
        return 0.0 if masks.num_empty == 2 else math.inf
    return max(surface.percentile_mm(95) for surface in surfaces)


def _assd(masks: MaskPair, surfaces: Sequence[SurfaceDistances]) -> float:
    if masks.num_empty:
        return 0.0 if masks.num_empty == 2 else math.inf
    integral = sum(surface.integral_mm3() for surface in surfaces)
    return integral / sum(surface.area_mm2 for surface in surfaces)


def _check_lengths(spacing: Sequence[float], tolerance_mm: float) -> list[float]:
    """Return the spacing as Python's numbers, or refuse a length."""
    if len(spacing) != 3 or not all(0 < side < math.inf for side in spacing):
        raise ValueError(f"spacing must be three positive lengths in mm, got {tuple(spacing)}")
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm must be a length >= 0, got {tolerance_mm}")
    return [float(side) for side in spacing]
