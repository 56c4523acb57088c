"""Pictures of what was segmented in a scan: three planes, contours, clicks and boxes; no truth.

A few objects get a row each, cut where they are; many are shown together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from neurosam3d.evaluation.object_scene import ObjectScene, arrange_objects
from neurosam3d.evaluation.panels import (
    VIEWS,
    Colour,
    View,
    click_handles,
    draw_box,
    draw_clicks,
    draw_image,
    draw_mask,
    mask_handle,
    new_figure,
    panel_widths,
    row_inches,
    save_figure,
)
from neurosam3d.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Window = Callable[[np.ndarray, np.ndarray], tuple[float, float]]
"""Returns the intensities to draw black and white, of an image and the mask of what matters."""

MAX_ROWS = 6
MAX_NAMED = 28  # in the legend of many objects
_OPACITY = 0.25  # of what an object is filled with
_NAMES_IN_A_ROW = 7
_LINE_INCHES = 0.25


@dataclass(frozen=True, eq=False)
class DrawnObject:
    """An object of a label map, and how it was asked for.

    Args:
        name: Its name.
        colour: How to draw it.
        points: Clicks (n, 3), voxel indices of the scan.
        labels: Their labels (n,): 1 inside, 0 outside.
        box: Corners (2, 3) of a box prompt, both included.
    """

    name: str
    colour: Colour
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    labels: Sequence[int] = ()
    box: np.ndarray | None = None

    @property
    def marks(self) -> np.ndarray:
        """All voxel indices (n, 3) of the prompts."""
        corners = np.zeros((0, 3)) if self.box is None else self.box
        return np.concatenate([self.points, corners])


def percentile_window(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return the intensities to draw black and white, of any kind of image."""
    black, white = np.percentile(image, (1, 99.5)).tolist()
    return black, white


def plot_objects(
    path: Path,
    image: Volume,
    values: np.ndarray,
    objects: Sequence[DrawnObject],
    *,
    window: Window = percentile_window,
    title: str = "",
) -> Path:
    """Draw the objects of a scan, or the scan alone if there are none.

    Up to six objects get a row each, whose planes cut most of that object; more are drawn in one
    row, whose planes show them best together. Clicks in the drawn slice are large, those in front
    of it or behind it small.

    Args:
        path: PNG file to write; it appears whole or not at all.
        image: The scan, (1, D, H, W), any axes.
        values: Its label map (D, H, W): n is the n-th object.
        objects: What the values mean.
        window: Chooses black and white, a row at a time.
        title: Heading of the picture.

    Returns:
        The path.
    """
    numbers = range(1, 1 + len(objects))
    together = not 1 <= len(objects) <= MAX_ROWS
    rows_of = [list(numbers)] if together else [[number] for number in numbers]
    scenes, boxes = [], ndimage.find_objects(values)
    for wanted in rows_of:
        marks = np.concatenate([np.zeros((0, 3)), *(objects[n - 1].marks for n in wanted)])
        scenes.append(arrange_objects(image, values, boxes=boxes, wanted=wanted, marks=marks))
    heights = [row_inches(scene.extent_mm) for scene in scenes]
    num_lines = math.ceil(len(_legend(objects)) / _NAMES_IN_A_ROW)
    figure = new_figure(sum(heights) + 0.6 + _LINE_INCHES * num_lines)
    figure.suptitle(title)
    rows = figure.subfigures(len(scenes), 1, squeeze=False, height_ratios=heights)[:, 0]
    for row, scene, wanted in zip(rows, scenes, rows_of, strict=True):
        heading = f"{len(objects)} objects" if together else objects[wanted[0] - 1].name
        row.suptitle(heading, fontsize="medium", fontweight="bold")
        widths = panel_widths(scene.extent_mm)
        black_white = window(scene.image, np.isin(scene.values, wanted))
        for panel, view in zip(row.subplots(1, 3, width_ratios=widths), VIEWS, strict=True):
            _draw_panel(panel, scene, view, objects, wanted, black_white)
    figure.legend(
        handles=_legend(objects),
        loc="outside lower center",
        ncols=_NAMES_IN_A_ROW,
        frameon=False,
        fontsize="small",
    )
    return save_figure(figure, path)


def _legend(objects: Sequence[DrawnObject]) -> list[Any]:
    """Return what the legend says: names, how many are not named, and kinds of prompts."""
    from matplotlib.lines import Line2D

    handles = [mask_handle(one.colour, one.name, opacity=_OPACITY) for one in objects[:MAX_NAMED]]
    if (more := len(objects) - MAX_NAMED) > 0:
        handles.append(Line2D([], [], linestyle="", label=f"and {more} more"))
    if any(one.box is not None for one in objects):
        handles.append(Line2D([], [], color="0.4", linestyle="--", label="box"))
    return handles + (click_handles() if any(len(one.points) for one in objects) else [])


def _draw_panel(
    panel: "Axes",
    scene: ObjectScene,
    view: View,
    objects: Sequence[DrawnObject],
    wanted: Sequence[int],
    window: tuple[float, float],
) -> None:
    """Draw one plane: the wanted objects filled, with their prompts; the others outlined."""
    index = int(scene.slices[view.cut])
    # (up, across): the lower axis number runs across
    image, values = (volume.take(index, view.cut).T for volume in (scene.image, scene.values))
    shown = np.array([[0, 0, 0], np.subtract(scene.image.shape, 1)])
    draw_image(panel, image, view, window=window, shown=shown, spacing=scene.spacing)
    for number in np.unique(values[values > 0]):
        colour, is_wanted = objects[number - 1].colour, number in wanted
        opacity, width = (_OPACITY, 1.6) if is_wanted else (0.0, 1.0)
        draw_mask(panel, values == number, colour, opacity=opacity, width=width)
    for number in wanted:
        drawn = objects[number - 1]
        draw_clicks(panel, scene.place(drawn.points), drawn.labels, view, index=index)
        if drawn.box is not None:
            draw_box(panel, scene.place(drawn.box), view)
