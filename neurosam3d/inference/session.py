"""One object, round by round: prompts are added, the network answers, a round can be taken back.

Shapes: D H W voxels of a window.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from neurosam3d.inference.growth import Growth, carried_logits, lay_out
from neurosam3d.inference.network import WindowAnswer
from neurosam3d.inference.object_prompts import (
    PlacedPrompts,
    require_place,
)
from neurosam3d.inference.opening import first_window, window_around
from neurosam3d.inference.prediction import Prediction
from neurosam3d.inference.prompt_session import PromptSession
from neurosam3d.inference.window_reader import WindowReader, deepest_voxel
from neurosam3d.inference.windows import Window
from neurosam3d.volume import Grid, Volume

logger = logging.getLogger(__name__)

Answers = dict[Window, WindowAnswer]


@dataclass(frozen=True)
class _Round:
    """What has been said so far, what the windows that hold a prompt answered, and how many of
    them were decoded for it.
    """

    prompts: PlacedPrompts = field(default_factory=PlacedPrompts)
    answers: Answers = field(default_factory=dict)
    num_decoded: int = 0


class Session(PromptSession[_Round]):
    """The rounds about one object.

    Every round gives each window that a new prompt lies in all points so far that do, and its own
    low-resolution logits of the round before. Other windows that hold prompts keep their answer.
    Windows without any follow anew from those with.

    Args:
        reader: Asks the network about windows of the scan.
        max_windows: How many windows a round may decode.
        grow: Whether windows are added where the mask reaches a border.
        start: The first window; without it, it is laid around the first prompts.
        source: File of the scan, if it has one.
    """

    def __init__(
        self,
        reader: WindowReader,
        *,
        max_windows: int = 27,
        grow: bool = True,
        start: Window | None = None,
        source: Path | None = None,
    ) -> None:
        super().__init__(reader.scan, reader.clock, _Round())
        self._reader = reader
        self._max_windows = max_windows
        self._grow = grow
        self._start = start
        self._source = source
        self._grown: Answers = {}
        self._roi: Grid | None = None

    @property
    def roi(self) -> Grid | None:
        """Grid of the first window, on the working grid; None while there is none."""
        return self._roi if self._start is None else self.scan.window_grid(self._start)

    def add_placed(self, new: PlacedPrompts) -> Prediction:
        """Give prompts in voxel indices of the scan, as one round, and predict.

        Raises:
            ValueError: If nothing says yet where the object is.
        """
        new, last = self._with_box_as_point(new), self._rounds[-1]
        joined = last.prompts.joined(new)
        require_place(joined)
        answers = {} if new.mask is not None else dict(last.answers)
        known = {} if new.mask is not None else {**self._grown, **last.answers}
        asked = [window for window in known if self._reader.concerns(window, new)]
        asked += self._open_windows(joined, new if known else joined, list(known))
        asked = self._without_silent_start(asked[: self._max_windows], joined)
        self._clock.restart()
        for window in asked:
            mask = self._mask_prompt(window, joined, known)
            answers[window] = self._reader.ask(window, joined, mask)
        self._rounds.append(_Round(joined, answers, len(asked)))
        return self._predict()

    def _mask_prompt(self, window: Window, prompts: PlacedPrompts, known: Answers) -> Tensor:
        """Return the mask prompt (1, 1, M, M, M) of a window: its last answer, if it gave one."""
        if window in known:
            return known[window].low_res
        mosaic, guide = lay_out(_logits_of(known), self.scan.grid()), self._guide(prompts, known)
        return self._reader.mask_prompt(carried_logits(window, self.scan, mosaic, guide))

    def _predict(self) -> Prediction:
        """Let the windows of the last round grow and put them together."""
        last, grown = self._rounds[-1], Answers()

        def ask(window: Window, logits: Tensor) -> Tensor:
            mask, seed = self._reader.mask_prompt(logits), deepest_voxel(logits > 0)
            grown[window] = self._reader.ask(window, last.prompts, mask, seed=seed)
            return grown[window].logits[0, 0]

        growth = Growth(
            self.scan,
            self._reader.network.roi_size,
            ask,
            first=_logits_of(last.answers),
            guide=self._guide(last.prompts, last.answers),
            max_windows=self._max_windows - last.num_decoded,
        )
        if self._grow:
            growth.run()
        windows = growth.mosaic.windows
        self._grown = {w: grown[w] for w in (*windows, growth.afar) if w is not None and w in grown}
        self._roi = self.scan.window_grid(windows[0]) if windows else None
        return Prediction(
            self.scan,
            growth.mosaic,
            roi=self.roi,
            is_quiet=not growth.mosaic.open_faces() and not growth.has_gaps,
            seconds=self._clock.seconds,
            source=self._source,
        )

    def _guide(self, prompts: PlacedPrompts, answers: Answers) -> Volume | None:
        """Return what tells where the object lies: a window of a coarser spacing, else its mask."""
        for window, answer in answers.items():
            if window.level > 0:
                return lay_out({window: answer.logits[0, 0]}, self.scan.grid(window.level)).volume
        return prompts.mask

    def _open_windows(
        self, prompts: PlacedPrompts, new: PlacedPrompts, known: Sequence[Window]
    ) -> list[Window]:
        """Lay windows around new prompts that no known window holds."""
        roi_size, opened = self._reader.network.roi_size, []
        if not known:
            first = self._start or first_window(prompts, self.scan, roi_size, alone=not self._grow)
            opened += [] if first is None else [first]
        for point in self.scan.place(new.positive):
            fine = [window for window in [*known, *opened] if window.level == 0]
            if any(window.holds(point[None])[0] for window in fine):
                continue
            if not self._grow:
                place = self.scan.to_scan(point[None])[0].tolist()
                raise ValueError(f"points must lie in the window if it may not grow, got {place}")
            opened.append(window_around(point, self.scan, roi_size))
        return opened

    def _without_silent_start(self, asked: list[Window], prompts: PlacedPrompts) -> list[Window]:
        """Leave out the start if all prompts lie in other windows, between which it was laid."""
        if len(asked) == 1 or prompts.has_mask:
            return asked
        return [w for w in asked if w != self._start or self._reader.concerns(w, prompts)]

    def _with_box_as_point(self, new: PlacedPrompts) -> PlacedPrompts:
        """Give a network without box prompts a point in the middle of the box."""
        if new.box is None or self._reader.network.takes_boxes:
            return new
        _warn_of_box()
        points = np.concatenate([new.points, new.box.mean(axis=0)[None]])
        return replace(new, points=points, labels=np.append(new.labels, 1))


def _logits_of(answers: Answers) -> dict[Window, Tensor]:
    """Return the logits (D, H, W) of the windows of level 0."""
    return {window: answer.logits[0, 0] for window, answer in answers.items() if window.level == 0}


@cache
def _warn_of_box() -> None:
    logger.warning("the network was built without box prompts: a box stands for its middle point")
