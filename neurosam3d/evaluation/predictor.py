"""What an evaluation asks of what segments: `neurosam3d.inference.Predictor` answers clicks,
`PromptFreeSegmenter` needs none.

Shapes: D H W the scan's own grid.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from neurosam3d.volume import Grid, Volume


class Answer(Protocol):
    """What a predictor says to the prompts of one object."""

    @property
    def mask(self) -> np.ndarray:
        """Foreground (D, H, W) on the scan's grid, 0 and 1."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Time it took, by part: `encode`, `decode` and others."""

    @property
    def num_windows(self) -> int:
        """How many windows were decoded."""


class Session(Protocol):
    """The prompts of one object, one after the other."""

    @property
    def roi(self) -> Grid | None:
        """Where the first window lies, once that is known."""

    def add_point(self, point: Sequence[float], label: int) -> Answer:
        """Add a click at a voxel (d, h, w) of the scan, 1 inside the object or 0 outside."""

    def add_points(self, points: np.ndarray, labels: Sequence[int] | np.ndarray) -> Answer:
        """Add clicks (n, 3) with their labels (n,), all at once."""


class Predictor(Protocol):
    """Whatever answers clicks on a scan."""

    def set_image(self, image: Volume) -> object:
        """Take another scan."""

    def open_session(
        self, *, roi_center: Sequence[float] | None = None, grow: bool = True
    ) -> Session:
        """Begin a new object.

        Args:
            roi_center: Voxel of the scan on which the window is centred, wherever it comes to lie;
                by default the window follows from the prompts.
            grow: Whether windows are added where the mask goes on beyond them.
        """


class LabelMap(Protocol):
    """What a network without prompts says about a scan."""

    @property
    def labels(self) -> np.ndarray:
        """uint8 (D, H, W): 0 background, k the k-th class."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their values."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Time it took, by part."""

    @property
    def num_windows(self) -> int:
        """How many windows were segmented."""


class Segmenter(Protocol):
    """Whatever segments a scan by itself."""

    def segment(self, image: Volume) -> LabelMap:
        """Segment a scan."""
