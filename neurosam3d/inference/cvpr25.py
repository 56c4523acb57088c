"""Cases of the CVPR25 challenge on interactive segmentation of 3-D biomedical images.

A case is a mapping as its `.npz` file holds it: `imgs` (D, H, W), 0 to 255, `spacing` in mm along
these axes z, y, x, and prompts for every class, of which the first has the value 1. It has no
orientation, so the axes are taken to run to the Right, Anterior and Superior.

    boxes      [{z_min, z_max, z_mid_y_min, z_mid_y_max, z_mid_x_min, z_mid_x_max}, ...]
    clicks     [{"fg": [[z, y, x], ...], "bg": [[z, y, x], ...]}, ...]
    prev_pred  (D, H, W): what was answered before the last click

The challenge starts a program anew for every click. What it said before comes back as `prev_pred`
and prompts the network as a mask; playing all clicks again in their order instead gave the same
quality for several times the work.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurosam3d.inference.label_map import Claim, merge_objects
from neurosam3d.inference.object_prompts import ObjectPrompts
from neurosam3d.inference.scan_predictor import ScanPredictor

_LOWEST = ("z_min", "z_mid_y_min", "z_mid_x_min")
_HIGHEST = ("z_max", "z_mid_y_max", "z_mid_x_max")
_MOST_CLASSES = 255
_KEPT_LOGIT = 8.0  # of a class that stays as it was: as sure as a trained network usually is


def segment_cvpr25(predictor: ScanPredictor, case: Mapping[str, Any]) -> np.ndarray:
    """Answer all prompts of a case.

    Args:
        predictor: Gets the case's image.
        case: What the file holds.

    Returns:
        The classes (D, H, W), uint8; a voxel that several claim is that of the highest logit. A
        class that nothing points at stays as it was before.

    Raises:
        ValueError: If there are no classes or more than 255, or a prompt is unfit.
    """
    image = np.asarray(case["imgs"], dtype=np.float32)
    spacing = np.asarray(case["spacing"], dtype=np.float64)
    boxes, clicks = _listed(case.get("boxes")), _listed(case.get("clicks"))
    count = max(len(boxes), len(clicks))
    if not 1 <= count <= _MOST_CLASSES:
        raise ValueError(
            f"a case has boxes or clicks for 1 to {_MOST_CLASSES} classes, got {count}"
        )
    before = np.zeros(image.shape, np.uint8) if case.get("prev_pred") is None else case["prev_pred"]
    if before.shape != image.shape:
        raise ValueError(f"prev_pred must have the shape {image.shape} of imgs, got {before.shape}")
    predictor.set_image((image, np.diag([*spacing, 1.0])))
    asked: dict[int, ObjectPrompts] = {}
    for value in range(1, count + 1):
        box = boxes[value - 1] if value <= len(boxes) else None
        own = clicks[value - 1] if value <= len(clicks) else None
        if (prompts := _prompts_of(box, own, before == value)) is not None:
            asked[value] = prompts
    predictions = dict(zip(asked, predictor.predict_objects(list(asked.values())), strict=True))
    claims = [
        Claim.from_prediction(predictions.pop(value))
        if value in predictions
        else Claim.from_mask(before == value, logit=_KEPT_LOGIT)
        for value in range(1, count + 1)
    ]
    names = [str(value) for value in range(1, count + 1)]
    return merge_objects(names, claims, shape=image.shape).values


def _listed(values: Any) -> Sequence[Any]:
    return [] if values is None else list(values)


def _prompts_of(
    box: Mapping[str, float] | None,
    clicks: Mapping[str, Sequence[Sequence[float]]] | None,
    before: np.ndarray,
) -> ObjectPrompts | None:
    """Return the prompts of a class, or None if none of them says where it is."""
    inside, outside = (_listed((clicks or {}).get(side)) for side in ("fg", "bg"))
    if not (box or inside or (outside and before.any())):
        return None
    corners = [[box[key] for key in corner] for corner in (_LOWEST, _HIGHEST)] if box else None
    return ObjectPrompts(
        points=[*inside, *outside] or None,
        labels=[1] * len(inside) + [0] * len(outside) or None,
        box=corners,
        mask=before if before.any() else None,
    )
