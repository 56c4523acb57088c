"""Draw a sheet of slices with their labels, to judge a dataset at a glance.

Matplotlib is used through its objects, so no state or backend of the caller's is touched.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosam3d.data.class_colours import Colour
from neurosam3d.data.sheet_tiles import PLANES, Slice, Tile
from neurosam3d.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LEGEND = 60  # classes
_WIDTH, _MAX_PANEL = 13.0, 6.5  # inches
_HEADING, _LEGEND_ROW = 0.75, 0.2  # inches
_CAPTION_LINE, _CAPTION_GAP = 0.13, 0.14  # inches
_CHARACTER = 0.07  # inches at 8 points
_TALLEST = 1.4  # height of a panel by its width; what is taller is drawn narrower


def draw_sheet(
    path: Path, tiles: Sequence[Tile], *, title: str, subtitle: str, colours: Mapping[str, Colour]
) -> Path:
    """Draw scans with their labels, and a legend of the classes that are seen.

    Args:
        path: PNG file to write; it appears whole or not at all.
        tiles: The scans, at least one; each with as many slices.
        title: Heading.
        subtitle: What is below it, for example the licence.
        colours: Class -> colour.

    Returns:
        The path.
    """
    slices = [(tile, shown) for tile in tiles for shown in tile.slices]
    names = legend_names(tiles)
    columns = count_columns(len(tiles), len(slices) // len(tiles))
    side = min(_WIDTH / columns, _MAX_PANEL)
    heights = [side * _height_by_width(shown) for _, shown in slices]
    rows = [max(heights[first : first + columns]) for first in range(0, len(slices), columns)]
    legend_columns, legend_inches = _measure_legend(names, side * columns)
    points = 8 if side > 3 else 7
    num_characters = int(side / _CHARACTER * 8 / points)
    captions = [_caption(*pair, num_characters=num_characters) for pair in slices]
    num_lines = max(len(caption.splitlines()) for caption in captions)
    figure, panels = _lay_out(
        rows,
        columns,
        side=side,
        caption_inches=num_lines * _CAPTION_LINE + _CAPTION_GAP,
        legend_inches=legend_inches,
    )
    for panel, (tile, shown), caption in zip(panels, slices, captions, strict=False):
        _draw_slice(panel, shown, [colours[name] for name in tile.classes])
        panel.set_title(caption, fontsize=points, color="white", parse_math=False)
    _write_heading(figure, title, subtitle)
    _draw_legend(figure, names, colours, num_columns=legend_columns)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
    return path


def count_columns(num_tiles: int, num_planes: int) -> int:
    """Return how many slices stand in a row: rows as full as they can be, of four scans at most."""
    rows = math.ceil(num_tiles / (4 if num_planes == 1 else 2))
    return num_planes * math.ceil(num_tiles / rows)


def legend_names(tiles: Sequence[Tile]) -> list[str]:
    """Name the classes that are seen, the largest area in square millimetres first."""
    areas: Counter[str] = Counter()
    for tile in tiles:
        for shown in tile.slices:
            for number, pixels in zip(*np.unique(shown.labels, return_counts=True), strict=True):
                if number:
                    areas[tile.classes[number - 1]] += pixels * math.prod(shown.pixel_mm)
    return [name for name, _ in areas.most_common()]


def _height_by_width(shown: Slice) -> float:
    rows, columns = shown.image.shape
    return min(rows * shown.pixel_mm[0] / (columns * shown.pixel_mm[1]), _TALLEST)


def _lay_out(
    rows: Sequence[float],
    columns: int,
    *,
    side: float,
    caption_inches: float,
    legend_inches: float,
) -> tuple["Figure", list["Axes"]]:
    """Make a black figure with a panel for each slice; all arguments but the columns in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = _HEADING + sum(rows) + caption_inches * len(rows) + legend_inches
    figure = Figure(figsize=(side * columns, height), dpi=140, facecolor="black")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows)
    figure.subplots_adjust(
        left=0.005,
        right=0.995,
        bottom=legend_inches / height,
        top=1 - (_HEADING + caption_inches) / height,
        wspace=0.03,
        hspace=caption_inches * len(rows) / sum(rows),
    )
    for panel in panels.flat:
        panel.set_axis_off()
    return figure, list(panels.flat)


def _caption(tile: Tile, shown: Slice, *, num_characters: int) -> str:
    """Say which scan it is, and how it is drawn, in lines of so many characters."""
    case = tile.scan.cases[0]
    name, half = case.case_id, num_characters // 2 - 4
    if len(name) > 2 * half:
        name = f"{name[: half - 1]}..{name[1 - half :]}"
    spacing = " x ".join(f"{step:.3g}" for step in case.spacing)
    black, white = shown.window
    lines = [f"{name}, {tile.scan.set_name}", f"{shown.plane}, {spacing} mm"]
    if shown.is_ct:
        level = f"W {white - black:.0f} L {(white + black) / 2:.0f}"
        if len(lines[1]) + len(level) + 2 <= num_characters:
            lines[1] += f", {level}"
        else:
            lines.append(level)
    return "\n".join(lines)


def _draw_slice(panel: "Axes", shown: Slice, colours: Sequence[Colour]) -> None:
    black, white = shown.window
    rows, columns = shown.image.shape
    height, width = shown.pixel_mm
    panel.imshow(shown.image, cmap="gray", vmin=black, vmax=white, interpolation="bilinear")
    for number in np.unique(shown.labels):
        if number:
            _draw_label(panel, shown.labels == number, colours[number - 1])
    panel.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect=height / width)
    panel.set_anchor("N")
    _draw_scale(panel, shown)
    places = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03))
    for letter, (x, y) in zip(PLANES[shown.plane].ends, places, strict=True):
        text = panel.text(x, y, letter, transform=panel.transAxes, color="white", fontsize=7)
        text.set(ha="center", va="center", path_effects=_halo())


def _draw_label(panel: "Axes", mask: np.ndarray, colour: Colour) -> None:
    """Fill a mask (rows, columns) so that the scan shines through, and outline it."""
    # A rim of background closes the outline of an object that touches the border.
    rim = np.pad(mask, 1).astype(float)
    y, x = (np.arange(-1, side + 1) for side in mask.shape)
    panel.contourf(x, y, rim, levels=[0.5, 1.5], colors=[colour], alpha=0.3)
    panel.contour(x, y, rim, levels=[0.5], colors=[colour], linewidths=0.9)


def _draw_scale(panel: "Axes", shown: Slice) -> None:
    """Draw a bar of 5 cm, or of 1 cm on small slices, in the lower right corner."""
    rows, columns = shown.image.shape
    length_mm = 50 if columns * shown.pixel_mm[1] > 200 else 10
    right, bottom = columns * 0.97, rows * 0.97
    left = right - length_mm / shown.pixel_mm[1]
    panel.plot([left, right], [bottom] * 2, color="white", lw=1.5, path_effects=_halo())
    text = panel.text(right, bottom - rows * 0.015, f"{length_mm // 10} cm", color="white")
    text.set(fontsize=6, ha="right", path_effects=_halo())


def _halo() -> list[Any]:
    """Return the effect that keeps white marks readable on bright tissue."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="black")]


def _write_heading(figure: "Figure", title: str, subtitle: str) -> None:
    width, height = figure.get_size_inches()
    for text, inches, points, colour in ((title, 0.12, 13, "white"), (subtitle, 0.42, 8.5, "0.75")):
        place = (0.12 / width, 1 - inches / height)
        figure.text(*place, text, fontsize=points, color=colour, va="top", parse_math=False)


def _measure_legend(names: Sequence[str], width: float) -> tuple[int, float]:
    """Return how many columns of names fit into a width in inches, and the height they take."""
    longest = max((len(name) for name in names), default=0)
    columns = max(1, int(width / (longest * _CHARACTER + 0.4)))
    num_entries = min(len(names), MAX_LEGEND + 1)
    return columns, _LEGEND_ROW * math.ceil(num_entries / columns) + 0.25


def _draw_legend(
    figure: "Figure", names: Sequence[str], colours: Mapping[str, Colour], *, num_columns: int
) -> None:
    from matplotlib.patches import Patch

    if not names:
        return
    # Matplotlib before 3.10 leaves out what begins with an underscore, hence the space.
    handles = [
        Patch(facecolor=(*colours[name], 0.5), edgecolor=colours[name], label=f" {name}")
        for name in names[:MAX_LEGEND]
    ]
    if len(names) > MAX_LEGEND:
        more = f" and {len(names) - MAX_LEGEND} more"
        handles.append(Patch(facecolor="none", edgecolor="none", label=more))
    legend = figure.legend(
        handles=handles,
        loc="lower center",
        ncols=min(num_columns, len(handles)),
        fontsize=8,
        labelcolor="white",
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
