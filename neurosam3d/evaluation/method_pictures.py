"""A picture of methods side by side: a row per case, a column per method.

Each panel is the axial slice that cuts most of the true object, with the contours of the truth and
of the method's last mask. All methods of a row show the same slice and the same part of it.

Shapes: D H W the scan's grid.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.panels import (
    VIEWS,
    draw_image,
    draw_mask,
    mask_handle,
    new_figure,
    save_figure,
)
from neurosam3d.evaluation.plots import PREDICTION_COLOUR, TRUTH_COLOUR
from neurosam3d.evaluation.protocol import bounding_box
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.tables import show_clicks
from neurosam3d.files import replacing
from neurosam3d.volume import Volume, to_canonical

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN_MM = 30.0  # least surroundings shown around the true object
_OPACITY = 0.3  # of what a mask is filled with
_AXIAL = VIEWS[0]
_HEAD_INCHES, _FOOT_INCHES, _CAPTION_INCHES, _NAME_INCHES = 0.5, 0.4, 0.3, 0.5
_LETTERS_PER_INCH = 10  # of a heading


@dataclass(frozen=True, eq=False)
class Tile:
    """What one panel shows.

    Args:
        image: Intensities (up, across).
        truth: Boolean reference (up, across).
        prediction: Boolean mask (up, across).
        spacing: Voxel side in mm along the canonical axes (3,).
        dice: Dice of the whole mask.
        clicks: After how many clicks.
        boxes: How many boxes were given, in place of clicks.
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    spacing: np.ndarray
    dice: float
    clicks: int
    boxes: int = 0

    @property
    def prompts(self) -> str:
        """What was given, in words."""
        if self.boxes:
            return "1 box" if self.boxes == 1 else f"{self.boxes} boxes"
        return show_clicks(self.clicks)

    @property
    def sides_mm(self) -> tuple[float, float]:
        """Its height and width."""
        up, across = self.image.shape
        return up * float(self.spacing[_AXIAL.up]), across * float(self.spacing[_AXIAL.across])

    def write(self, path: Path) -> None:
        """Keep it as NumPy's .npz; the file appears whole or not at all."""
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def read(cls, path: Path) -> "Tile":
        """Read what `write` has written."""
        with np.load(path, allow_pickle=False) as content:
            values = {key: content[key] for key in content.files}
        numbers = {key: int(values[key]) for key in ("clicks", "boxes") if key in values}
        return cls(**{**values, "dice": float(values["dice"]), **numbers})


def choose_typical(cases: Sequence[CaseResult], number: int) -> list[CaseResult]:
    """Choose objects that stand for all: evenly spaced in the order of their last Dice.

    One is the median; two are the quartiles. Nothing is chosen by how it looks.

    Args:
        cases: The results of one method; of an object's repeats the first.
        number: How many, if there are as many objects.
    """
    once = [case for case in cases if case.rounds and not case.repeat]
    ordered = sorted(once, key=lambda case: (case.rounds[-1].dice, case.object))
    number = min(number, len(ordered))
    return [ordered[(2 * place + 1) * len(ordered) // (2 * number)] for place in range(number)]


def cut_tile(judged: Judged) -> Tile:
    """Cut what a panel shows out of an object that was judged; its truth has a voxel."""
    image, truth, step = judged.image, judged.truth, judged.shown[-1]
    box = bounding_box(truth)
    if box is None:
        raise ValueError("a picture of an object needs a truth with a voxel, got none")
    margin = np.maximum(MARGIN_MM / np.array(image.spacing), np.ptp(box, axis=0) / 4)
    low = np.floor(box[0] - margin).clip(0).astype(int)
    high = np.minimum(np.ceil(box[1] + margin) + 1, image.shape).astype(int)
    crop = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    masks = (torch.from_numpy(np.ascontiguousarray(m[crop])) for m in (truth, step.mask))
    stack = torch.stack([image.data[0][crop].float(), *(m.float() for m in masks)])
    volume = to_canonical(Volume(stack, image.grid.window(low, high - low).affine))  # (3, D, H, W)
    voxels = volume.data.numpy()
    index = int((voxels[1] > 0).sum(axis=(0, 1)).argmax())
    scan, reference, prediction = voxels.take(index, 1 + _AXIAL.cut).transpose(0, 2, 1)
    return Tile(
        scan,
        reference > 0,
        prediction > 0,
        np.array(volume.spacing),
        dice=judged.result.rounds[-1].dice,
        clicks=step.clicks,
        boxes=step.boxes,
    )


def plot_methods(
    path: Path, rows: Mapping[str, Mapping[str, Tile]], *, methods: Sequence[str]
) -> Path:
    """Draw methods side by side.

    Args:
        path: PNG file to write; it appears whole or not at all.
        rows: Name of the case -> method -> tile; without methods that have none, but at least one.
        methods: The columns, in their order.

    Returns:
        The path.

    Raises:
        ValueError: If there is no row, or one without a tile.
    """
    if not rows or not all(rows.values()):
        raise ValueError("a picture of methods needs rows with a tile each, got one without")
    firsts = [next(iter(row.values())) for row in rows.values()]  # all of a row show one slice
    ratios = [up / across for up, across in (first.sides_mm for first in firsts)]
    figure = new_figure(1.0)  # the height follows from the width of a column
    column_inches = (figure.get_figwidth() - _NAME_INCHES) / len(methods)
    heights = [ratio * column_inches + _CAPTION_INCHES for ratio in ratios]
    figure.set_figheight(sum(heights) + _HEAD_INCHES + _FOOT_INCHES)
    grid = figure.subplots(len(rows), len(methods), squeeze=False, height_ratios=heights)
    for line, (name, row), first, ratio in zip(grid, rows.items(), firsts, ratios, strict=True):
        black, white = np.percentile(first.image, (1, 99.5)).tolist()
        for panel, method in zip(line, methods, strict=True):
            _draw_panel(panel, row.get(method), window=(black, white))
            panel.set_box_aspect(ratio)
        line[0].set_ylabel(name, fontsize="small")
    for panel, method in zip(grid[0], methods, strict=True):
        title = textwrap.fill(method, width=int(column_inches * _LETTERS_PER_INCH))
        panel.set_title(title, fontsize="medium", fontweight="bold")
    handles = [
        mask_handle(TRUTH_COLOUR, "truth", opacity=0.0),
        mask_handle(PREDICTION_COLOUR, "method", opacity=_OPACITY),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return save_figure(figure, path)


def _draw_panel(panel: "Axes", tile: Tile | None, *, window: tuple[float, float]) -> None:
    """Draw a method's answer with its Dice below, or say that there is none."""
    if tile is None:
        panel.set(xticks=[], yticks=[], frame_on=False)
        panel.text(0.5, 0.5, "not judged", transform=panel.transAxes, ha="center", color="0.4")
        return
    up, across = tile.image.shape
    shown = np.zeros((2, 3), dtype=int)
    shown[1, _AXIAL.up], shown[1, _AXIAL.across] = up - 1, across - 1
    draw_image(panel, tile.image, _AXIAL, window=window, shown=shown, spacing=tile.spacing)
    draw_mask(panel, tile.prediction, PREDICTION_COLOUR, opacity=_OPACITY)
    draw_mask(panel, tile.truth, TRUTH_COLOUR, opacity=0.0)
    panel.set_title("")
    said = f"Dice {tile.dice:.3f}, {tile.prompts}"
    panel.set_xlabel(said, fontsize="small")
