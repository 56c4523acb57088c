"""One object, round by round, for a network of slices.

Shapes: n points; H W rows and columns of a slice, M side of the network's low-resolution logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from neurosam3d.inference.object_prompts import PlacedPrompts, place_box, require_place
from neurosam3d.inference.prediction import Prediction
from neurosam3d.inference.prompt_session import PromptSession
from neurosam3d.inference.slice_following import Answers, follow_slices
from neurosam3d.inference.slice_network import SliceAnswer, SlicePrompts, mask_box
from neurosam3d.inference.slice_reader import SliceReader
from neurosam3d.inference.slice_stack import SliceStack
from neurosam3d.volume import Grid

Boxes = Mapping[int, np.ndarray]
"""In-plane boxes (4,) by number of the slice, as in `SlicePrompts`."""


@dataclass(frozen=True, eq=False)
class _Round:
    """What has been said so far, and what the slices that it was said of answered."""

    prompts: PlacedPrompts = field(default_factory=PlacedPrompts)
    boxes: Boxes = field(default_factory=dict)
    answers: Answers = field(default_factory=dict)
    is_bounded: bool = False


class SliceSession(PromptSession[_Round]):
    """The rounds about one object.

    Every slice that something is said of is answered by itself: by all of its points so far, its
    part of the box, and its own low-resolution logits of the round before. A box in space is the
    same box on every slice that it meets, and nothing is looked for beyond it but where a click
    says so. A mask is, on every slice that it marks, a box around what it marks there and, for a
    network that takes masks, the mask. Slices of which only a point outside the object is known
    hold nothing.

    The slices between and beyond follow from these, see `follow_slices`.

    Args:
        reader: Asks the network about slices of the scan.
        follow: Whether the object is followed from slice to slice.
        source: File of the scan, if it has one.
    """

    def __init__(
        self, reader: SliceReader, *, follow: bool = True, source: Path | None = None
    ) -> None:
        super().__init__(reader.scan, reader.clock, _Round())
        self._reader = reader
        self._follow = follow
        self._source = source
        self._followed: Answers = {}

    @property
    def roi(self) -> Grid | None:
        """None: slices are seen whole."""
        return None

    def add_placed(self, new: PlacedPrompts) -> Prediction:
        """Give prompts in voxel indices of the scan, as one round, and predict.

        Raises:
            ValueError: If nothing says yet where the object is.
        """
        last = self._rounds[-1]
        joined = last.prompts.joined(new)
        if not last.boxes:
            require_place(joined)
        asked, masks = set(self._reader.points_by_slice(new)), dict[int, Tensor]()
        said = replace(last, prompts=joined)
        if new.mask is not None:
            masks = self._reader.logits_by_slice(new.mask)
            said = _Round(joined, _boxes_of(masks))
            asked |= set(masks)
        if new.box is not None:
            said, freed = self._without_boxes(said)
            said = replace(said, boxes=self._reader.boxes_by_slice(new.box), is_bounded=True)
            asked |= freed | set(said.boxes)
        return self._answer(said, asked, masks)

    def set_slice_boxes(self, boxes: np.ndarray, *, margin: float = 0.0) -> Prediction:
        """Give boxes of several slices, in place of earlier ones, and predict.

        Args:
            boxes: (n, 2, 3), lowest and highest corner in voxels of the scan, both included. Each
                is one slice thick; a thicker one is the same box on several slices.
            margin: By how many pixels of the network's image they are enlarged at each side.

        Raises:
            ValueError: If one is no box or lies outside the scan, or there is none.
        """
        if not len(boxes):
            raise ValueError("slice boxes must be at least one, got none")
        placed = [place_box(box, self.scan.volume.grid) for box in boxes]
        by_slice = {
            number: self._enlarged(flat, margin)
            for box in placed
            for number, flat in self._reader.boxes_by_slice(box).items()
        }
        said, freed = self._without_boxes(self._rounds[-1])
        said = replace(said, boxes=by_slice, is_bounded=False)
        return self._answer(said, freed | set(by_slice), {})

    def _without_boxes(self, said: _Round) -> tuple[_Round, set[int]]:
        """Forget boxes and what they found; tell which of their slices have points, too."""
        answers = {n: answer for n, answer in said.answers.items() if n not in said.boxes}
        clicked = set(self._reader.points_by_slice(said.prompts))
        return replace(said, answers=answers), clicked & set(said.boxes)

    def _answer(self, said: _Round, asked: set[int], masks: Mapping[int, Tensor]) -> Prediction:
        """Ask slices, with what is said of each, and go on from there."""
        self._clock.restart()
        points = self._reader.points_by_slice(said.prompts)
        known = {**self._followed, **said.answers} if said.answers else {}
        answers = dict(said.answers)
        for number in sorted(asked):
            before = known.get(number)
            box = said.boxes.get(number)
            if box is None and before is not None and number in self._followed:
                box = before.box  # what a click corrects was found by such a box
            prompts = replace(points.get(number, _NO_POINTS), box=box)
            mask = None if before is None else before.low_res
            if number in masks:
                mask = self._reader.network.mask_prompt(masks[number])
            answers[number] = self._ask(number, prompts, mask)
        self._rounds.append(replace(said, answers=answers))
        return self._predict()

    def _ask(self, number: int, prompts: SlicePrompts, mask: Tensor | None) -> SliceAnswer | None:
        """Ask a slice; nothing, where all that is said of it is where the object is not."""
        if mask is None and not prompts.say_where:
            return None
        return self._reader.ask(number, prompts, mask)

    def _predict(self) -> Prediction:
        """Follow the object from the slices of the last round and put all of them together."""
        last, self._followed = self._rounds[-1], {}
        if self._follow and not last.is_bounded:
            self._followed = follow_slices(self._reader, last.answers)
        found = {**self._followed, **last.answers}
        logits = {number: answer.logits for number, answer in found.items() if answer is not None}
        return Prediction(
            self.scan,
            SliceStack(self.scan.grid(), self._reader.axis, logits),
            roi=None,
            is_quiet=True,
            seconds=self._clock.seconds,
            source=self._source,
        )

    def _enlarged(self, box: np.ndarray, margin: float) -> np.ndarray:
        return self._reader.network.enlarge(box, self._reader.sides, margin=margin)


def _boxes_of(masks: Mapping[int, Tensor]) -> Boxes:
    """Return the boxes around what logits (H, W) of slices mark."""
    found = {number: mask_box(logits > 0) for number, logits in masks.items()}
    return {number: box for number, box in found.items() if box is not None}


_NO_POINTS = SlicePrompts(np.empty((0, 2)), np.empty(0, dtype=np.int64))
