"""What pictures are made of: planes through a canonical volume, with masks, clicks and boxes.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; clicks differ in shape too.
Matplotlib is used through its objects, so no state or backend of the caller's is touched.

Canonical axes run to the Right, Anterior and Superior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosam3d.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colour = str | tuple[float, float, float]

CLICK_STYLES = {1: ("+", "#009E73", "positive click"), 0: ("x", "#D55E00", "negative click")}
WIDTH_INCHES = 11.0
MAX_ROW_INCHES = 6.0
TITLE_INCHES = 0.6  # of a row, for its heading and those of its panels


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


def panel_widths(extent_mm: np.ndarray) -> list[float]:
    """Return the relative widths of the three panels of a row that shows so many mm (3,)."""
    return [float(extent_mm[view.across]) for view in VIEWS]


def row_inches(extent_mm: np.ndarray) -> float:
    """Return the height of a row: one scale in mm for its panels, if it stays low enough."""
    height = WIDTH_INCHES * max(extent_mm[1:]) / sum(panel_widths(extent_mm))
    return float(min(height, MAX_ROW_INCHES)) + TITLE_INCHES


def new_figure(height_inches: float) -> "Figure":
    """Return an empty figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: Path) -> Path:
    """Write a figure as PNG and return its path; the file appears whole or not at all."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
    return path


def draw_image(
    panel: "Axes",
    image: np.ndarray,
    view: View,
    *,
    window: tuple[float, float],
    shown: np.ndarray,
    spacing: np.ndarray,
) -> None:
    """Draw a slice in its physical proportions, and say where its sides are in the patient.

    Args:
        panel: Where to draw.
        image: Intensities (up, across).
        view: Which plane it is.
        window: The intensities drawn black and white.
        shown: First and last voxel to show along each axis (2, 3).
        spacing: Voxel side in mm along each axis (3,).
    """
    black, white = window
    panel.imshow(image, cmap="gray", vmin=black, vmax=white, origin="lower", aspect="auto")
    low, high = shown
    panel.set_xlim(high[view.across] + 0.5, low[view.across] - 0.5)
    panel.set_ylim(low[view.up] - 0.5, high[view.up] + 0.5)
    panel.set_aspect(spacing[view.up] / spacing[view.across])
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_title(view.name, fontsize="small")
    for letter, (x, y) in zip(view.ends, ((0.03, 0.5), (0.97, 0.5), (0.5, 0.95)), strict=True):
        text = panel.text(x, y, letter, transform=panel.transAxes, color="white", fontsize="small")
        text.set(ha="center", va="center", path_effects=_halo("black"))


def draw_mask(
    panel: "Axes", mask: np.ndarray, colour: Colour, *, opacity: float, width: float = 1.6
) -> None:
    """Outline a mask (up, across) and, with some opacity, fill it."""
    if not mask.any():
        return
    # A rim of background closes the outline of an object that touches the border.
    rim = np.pad(mask, 1).astype(float)
    up, across = (np.arange(-1, side + 1) for side in mask.shape)
    panel.contour(across, up, rim, levels=[0.5], colors=[colour], linewidths=width)
    if opacity:
        panel.contourf(across, up, rim, levels=[0.5, 1.5], colors=[colour], alpha=opacity)


def draw_clicks(
    panel: "Axes", points: np.ndarray, labels: Sequence[int] | np.ndarray, view: View, *, index: int
) -> None:
    """Mark clicks by number: large in the drawn slice, small in front of it or behind it.

    Args:
        panel: Where to draw.
        points: Voxel indices (n, 3).
        labels: Their labels (n,); those that are neither 1 nor 0 are no clicks.
        view: Which plane is drawn.
        index: Its voxel along the axis it cuts.
    """
    for number, (point, label) in enumerate(zip(points, labels, strict=True), 1):
        if label not in CLICK_STYLES:
            continue
        marker, colour, _ = CLICK_STYLES[int(label)]
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


def draw_box(panel: "Axes", box: np.ndarray, view: View) -> None:
    """Draw the sides of a box prompt, corners (2, 3) included, whatever slice is shown."""
    from matplotlib.patches import Rectangle

    low, high = box.min(axis=0) - 0.5, box.max(axis=0) + 0.5
    corner = (low[view.across], low[view.up])
    width, height = high[view.across] - corner[0], high[view.up] - corner[1]
    frame = Rectangle(corner, width, height, fill=False, edgecolor="white", linestyle="--")
    frame.set(linewidth=1.2, path_effects=_halo("black"))
    panel.add_patch(frame)


def click_handles() -> list[Any]:
    """Return what a legend says of clicks."""
    from matplotlib.lines import Line2D

    clicks = [
        Line2D([], [], linestyle="", marker=marker, color=colour, ms=10, mew=2.5, label=label)
        for marker, colour, label in CLICK_STYLES.values()
    ]
    return [*clicks, Line2D([], [], linestyle="", label="small: click in another slice")]


def mask_handle(colour: Colour, label: str, *, opacity: float) -> Any:
    """Return what a legend says of a mask."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    patch = Patch(facecolor=to_rgba(colour, opacity), edgecolor=colour)
    patch.set(linewidth=1.6, label=label)
    return patch


def _halo(colour: str) -> list[Any]:
    """Return the effect that keeps thin marks readable on any grey."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground=colour)]
