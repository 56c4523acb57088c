"""Pictures of a case: the scan in three planes, the truth, and what the clicks made of it.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; clicks differ in shape too.
Matplotlib is used through its objects, so no state or backend of the caller's is touched.

Shapes: B batch, D H W volume; canonical axes run to the Right, Anterior and Superior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from neurosam3d.evaluation.protocol import Round
from neurosam3d.evaluation.scene import Answer, Scene, arrange_scene
from neurosam3d.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH_COLOUR, PREDICTION_COLOUR = "#F0E442", "#56B4E9"
CLICK_STYLES = {1: ("+", "#009E73", "positive click"), 0: ("x", "#D55E00", "negative click")}
WIDTH_INCHES = 11.0
MAX_ROW_INCHES = 6.0


@dataclass(frozen=True)
class View:
    """A plane through a canonical volume: the axis it cuts, and those that run across and up.

    The across axis is drawn from high to low, as in radiology: the patient's right, or front, is
    on the left.
    """

    name: str
    cut: int
    across: int
    up: int
    ends: str


VIEWS = (
    View("axial", cut=2, across=0, up=1, ends="RLA"),
    View("coronal", cut=1, across=0, up=2, ends="RLS"),
    View("sagittal", cut=0, across=1, up=2, ends="APS"),
)


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
        rounds: The item's rounds, as `run_clicks` returns them.
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rounds:
        raise ValueError("a picture needs at least one round, got none")
    selected = [entry for entry in rounds if entry.clicks in clicks] or [rounds[-1]]
    scene = arrange_scene(image, truth, selected, affine=affine, item=item)
    extent_mm = (scene.shown[1] - scene.shown[0] + 1) * scene.spacing
    widths = [extent_mm[view.across] for view in VIEWS]
    # One scale in mm for all panels if the rows stay low enough; the rest is for titles.
    row_inches = min(WIDTH_INCHES * max(extent_mm[1:]) / sum(widths), MAX_ROW_INCHES) + 0.6
    size = (WIDTH_INCHES, row_inches * len(selected) + 0.8)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    rows = figure.subfigures(len(selected), 1, squeeze=False)[:, 0]
    for row, answer in zip(rows, scene.answers, strict=True):
        row.suptitle(_row_title(answer), fontsize="medium", fontweight="bold")
        panels = row.subplots(1, 3, width_ratios=widths)
        for panel, view in zip(panels, VIEWS, strict=True):
            _draw_panel(panel, scene, answer, view)
    figure.legend(handles=_legend_handles(), loc="outside lower center", ncols=5, frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
    return path


def _row_title(answer: Answer) -> str:
    return f"{answer.clicks} click{'s' * (answer.clicks != 1)}: Dice {answer.dice:.3f}"


def _draw_panel(panel: "Axes", scene: Scene, answer: Answer, view: View) -> None:
    index = int(scene.slices[view.cut])
    image, truth, prediction = (
        volume.take(index, view.cut).T  # (up, across): the lower axis number runs across
        for volume in (scene.image, scene.truth, answer.prediction)
    )
    black, white = np.percentile(scene.image, (1, 99.5))
    panel.imshow(image, cmap="gray", vmin=black, vmax=white, origin="lower", aspect="auto")
    _draw_mask(panel, prediction, PREDICTION_COLOUR, opacity=0.35)
    _draw_mask(panel, truth, TRUTH_COLOUR, opacity=0.0)
    _draw_clicks(panel, answer, view, index)
    low, high = scene.shown
    panel.set_xlim(high[view.across] + 0.5, low[view.across] - 0.5)
    panel.set_ylim(low[view.up] - 0.5, high[view.up] + 0.5)
    panel.set_aspect(scene.spacing[view.up] / scene.spacing[view.across])
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_title(view.name, fontsize="small")
    for letter, (x, y) in zip(view.ends, ((0.03, 0.5), (0.97, 0.5), (0.5, 0.95)), strict=True):
        text = panel.text(x, y, letter, transform=panel.transAxes, color="white", fontsize="small")
        text.set(ha="center", va="center", path_effects=_halo("black"))


def _draw_mask(panel: "Axes", mask: np.ndarray, colour: str, *, opacity: float) -> None:
    """Outline a mask (up, across) and, with some opacity, fill it."""
    if not mask.any():
        return
    # A rim of background closes the outline of an object that touches the border.
    rim = np.pad(mask, 1).astype(float)
    up, across = (np.arange(-1, side + 1) for side in mask.shape)
    panel.contour(across, up, rim, levels=[0.5], colors=colour, linewidths=1.6)
    if opacity:
        panel.contourf(across, up, rim, levels=[0.5, 1.5], colors=colour, alpha=opacity)


def _draw_clicks(panel: "Axes", answer: Answer, view: View, index: int) -> None:
    for number, (point, label) in enumerate(zip(answer.points, answer.labels, strict=True), 1):
        if label not in CLICK_STYLES:
            continue
        marker, colour, _ = CLICK_STYLES[label]
        x, y = point[view.across], point[view.up]
        (mark,) = panel.plot(x, y, marker)
        text = panel.annotate(str(number), (x, y), xytext=(5, 4), textcoords="offset points")
        for artist in (mark, text):
            artist.set(color=colour, path_effects=_halo("white"))
        text.set_fontweight("bold")
        if round(point[view.cut]) == index:
            mark.set(markersize=11, markeredgewidth=3)
        else:
            mark.set(markersize=6, markeredgewidth=1.5)
            text.set_fontsize("x-small")


def _halo(colour: str) -> list[Any]:
    """Return the effect that keeps thin marks readable on any grey."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground=colour)]


def _legend_handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    clicks = [
        Line2D([], [], linestyle="", marker=marker, color=colour, ms=10, mew=2.5, label=label)
        for marker, colour, label in CLICK_STYLES.values()
    ]
    prediction = Patch(facecolor=PREDICTION_COLOUR + "59", edgecolor=PREDICTION_COLOUR)
    prediction.set(linewidth=1.6, label="prediction")
    elsewhere = Line2D([], [], linestyle="", label="small: click in another slice")
    truth = Line2D([], [], color=TRUTH_COLOUR, lw=2, label="truth")
    return [truth, prediction, *clicks, elsewhere]
