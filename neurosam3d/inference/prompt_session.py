"""What can be said of one object, round by round, whatever the network looks at."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from neurosam3d.inference.object_prompts import (
    Coordinates,
    MaskPrompt,
    ObjectPrompts,
    PlacedPrompts,
    place_prompts,
)
from neurosam3d.inference.prediction import Prediction
from neurosam3d.inference.stopwatch import Stopwatch
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.volume import Grid

Round = TypeVar("Round")


class PromptSession(ABC, Generic[Round]):
    """The rounds about one object.

    Args:
        scan: The scan that it is in.
        clock: Adds up the seconds of a round.
        nothing: The round before anything was said.
    """

    def __init__(self, scan: WorkingScan, clock: Stopwatch, nothing: Round) -> None:
        self.scan = scan
        self._clock = clock
        self._rounds = [nothing]

    @property
    @abstractmethod
    def roi(self) -> Grid | None:
        """Where the network looks first, on the working grid; None while that is not known."""

    @abstractmethod
    def add_placed(self, new: PlacedPrompts) -> Prediction:
        """Give prompts in voxel indices of the scan, as one round, and predict.

        Raises:
            ValueError: If nothing says yet where the object is.
        """

    @abstractmethod
    def _predict(self) -> Prediction:
        """Return what follows from the last round."""

    def undo(self) -> Prediction:
        """Take the last round back and return the prediction before it.

        Raises:
            ValueError: If there is no round to take back.
        """
        if len(self._rounds) == 1:
            raise ValueError("undo needs a round to take back, got none")
        self._rounds.pop()
        self._clock.restart()
        return self._predict()

    def reset(self) -> Prediction:
        """Forget all rounds and return the empty prediction."""
        del self._rounds[1:]
        self._clock.restart()
        return self._predict()

    def add_point(
        self, point: Sequence[float] | np.ndarray, label: int, *, world: bool = False
    ) -> Prediction:
        """Add a point and predict.

        Args:
            point: Voxel index (3,) of the scan, or RAS+ millimetres.
            label: 1 inside the object, 0 outside.
            world: The point is in millimetres.

        Raises:
            ValueError: If it lies outside the scan, the label is neither, or nothing says yet
                where the object is.
        """
        points = np.asarray(point, dtype=np.float64)[None]
        return self.add_points(points, [label], world=world)

    def add_points(
        self, points: Coordinates, labels: Sequence[int] | np.ndarray, *, world: bool = False
    ) -> Prediction:
        """Add points, all at once, and predict.

        Args:
            points: Voxel indices (N, 3) of the scan, or RAS+ millimetres.
            labels: One per point, as in `add_point`.
            world: The points are in millimetres.

        Raises:
            ValueError: As `add_point`.
        """
        return self.add(ObjectPrompts(points=points, labels=labels, world=world))

    def set_box(self, box: Coordinates, *, world: bool = False) -> Prediction:
        """Give a box, in place of an earlier one, and predict.

        Args:
            box: Lowest and highest corner (2, 3), both included.
            world: The box is in RAS+ millimetres.

        Raises:
            ValueError: If it is no box or lies outside the scan.
        """
        return self.add(ObjectPrompts(box=box, world=world))

    def set_mask(self, mask: MaskPrompt) -> Prediction:
        """Give a mask, in place of all that was answered before, and predict.

        Args:
            mask: As in `ObjectPrompts`.

        Raises:
            ValueError: If it cannot be read or does not fit the scan.
        """
        return self.add(ObjectPrompts(mask=mask))

    def add(self, prompts: ObjectPrompts) -> Prediction:
        """Give any number of prompts at once, as one round, and predict.

        Raises:
            ValueError: If one of them is unfit, or nothing says yet where the object is.
        """
        return self.add_placed(place_prompts(prompts, self.scan.volume.grid))
