"""3DSAM-adapter's evaluation (arXiv:2306.13465, and its published program): some voxels of the
object are given at once, in one window around them.

Shapes: D H W the scan's own grid; n clicks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neurosam3d.evaluation.foreground_box import find_foreground
from neurosam3d.evaluation.predictor import Predictor
from neurosam3d.evaluation.protocol import Step, answered_mask, click_generator, require_object
from neurosam3d.prompts import draw_voxels, to_indices
from neurosam3d.volume import Grid

NAME = "adapter3d"
TOLERANCE_MM = 5.0  # of the surface Dice, as published


@dataclass(frozen=True)
class Adapter3DProtocol:
    """Voxels of the object, drawn uniformly with replacement, all inside and none outside.

    The window is centred on the middle of the clicks, floor((lowest + highest) / 2) along each of
    the scan's axes, and padded where it leaves the scan. The published program looks at nothing
    else, so that it misses what lies further out; that is `max_windows` 1 of the predictor. With
    more, windows are added where clicks lie outside, and where the mask goes on.

    Fewer clicks are the first of more: rounds differ by the clicks that were added, not by luck.

    Args:
        num_prompts: Numbers of clicks; each is a round of its own, which starts anew.
        seed: Decides the clicks, together with the names of the case.

    Raises:
        ValueError: If there is no number, or one is not positive.
    """

    num_prompts: Sequence[int] = (1,)
    seed: int = 2023

    def __post_init__(self) -> None:
        if not self.num_prompts or min(self.num_prompts) < 1:
            raise ValueError(
                f"num_prompts must be numbers of at least 1, got {list(self.num_prompts)}"
            )

    @property
    def clicks(self) -> Sequence[int]:
        """The numbers of clicks after which there is a mask, in ascending order."""
        return sorted(set(self.num_prompts))

    def generator(self, *names: str, repeat: int = 0) -> torch.Generator:
        """Return the source of an object's clicks; see `click_generator`."""
        return click_generator(self.seed + repeat, *names)

    def play(
        self, predictor: Predictor, truth: np.ndarray, *, grid: Grid, generator: torch.Generator
    ) -> Iterator[Step]:
        """Click an object of the predictor's scan and yield what stands after each number.

        Args:
            predictor: It has the scan already.
            truth: Boolean reference (D, H, W) with at least one voxel.
            grid: The scan's.
            generator: Source of the clicks.

        Raises:
            ValueError: If the truth is empty, not on the scan's grid, or the predictor answers on
                another one.
        """
        require_object(truth, grid)
        drawn = draw_clicks(truth, self.clicks[-1], generator=generator)
        for number in self.clicks:
            points, labels = drawn[:number], np.ones(number, dtype=int)
            session = predictor.open_session(roi_center=window_centre(points).tolist())
            answer = session.add_points(points, labels)
            mask = answered_mask(answer, grid)
            yield Step(points, labels, mask, dict(answer.seconds), answer.num_windows)


def draw_clicks(truth: np.ndarray, number: int, *, generator: torch.Generator) -> np.ndarray:
    """Draw voxels (n, 3) of an object (D, H, W), uniformly and with replacement."""
    found = find_foreground(truth)
    inside = torch.from_numpy(np.ascontiguousarray(found.voxels > 0))[None, None]
    # One by one, so that fewer are the first of more whatever the number.
    voxels = [draw_voxels(inside, 1, generator=generator)[0] for _ in range(number)]
    points = to_indices(torch.cat(voxels, dim=1), inside.shape)[0]  # (n, 3)
    return found.corner + points.numpy().astype(int)


def window_centre(points: np.ndarray) -> np.ndarray:
    """Return the voxel (3,) in the middle of clicks (n, 3), on which their window is centred."""
    return (points.min(axis=0) + points.max(axis=0)) // 2
