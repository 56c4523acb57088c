"""How networks of slices are judged on volumes, whose prompts are given slice by slice.

    oracle_slices  clicks on every slice of the object, so many on each, wherever that slice is
                   wrong: as SAM-Med3D (arXiv:2310.15161) judged SAM and SAM-Med2D
    box_per_slice  the box of the object on every slice that it is in, as MedSAM (arXiv:2304.12306)
    box_3d         the object's box in space, once
    propagate      one click or one box on the slice where the object is largest, and from there up
                   and down

With the first two, slices without the object are known to be empty by oracle.

Shapes: D H W the scan's own grid; n clicks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch

from neurosam3d.evaluation.predictor import Answer, Predictor, Session
from neurosam3d.evaluation.protocol import (
    POINT_METHODS,
    Step,
    answered_mask,
    click_generator,
    next_click,
    require_object,
)
from neurosam3d.slices import Axis, axis_order
from neurosam3d.volume import Grid, Spacing

ORACLE_SLICES = "oracle_slices"
BOX_PER_SLICE = "box_per_slice"
BOX_3D = "box_3d"
PROPAGATE = "propagate"
NAMES = (ORACLE_SLICES, BOX_PER_SLICE, BOX_3D, PROPAGATE)

Prompt = Literal["click", "box"]
PROMPTS: tuple[Prompt, ...] = get_args(Prompt)

_APART = 1e6  # so far, against their pixels, are slices from each other when depth is measured


@runtime_checkable
class SliceSession(Session, Protocol):
    """The prompts of one object, for a network of slices."""

    def set_slice_boxes(self, boxes: np.ndarray, *, margin: float) -> Answer:
        """Give its boxes on slices (n, 2, 3), enlarged by a margin in the network's pixels."""


@dataclass(frozen=True)
class OracleSlices:
    """Clicks on every slice that the object is in, each answered by itself; no other is looked at.

    Args:
        num_clicks: Rounds, each with one more click on every slice, as far as it is wrong.
        point_method: Where the clicks fall, a name in `POINT_METHODS`, within their slice;
            `default` is anywhere in the error, as published.
        seed: Decides the clicks, together with the names of the case.
        axis: What the slices are stacked along.

    Raises:
        ValueError: If a name is unknown or there is no round to play.
    """

    num_clicks: int = 5
    point_method: str = "default"
    seed: int = 2023
    axis: Axis = "axial"

    def __post_init__(self) -> None:
        axis_order(self.axis)  # tells an unknown one
        if self.point_method not in POINT_METHODS:
            known = ", ".join(POINT_METHODS)
            raise ValueError(f"unknown point_method {self.point_method!r}; known: {known}")
        if self.num_clicks < 1:
            raise ValueError(f"num_clicks must be at least 1, got {self.num_clicks}")

    @property
    def clicks(self) -> Sequence[int]:
        """The numbers of clicks on a slice after which there is a mask: every one."""
        return range(1, self.num_clicks + 1)

    def generator(self, *names: str, repeat: int = 0) -> torch.Generator:
        """Return the source of an object's clicks; see `click_generator`."""
        return click_generator(self.seed + repeat, *names)

    def play(
        self,
        predictor: Predictor,
        truth: np.ndarray,
        *,
        grid: Grid,
        generator: torch.Generator,
    ) -> Iterator[Step]:
        """Click an object on all of its slices and yield what stands after every click on each.

        Args:
            predictor: It has the scan already.
            truth: Boolean reference (D, H, W) with at least one voxel.
            grid: The scan's.
            generator: Source of the clicks.

        Raises:
            ValueError: If the truth is empty, not on the scan's grid, or the predictor answers on
                another one.
        """
        regions = slice_boxes(truth, grid, self.axis, whole=True)
        session = predictor.open_session(grow=False)
        points, labels = np.zeros((0, 3), dtype=int), np.zeros(0, dtype=int)
        mask = np.zeros(grid.shape, dtype=bool)
        rules = ("random",) if self.point_method == "default" else POINT_METHODS[self.point_method]
        for number in self.clicks:
            drawn = [
                next_click(
                    truth,
                    mask,
                    method=rules[min(number, len(rules)) - 1],
                    spacing=_in_plane(grid, self.axis),
                    generator=generator,
                    region=region,
                )
                for region in regions
            ]
            new = [(point, label) for point, label in drawn if label >= 0]
            seconds, num_windows = {}, 0
            if new:
                added, of_added = (np.array(values) for values in zip(*new, strict=True))
                points, labels = np.vstack([points, added]), np.append(labels, of_added)
                answer = session.add_points(added, of_added)
                mask, seconds = answered_mask(answer, grid), dict(answer.seconds)
                num_windows = answer.num_windows
            yield Step(points, labels, mask, seconds, num_windows, per_slice=number)


@dataclass(frozen=True)
class SliceBoxes:
    """Boxes around the object, all at once.

    Args:
        name: `box_per_slice` or `box_3d`.
        margin: By how many pixels of the network's image each box is enlarged at each side.
        axis: What the slices are stacked along.

    Raises:
        ValueError: If the margin is negative or the axis unknown.
    """

    name: str = BOX_PER_SLICE
    margin: float = 0.0
    axis: Axis = "axial"

    def __post_init__(self) -> None:
        axis_order(self.axis)  # tells an unknown one
        _require_margin(self.margin)

    @property
    def clicks(self) -> Sequence[int]:
        """One: that of a box."""
        return (1,)

    def generator(self, *names: str, repeat: int = 0) -> torch.Generator:
        """Return a source that nothing is drawn from."""
        return click_generator(repeat, *names)

    def play(
        self,
        predictor: Predictor,
        truth: np.ndarray,
        *,
        grid: Grid,
        generator: torch.Generator,
    ) -> Iterator[Step]:
        """Give an object's boxes and yield the answer; see `OracleSlices.play`."""
        session = predictor.open_session(grow=False)
        if self.name == BOX_3D:
            boxes = require_object(truth, grid)[None]
        else:
            boxes = slice_boxes(truth, grid, self.axis)
        answer = _give_boxes(session, boxes, margin=self.margin)
        yield _step_of_boxes(answer, grid, len(boxes))


@dataclass(frozen=True)
class Propagation:
    """One prompt on the slice on which the object has the largest area, and nothing else.

    Args:
        prompt: `click`, deep inside the object on that slice, or `box`.
        margin: See `SliceBoxes`.
        seed: Decides the click, together with the names of the case.
        axis: What the slices are stacked along.

    Raises:
        ValueError: If a name is unknown or the margin negative.
    """

    prompt: Prompt = "box"
    margin: float = 0.0
    seed: int = 2023
    axis: Axis = "axial"

    def __post_init__(self) -> None:
        axis_order(self.axis)  # tells an unknown one
        _require_margin(self.margin)
        if self.prompt not in PROMPTS:
            raise ValueError(f"prompt must be one of {', '.join(PROMPTS)}, got {self.prompt!r}")

    @property
    def clicks(self) -> Sequence[int]:
        """One."""
        return (1,)

    def generator(self, *names: str, repeat: int = 0) -> torch.Generator:
        """Return the source of an object's click; see `click_generator`."""
        return click_generator(self.seed + repeat, *names)

    def play(
        self,
        predictor: Predictor,
        truth: np.ndarray,
        *,
        grid: Grid,
        generator: torch.Generator,
    ) -> Iterator[Step]:
        """Point at an object once and yield the answer; see `OracleSlices.play`."""
        boxes = slice_boxes(truth, grid, self.axis)
        along = scan_axis(grid, self.axis)
        areas = np.count_nonzero(
            np.moveaxis(truth, along, 0).reshape(truth.shape[along], -1), axis=1
        )
        largest = boxes[np.argmax(areas[boxes[:, 0, along]])]
        session = predictor.open_session()
        if self.prompt == "box":
            answer = _give_boxes(session, largest[None], margin=self.margin)
            yield _step_of_boxes(answer, grid, 1)
            return
        point, label = next_click(
            truth,
            np.zeros(grid.shape, dtype=bool),
            method="ritm",
            spacing=_in_plane(grid, self.axis),
            generator=generator,
            region=largest,
        )
        answer = session.add_points(point[None], [label])
        mask = answered_mask(answer, grid)
        yield Step(
            point[None],
            np.array([label]),
            mask,
            dict(answer.seconds),
            answer.num_windows,
            per_slice=1,
        )


def scan_axis(grid: Grid, axis: Axis) -> int:
    """Return the axis of a scan, as its file has them, along which slices are stacked."""
    turn = np.linalg.inv(grid.canonical().affine) @ grid.affine
    return int(np.abs(turn[axis_order(axis)[0], :3]).argmax())


def slice_boxes(truth: np.ndarray, grid: Grid, axis: Axis, *, whole: bool = False) -> np.ndarray:
    """Return lowest and highest voxel (n, 2, 3) of an object on each slice that it is in.

    Args:
        truth: Boolean reference (D, H, W).
        grid: The scan's.
        axis: What the slices are stacked along.
        whole: Return the whole of these slices.

    Raises:
        ValueError: If the truth is empty or not on the scan's grid.
    """
    corners = require_object(truth, grid)
    along = scan_axis(grid, axis)
    low, high = corners
    boxes = []
    for number in range(low[along], high[along] + 1):
        found = np.argwhere(np.take(truth, [number], axis=along))
        if not len(found):
            continue
        box = np.stack([found.min(0), found.max(0)])
        if whole:
            box = np.stack([np.zeros(3, dtype=int), np.subtract(truth.shape, 1)])
        box[:, along] = number
        boxes.append(box)
    return np.stack(boxes)


def _in_plane(grid: Grid, axis: Axis) -> Spacing:
    """Return the sides of voxels, by which depth is measured within slices alone."""
    spacing = list(grid.spacing)
    spacing[scan_axis(grid, axis)] *= _APART
    d, h, w = spacing
    return d, h, w


def _give_boxes(session: Session, boxes: np.ndarray, *, margin: float) -> Answer:
    """Give boxes (n, 2, 3) of slices.

    Raises:
        ValueError: If the network takes none.
    """
    if not isinstance(session, SliceSession):
        raise ValueError(
            f"boxes on slices need a network of slices, got a {type(session).__name__}"
        )
    return session.set_slice_boxes(boxes, margin=margin)


def _step_of_boxes(answer: Answer, grid: Grid, number: int) -> Step:
    points, labels = np.zeros((0, 3), dtype=int), np.zeros(0, dtype=int)
    mask = answered_mask(answer, grid)
    return Step(
        points, labels, mask, dict(answer.seconds), answer.num_windows, per_slice=1, boxes=number
    )


def _require_margin(margin: float) -> None:
    if not margin >= 0:
        raise ValueError(f"box_margin must be at least 0, got {margin}")
