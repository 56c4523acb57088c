"""How published programs score, where that differs from this package's rules."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from neurosam3d.evaluation.foreground_box import ForegroundBox, MaskPair
from neurosam3d.evaluation.nearest import nearest_distances


@dataclass(frozen=True)
class Convention:
    """A way of scoring; the defaults are this package's.

    Args:
        tolerance_mm: Tolerance of surface Dice that takes the place of the caller's.
        both_empty: Dice, IoU and surface Dice of two empty masks.
        invented: Dice where only the truth is empty.
        smoothing: Added to numerator and denominator of Dice.
        pooled_voxels: Whether HD95 is `pooled_voxel_hausdorff95`.
    """

    tolerance_mm: float | None = None
    both_empty: float = 1.0
    invented: float | None = None
    smoothing: float = 0.0
    pooled_voxels: bool = False


OWN = Convention()
LEGACY = {
    # 3DSAM-adapter's test: the formula of its loss, and surface Dice at 5 mm.
    "adapter3d": Convention(tolerance_mm=5.0, smoothing=1e-5),
    # SAM-Med3D: two empty masks have no score.
    "sam_med3d": Convention(tolerance_mm=1.0, both_empty=float("nan")),
    # SAMed's test: an empty prediction is worth nothing, a prediction of nothing there everything.
    "samed": Convention(both_empty=0.0, invented=1.0, pooled_voxels=True),
}


def find_convention(legacy: str | None) -> Convention:
    """Return the convention of a name in `LEGACY`, or this package's own.

    Raises:
        ValueError: If the name is unknown.
    """
    if legacy is None:
        return OWN
    if legacy not in LEGACY:
        raise ValueError(f"unknown legacy convention {legacy!r}; known: {', '.join(LEGACY)}")
    return LEGACY[legacy]


def pooled_voxel_hausdorff95(masks: MaskPair) -> float:
    """Compute HD95 as SAMed reports it, in voxels whatever their size.

    It is the 95th percentile of the distances of both masks' border voxels, those with a face on
    the background, taken together. An empty mask makes it 0.
    """
    if masks.num_empty:
        return 0.0
    borders = [_border_voxels(box) for box in (masks.prediction, masks.truth)]
    unit = (1.0, 1.0, 1.0)
    there, back = (nearest_distances(*pair, spacing=unit) for pair in (borders, borders[::-1]))
    return float(np.percentile(np.concatenate([there, back]), 95))


def _border_voxels(box: ForegroundBox) -> np.ndarray:
    mask = box.voxels > 0
    return np.argwhere(mask & ~ndimage.binary_erosion(mask)) + box.corner
