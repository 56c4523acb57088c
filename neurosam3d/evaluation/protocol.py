"""Interactive evaluation of one object: click, look at the mask, click again where it is wrong.

A protocol decides what the predictor is told of the truth. `oracle_roi` is SAM-Med3D's: the region
of interest lies around the truth. With `prompt_roi` it follows from the first click, as for a user.

Shapes: D H W the scan's own grid; n clicks.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from neurosam3d.evaluation.foreground_box import find_foreground
from neurosam3d.evaluation.predictor import Answer, Predictor
from neurosam3d.prompts import sample_clicks
from neurosam3d.volume import Grid, Spacing

NAMES = ("oracle_roi", "prompt_roi")
# The rule of the first click, the second and so on; the last rule stands for all that follow.
POINT_METHODS = {
    "default": ("ritm", "ritm", "random"),  # as SAM-Med3D was judged
    "ritm": ("ritm",),
    "random": ("random",),
    "largest": ("largest", "random"),
}


@dataclass(frozen=True, eq=False)
class Step:
    """What stood after one more click.

    Args:
        points: Voxel indices (n, 3) of all clicks so far.
        labels: Their labels (n,): 1 inside, 0 outside the object. A mask without any error is
            not clicked: -1 at voxel 0.
        mask: Foreground (D, H, W), boolean.
        seconds: Time the predictor took, by part; empty where it was not asked.
        num_windows: Windows, or slices, that were decoded.
        per_slice: Prompts that every slice of the object got, where these are counted.
        boxes: How many boxes were given.
    """

    points: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    seconds: Mapping[str, float]
    num_windows: int = 0
    per_slice: int | None = None
    boxes: int = 0

    @property
    def clicks(self) -> int:
        """Number of clicks, those included that nobody had to make; on a slice, if so counted."""
        return len(self.labels) if self.per_slice is None else self.per_slice

    @property
    def prompts(self) -> int | None:
        """Clicks and boxes on the whole scan, where `clicks` counts those on a slice."""
        return None if self.per_slice is None else len(self.labels) + self.boxes

    def without_mask(self) -> "Step":
        """Return the same with a mask of no voxel, so that all rounds of a scan can be kept."""
        return replace(self, mask=np.zeros((0, 0, 0), dtype=bool))


class ClickProtocol(Protocol):
    """What decides where an object of a scan is clicked, and after which clicks there is a mask."""

    @property
    def clicks(self) -> Sequence[int]:
        """The numbers of clicks after which there is a mask, in ascending order."""

    def generator(self, *names: str, repeat: int = 0) -> torch.Generator:
        """Return the source of an object's clicks."""

    def play(
        self, predictor: Predictor, truth: np.ndarray, *, grid: Grid, generator: torch.Generator
    ) -> Iterator[Step]:
        """Click an object (D, H, W) and yield what stands after each of these numbers."""


@dataclass(frozen=True)
class InteractiveProtocol:
    """How an object is clicked and what the predictor knows of it.

    Args:
        name: `oracle_roi`: the window is centred on the truth's bounding box, padded where it
            leaves the scan, and never grows; clicks fall inside it. `prompt_roi`: the predictor
            gets the clicks and nothing else.
        num_clicks: Rounds, each with one more click.
        point_method: Where the clicks fall, a name in `POINT_METHODS`. RITM measures depth in mm.
        seed: Decides the clicks, together with the names of the case.

    Raises:
        ValueError: If a name is unknown or there is no round to play.
    """

    name: str = "prompt_roi"
    num_clicks: int = 5
    point_method: str = "default"
    seed: int = 2023

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"unknown protocol {self.name!r}; known: {', '.join(NAMES)}")
        if self.point_method not in POINT_METHODS:
            known = ", ".join(POINT_METHODS)
            raise ValueError(f"unknown point_method {self.point_method!r}; known: {known}")
        if self.num_clicks < 1:
            raise ValueError(f"num_clicks must be at least 1, got {self.num_clicks}")

    @property
    def clicks(self) -> Sequence[int]:
        """The numbers of clicks after which there is a mask: every one."""
        return range(1, self.num_clicks + 1)

    def generator(self, *names: str, repeat: int = 0) -> torch.Generator:
        """Return the source of an object's clicks; see `click_generator`."""
        return click_generator(self.seed + repeat, *names)

    def play(
        self, predictor: Predictor, truth: np.ndarray, *, grid: Grid, generator: torch.Generator
    ) -> Iterator[Step]:
        """Click an object of the predictor's scan and yield what stands after every click.

        Args:
            predictor: It has the scan already.
            truth: Boolean reference (D, H, W) with at least one voxel.
            grid: The scan's.
            generator: Source of the clicks.

        Raises:
            ValueError: If the truth is empty, not on the scan's grid, or the predictor answers on
                another one.
        """
        corners = require_object(truth, grid)
        region = None
        if self.name == "oracle_roi":
            session = predictor.open_session(roi_center=corners.mean(0).tolist(), grow=False)
            region = None if session.roi is None else _covered(session.roi, grid)
        else:
            session = predictor.open_session()
        points, labels = np.zeros((0, 3), dtype=int), np.zeros(0, dtype=int)
        mask = np.zeros(grid.shape, dtype=bool)
        rules = POINT_METHODS[self.point_method]
        for index in range(self.num_clicks):
            rule = rules[min(index, len(rules) - 1)]
            point, label = next_click(
                truth, mask, method=rule, spacing=grid.spacing, generator=generator, region=region
            )
            points, labels = np.vstack([points, point]), np.append(labels, label)
            seconds: Mapping[str, float] = {}
            num_windows = 0
            if label >= 0:
                answer = session.add_point(point.tolist(), label)
                mask, seconds = answered_mask(answer, grid), dict(answer.seconds)
                num_windows = answer.num_windows
            yield Step(points, labels, mask, seconds, num_windows)


def click_generator(seed: int, *names: str) -> torch.Generator:
    """Return the source of an object's clicks; seed and names alone decide it.

    Args:
        seed: Of the evaluation; repeat r of seed s is the first run of seed s + r.
        names: Data set, class, case and whatever else tells the object from all others.
    """
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def require_object(truth: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the lowest and highest voxel (2, 3) of an object that is to be clicked.

    Raises:
        ValueError: If the truth is empty or not on the scan's grid.
    """
    _require_shape(truth, grid, "the truth")
    corners = bounding_box(truth)
    if corners is None:
        raise ValueError("an object needs at least one voxel to be clicked, got an empty truth")
    return corners


def answered_mask(answer: Answer, grid: Grid) -> np.ndarray:
    """Return the boolean mask (D, H, W) of an answer.

    Raises:
        ValueError: If it is not on the scan's grid.
    """
    _require_shape(answer.mask, grid, "the predictor's mask")
    return answer.mask > 0


def next_click(
    truth: np.ndarray,
    prediction: np.ndarray,
    *,
    method: str,
    spacing: Spacing,
    generator: torch.Generator,
    region: np.ndarray | None = None,
) -> tuple[np.ndarray, int]:
    """Draw a click as `sample_clicks` does, looking at the box around the error only.

    Nothing beyond that box takes part in any rule, so the box changes neither law nor draw.

    Args:
        truth: Boolean reference (D, H, W).
        prediction: Boolean mask of the same shape.
        method: A name in `neurosam3d.prompts.CLICK_METHODS`.
        spacing: Voxel size in mm along D, H, W.
        generator: Source of randomness.
        region: Corners (2, 3) of the box that the click must fall into, both included.

    Returns:
        Voxel index (3,) and label: 1 inside, 0 outside the object, -1 if there is nothing to click.
    """
    start = np.zeros(3, dtype=int)
    if region is not None:
        start = region[0]
        truth, prediction = truth[_slices(region)], prediction[_slices(region)]
    corners = bounding_box(truth if method == "largest" else truth ^ prediction)
    if corners is None:
        return np.zeros(3, dtype=int), -1
    crops = (np.ascontiguousarray(mask[_slices(corners)]) for mask in (truth, prediction))
    first, second = (torch.from_numpy(crop)[None, None] for crop in crops)  # (1, 1, d, h, w)
    coords, labels = sample_clicks(
        first, second, method=method, generator=generator, spacing=spacing
    )
    point = coords[0, 0].numpy().astype(int)
    return start + corners[0] + point, int(labels[0, 0])


def bounding_box(mask: np.ndarray) -> np.ndarray | None:
    """Return the lowest and highest voxel (2, 3) of a boolean mask; None of an empty one."""
    found = find_foreground(mask)
    if found.is_empty:
        return None
    return np.stack([found.corner, found.corner + found.voxels.shape - 1])


def _slices(corners: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(low, high + 1) for low, high in corners.T)


def _covered(roi: Grid, grid: Grid) -> np.ndarray:
    """Return the box (2, 3) of a scan's voxels whose centres lie in a region along its axes."""
    ends = np.array([[-0.5] * 3, np.subtract(roi.shape, 0.5)])
    to_scan = np.round(np.linalg.inv(grid.affine) @ roi.affine, 9)
    found = ends @ to_scan[:3, :3].T + to_scan[:3, 3]
    # A centre on the very border of the region may count as outside, so it is left out.
    low, high = np.floor(found.min(0) + 1e-6) + 1, np.ceil(found.max(0) - 1e-6) - 1
    return np.clip([low, high], 0, np.subtract(grid.shape, 1)).astype(int)


def _require_shape(mask: np.ndarray, grid: Grid, name: str) -> None:
    if mask.shape != grid.shape:
        raise ValueError(f"{name} must be on the scan's grid {grid.shape}, got {mask.shape}")
