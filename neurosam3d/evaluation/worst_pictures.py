"""Pictures of the objects that were segmented worst, as an evaluation goes on.

Shapes: D H W the scan's grid.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.plots import plot_case
from neurosam3d.evaluation.protocol import Step, bounding_box
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.scene import Round
from neurosam3d.evaluation.session_files import safe_name
from neurosam3d.prompts import Prompts

MARGIN_MM = 60.0  # of what is drawn; beyond it a large scan only costs memory


class WorstPictures:
    """A folder with pictures of the objects whose Dice after the last click is lowest.

    Only an object's first repeat is drawn. Pictures of objects that no longer belong to the worst
    are deleted.

    Args:
        folder: Where the pictures are; other pictures in it are deleted.
        most: How many are kept.
        results: Results of the same evaluation whose pictures are there already, if they are due.
    """

    def __init__(self, folder: Path, *, most: int = 5, results: Iterable[CaseResult] = ()) -> None:
        self.folder = folder
        self.most = most
        self._dice: dict[Path, float] = {}
        for result in results:
            self._rank(result)
        for path in folder.glob("*.png"):
            if path not in self._dice:
                path.unlink(missing_ok=True)  # maybe by another process by now

    def offer(self, judged: Judged) -> None:
        """Draw an object if it belongs to the worst so far."""
        path = self._rank(judged.result)
        if path is not None:
            _draw(path, judged)

    def paths(self) -> list[Path]:
        """Return the pictures, the worst first."""
        return [path for path in self._dice if path.is_file()]

    def _rank(self, result: CaseResult) -> Path | None:
        """Put an object among the worst, whatever falls out then, and return its picture's path."""
        if result.repeat or not result.rounds or not self.most:
            return None
        own = self.folder / f"{safe_name('_'.join(result.object))}.png"
        self._dice[own] = result.rounds[-1].dice
        ordered = sorted(self._dice.items(), key=lambda item: (item[1], item[0]))
        self._dice = dict(ordered[: self.most])
        for path, _ in ordered[self.most :]:
            if path != own:
                path.unlink(missing_ok=True)
        return own if own in self._dice else None


def _draw(path: Path, judged: Judged) -> None:
    """Draw what an object looks like after its first and last click."""
    image, truth = judged.image, judged.truth
    marked = [truth, judged.shown[-1].mask]
    corners = [box for box in map(bounding_box, marked) if box is not None]
    points = [step.points[step.labels >= 0] for step in judged.shown]
    places = np.concatenate([*corners, *points])
    margin = np.maximum(MARGIN_MM / np.array(image.spacing), np.ptp(places, axis=0) + 1)
    low = np.maximum(np.floor(places.min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(places.max(0) + margin) + 1, image.shape).astype(int)
    crop = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    grid = image.grid.window(low, high - low)
    dices = [judged.result.rounds[index].dice for index in (0, -1)]
    plot_case(
        path,
        image.data[(slice(None), *crop)][None],
        torch.from_numpy(truth[crop])[None, None],
        [_round(step, dice, crop) for step, dice in zip(judged.shown, dices, strict=False)],
        affine=grid.affine,
        clicks=[step.clicks for step in judged.shown],
        title=" ".join(judged.result.object),
    )


def _round(step: Step, dice: float, crop: tuple[slice, ...]) -> Round:
    """Turn a round on the whole scan into one on a part of it, a batch of one."""
    points = torch.from_numpy(step.points - [along.start for along in crop]).float()
    return Round(
        Prompts(points[None], torch.from_numpy(step.labels)[None]),
        torch.from_numpy(step.mask[crop])[None, None],
        torch.tensor([dice]),
    )
