"""Pictures of a case: the scan in three planes, the truth, and what the clicks made of it.

Shapes: B batch, D H W volume; canonical axes run to the Right, Anterior and Superior.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from neurosam3d.evaluation.panels import (
    VIEWS,
    View,
    click_handles,
    draw_clicks,
    draw_image,
    draw_mask,
    mask_handle,
    new_figure,
    panel_widths,
    row_inches,
    save_figure,
)
from neurosam3d.evaluation.scene import Answer, Round, Scene, arrange_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH_COLOUR, PREDICTION_COLOUR = "#F0E442", "#56B4E9"
OPACITY = 0.35  # of what a mask is filled with
LEGEND_INCHES = 0.8


def plot_case(
    path: Path,
    image: Tensor,
    truth: Tensor,
    rounds: Sequence[Round],
    *,
    affine: np.ndarray,
    item: int = 0,
    clicks: Sequence[int] = (1, 5),
    title: str = "",
) -> Path:
    """Draw one item of an interactive evaluation, a row of three planes per selected round.

    Each plane is the one that cuts most of the object, in its physical proportions. Clicks in the
    drawn slice are large, those in front of it or behind it small.

    Args:
        path: PNG file to write; it appears whole or not at all.
        image: Intensities (B, 1, D, H, W), of any range.
        truth: Reference (B, 1, D, H, W), foreground above 0.
        rounds: The item's rounds, fewest clicks first.
        affine: (4, 4) matrix from voxel indices to RAS+ millimetres.
        item: Which item of the batch to draw.
        clicks: Numbers of clicks after which the prediction is shown. If the rounds have none of
            them, the last round is.
        title: Heading of the picture.

    Returns:
        The path.

    Raises:
        ValueError: If there is no round.
    """
    if not rounds:
        raise ValueError("a picture needs at least one round, got none")
    selected = [entry for entry in rounds if entry.clicks in clicks] or [rounds[-1]]
    scene = arrange_scene(image, truth, selected, affine=affine, item=item)
    extent_mm = (scene.shown[1] - scene.shown[0] + 1) * scene.spacing
    figure = new_figure(row_inches(extent_mm) * len(selected) + LEGEND_INCHES)
    figure.suptitle(title)
    rows = figure.subfigures(len(selected), 1, squeeze=False)[:, 0]
    for row, answer in zip(rows, scene.answers, strict=True):
        row.suptitle(_row_title(answer), fontsize="medium", fontweight="bold")
        panels = row.subplots(1, 3, width_ratios=panel_widths(extent_mm))
        for panel, view in zip(panels, VIEWS, strict=True):
            _draw_panel(panel, scene, answer, view)
    figure.legend(handles=_legend_handles(), loc="outside lower center", ncols=5, frameon=False)
    return save_figure(figure, path)


def _row_title(answer: Answer) -> str:
    return f"{answer.clicks} click{'s' * (answer.clicks != 1)}: Dice {answer.dice:.3f}"


def _draw_panel(panel: "Axes", scene: Scene, answer: Answer, view: View) -> None:
    index = int(scene.slices[view.cut])
    image, truth, prediction = (
        volume.take(index, view.cut).T  # (up, across): the lower axis number runs across
        for volume in (scene.image, scene.truth, answer.prediction)
    )
    black, white = np.percentile(scene.image, (1, 99.5)).tolist()
    draw_image(panel, image, view, window=(black, white), shown=scene.shown, spacing=scene.spacing)
    draw_mask(panel, prediction, PREDICTION_COLOUR, opacity=OPACITY)
    draw_mask(panel, truth, TRUTH_COLOUR, opacity=0.0)
    draw_clicks(panel, answer.points, answer.labels, view, index=index)


def _legend_handles() -> list[Any]:
    from matplotlib.lines import Line2D

    truth = Line2D([], [], color=TRUTH_COLOUR, lw=2, label="truth")
    prediction = mask_handle(PREDICTION_COLOUR, "prediction", opacity=OPACITY)
    return [truth, prediction, *click_handles()]
