"""The protocol of the CVPR25 challenge on interactive segmentation of 3-D biomedical images.

Six steps: a box, then five clicks. In each step the model starts afresh, gets the image, all
prompts so far and its last answer, and segments all classes at once. Class k of a case is the k-th
smallest value above 0 of its truth; the model answers it with the value k, counted from 1.

Shapes: D H W the image's axes z, y, x.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch

from neurosam3d.evaluation.foreground_box import find_foreground
from neurosam3d.evaluation.metrics import Scores, score_masks
from neurosam3d.prompts import distance_transform, largest_component

NUM_CLICKS = 5
TOLERANCE_MM = 2.0
WORTHLESS_DICE = 0.2  # up to here surface Dice counts as 0

Segment = Callable[[Mapping[str, Any]], np.ndarray]
"""A model without memory.

It is given `imgs` (D, H, W), 0 to 255, and `spacing` in mm along its axes; `boxes`, one per class,
if the case has them; and from the first click on `clicks`, a dict of voxels `fg` and `bg` (z, y, x)
per class, `clicks_order`, a list of "fg" and "bg" per class, and `prev_pred`, its last answer,
empty if it was not asked yet. It returns the classes (D, H, W), uint8.
"""


@dataclass(frozen=True)
class ChallengeClick:
    """A click on one class.

    Args:
        voxel: Its index (z, y, x).
        is_foreground: Whether the truth is there.
    """

    voxel: tuple[int, int, int]
    is_foreground: bool

    @property
    def kind(self) -> str:
        """The challenge's word for it."""
        return "fg" if self.is_foreground else "bg"


@dataclass(frozen=True)
class ChallengeStep:
    """What stood after a step.

    Args:
        num_clicks: Which click it was, 0 for the box.
        scores: One per class; surface Dice by the challenge's rule.
        clicks: All clicks so far, per class. A class without an error was not clicked.
        seconds: Time the model took; None: it was not asked, for want of a box.
    """

    num_clicks: int
    scores: tuple[Scores, ...]
    clicks: tuple[tuple[ChallengeClick, ...], ...]
    seconds: float | None

    @property
    def dice(self) -> float:
        """Mean Dice of the classes."""
        return fmean(scores.dice for scores in self.scores)

    @property
    def surface_dice(self) -> float:
        """Mean surface Dice of the classes."""
        return fmean(scores.surface_dice for scores in self.scores)


@dataclass(frozen=True)
class ChallengeResult:
    """A case played to its end.

    Args:
        classes: The truth's values above 0.
        steps: The box and every click.
    """

    classes: tuple[int, ...]
    steps: tuple[ChallengeStep, ...]

    @property
    def dice_auc(self) -> float:
        """Area under Dice against clicks, 4 at best."""
        return area_under_clicks([step.dice for step in self.steps[1:]])

    @property
    def surface_dice_auc(self) -> float:
        """Area under surface Dice against clicks, 4 at best."""
        return area_under_clicks([step.surface_dice for step in self.steps[1:]])

    @property
    def dice_final(self) -> float:
        """Dice after the last click."""
        return self.steps[-1].dice

    @property
    def surface_dice_final(self) -> float:
        """Surface Dice after the last click."""
        return self.steps[-1].surface_dice


def play_cvpr25(
    segment: Segment,
    case: Mapping[str, Any],
    *,
    on_answer: Callable[[int, np.ndarray], None] | None = None,
) -> ChallengeResult:
    """Play a case: show the boxes, then click each class five times where it is most wrong.

    Boxes are the case's own; without them the first step is not run and scores 0.

    Args:
        segment: The model.
        case: `imgs` (D, H, W), `spacing` in mm along its axes, `gts`, the truth (D, H, W), and
            maybe `boxes`, as `neurosam3d.npz_cases` reads them.
        on_answer: Gets each answer with the number of its click, to write it, say.

    Raises:
        ValueError: If the truth is missing or empty, or the model answers on another grid.
    """
    classes = _find_classes(case)
    segs = np.zeros(case["imgs"].shape, np.uint8)
    clicks: list[tuple[ChallengeClick, ...]] = [()] * len(classes)
    steps = []
    for num_clicks in range(NUM_CLICKS + 1):
        if num_clicks:
            pairs = zip(clicks, _masks_by_class(case, classes, segs), strict=True)
            clicks = [_add_click(before, *masks) for before, masks in pairs]
        seconds = None
        if num_clicks or case.get("boxes"):
            given = describe_step(case, clicks, segs if num_clicks else None)
            start = time.perf_counter()
            segs = segment(given)
            seconds = time.perf_counter() - start
            _check_answer(segs, case["imgs"].shape)
            if on_answer is not None:
                on_answer(num_clicks, segs)
        scores = [
            challenge_scores(*masks, spacing=case["spacing"])
            for masks in _masks_by_class(case, classes, segs)
        ]
        steps.append(ChallengeStep(num_clicks, tuple(scores), tuple(clicks), seconds))
    return ChallengeResult(classes, tuple(steps))


def find_click(prediction: np.ndarray, truth: np.ndarray) -> ChallengeClick | None:
    """Find where a class is most wrong: the deepest voxel of the largest piece of its error.

    Pieces hang together by faces, edges and corners. Depth is the distance in voxels to what is
    not of the piece; beyond the volume's border nothing is. Of equals the first in memory counts.

    Args:
        prediction: Boolean mask (D, H, W).
        truth: Reference mask of the same shape.

    Returns:
        The click; None if there is no error.
    """
    error = find_foreground(truth != prediction)
    if error.is_empty:
        return None
    piece = largest_component(torch.from_numpy(np.ascontiguousarray(error.voxels))[None, None])
    depth = distance_transform(piece)[0, 0].numpy()
    z, y, x = np.array(np.unravel_index(depth.argmax(), depth.shape)) + error.corner
    return ChallengeClick((int(z), int(y), int(x)), bool(truth[z, y, x]))


def challenge_scores(
    prediction: np.ndarray, truth: np.ndarray, *, spacing: Sequence[float]
) -> Scores:
    """Score a class; surface Dice, at 2 mm, is 0 unless Dice is above 0.2.

    Args:
        prediction: Boolean mask (D, H, W).
        truth: Reference mask of the same shape.
        spacing: Voxel side in mm along each axis.
    """
    d, h, w = (float(side) for side in spacing)
    scores = score_masks(prediction, truth, spacing=(d, h, w), tolerance_mm=TOLERANCE_MM)
    return scores if scores.dice > WORTHLESS_DICE else replace(scores, surface_dice=0.0)


def area_under_clicks(scores: Sequence[float]) -> float:
    """Integrate the scores of successive clicks by trapezoids of width 1."""
    return sum(scores) - (scores[0] + scores[-1]) / 2


def describe_step(
    case: Mapping[str, Any],
    clicks: Sequence[Sequence[ChallengeClick]],
    previous: np.ndarray | None,
) -> dict[str, Any]:
    """Put together what the model is given in one step.

    Args:
        case: The case; of it, only image, spacing and boxes are passed on.
        clicks: All clicks so far, per class.
        previous: The last answer (D, H, W); None: there were no clicks yet, nor answers.
    """
    given = {name: case[name] for name in ("imgs", "spacing", "boxes") if name in case}
    if previous is None:
        return given
    voxels = [
        {kind: [list(c.voxel) for c in of_class if c.kind == kind] for kind in ("fg", "bg")}
        for of_class in clicks
    ]
    order = [[click.kind for click in of_class] for of_class in clicks]
    return {**given, "clicks": voxels, "clicks_order": order, "prev_pred": previous}


def _find_classes(case: Mapping[str, Any]) -> tuple[int, ...]:
    if "gts" not in case:
        raise ValueError("a case needs its truth, gts, to be played")
    classes = tuple(int(value) for value in np.unique(case["gts"]) if value > 0)
    if not classes:
        raise ValueError("a case needs a class above 0 in its truth, gts, to be played")
    return classes


def _masks_by_class(
    case: Mapping[str, Any], classes: Sequence[int], segs: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield prediction and truth (D, H, W) of every class; all at once would fill the memory."""
    for k, value in enumerate(classes, start=1):
        yield segs == k, case["gts"] == value


def _add_click(
    clicks: tuple[ChallengeClick, ...], prediction: np.ndarray, truth: np.ndarray
) -> tuple[ChallengeClick, ...]:
    click = find_click(prediction, truth)
    return clicks if click is None else (*clicks, click)


def _check_answer(segs: np.ndarray, shape: tuple[int, ...]) -> None:
    if segs.shape != shape or segs.dtype != np.uint8:
        raise ValueError(
            f"the model must answer with uint8 of the image's shape {shape}, "
            f"got {segs.dtype} of shape {segs.shape}"
        )
