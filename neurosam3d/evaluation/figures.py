"""Figures of a report as inline SVG: scores against clicks, and box plots of classes."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurosam3d.evaluation.statistics import Interval
from neurosam3d.evaluation.svg import cut, line, mark, picture, style_of, text
from neurosam3d.evaluation.tables import short_clicks

WIDTH = 712.0
_BEHIND = -1  # place of the line that stands behind the others, without marks
_FEW = 5  # fewer values than these are shown one by one


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Args:
        name: What it is called.
        means: Number of clicks -> mean in 0..1, and its interval if there is one.
    """

    name: str
    means: Mapping[int, tuple[float, Interval | None]]


@dataclass(frozen=True)
class _Panel:
    """Where the axes of a chart lie, in the units of the picture."""

    left: float
    top: float
    width: float
    height: float
    clicks: Sequence[int]
    lowest: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def x(self, clicks: int) -> float:
        first, last = self.clicks[0], self.clicks[-1]
        share = (clicks - first) / (last - first) if last > first else 0.5
        return self.left + self.width * (0.04 + 0.92 * share)

    def y(self, value: float) -> float:
        share = (value - self.lowest) / (1 - self.lowest)
        return self.top + self.height * (1 - min(max(share, 0.0), 1.0))


def line_chart(series: Sequence[Series], *, title: str, unit: str = "Dice") -> str:
    """Draw scores against the number of clicks, every line with its intervals.

    Args:
        series: The lines.
        title: What the figure shows, for screen readers.
        unit: What the vertical axis measures.

    Returns:
        An SVG element; empty if no line has a point.
    """
    clicks = sorted({number for entry in series for number in entry.means})
    if not clicks:
        return ""
    legend = _legend([entry.name for entry in series]) if len(series) > 1 else []
    top = 14.0 + 20 * len(legend)
    panel = _Panel(56, top, WIDTH - 72, 280, clicks, _lowest(series))
    parts = [*(part for row in legend for part in row), *_grid(panel, step=0.1)]
    parts += _axis_names(panel, unit)
    spacing = min(8.0, 120 / len(clicks) / len(series))
    for place, entry in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * spacing if len(series) > 2 else None
        parts += _draw(panel, entry, place, shift=shift)
    return picture(WIDTH, panel.bottom + 46, parts, title=title)


def small_charts(series: Sequence[Series], behind: Series, *, title: str) -> str:
    """Draw a small chart per line, three in a row, each before one line that all share.

    Args:
        series: The lines.
        behind: The line behind every other.
        title: What the figure shows, for screen readers.

    Returns:
        An SVG element; empty if there is no line.
    """
    clicks = sorted(behind.means)
    if not clicks or not series:
        return ""
    lowest, parts = _lowest([*series, behind]), []
    for place, entry in enumerate(series):
        row, column = divmod(place, 3)
        panel = _Panel(46 + column * 232, 26 + row * 172, 180, 112, clicks, lowest)
        parts.append(text(panel.left, panel.top - 9, cut(entry.name), "name", full=entry.name))
        parts += _grid(panel, step=0.2)
        parts += _draw(panel, behind, _BEHIND, shift=None)
        parts += _draw(panel, entry, 0, shift=None)
    return picture(WIDTH, 172 * math.ceil(len(series) / 3) + 8, parts, title=title)


def box_plots(values: Mapping[str, np.ndarray], *, title: str, unit: str = "Dice") -> str:
    """Draw a horizontal box per class, the best median on top.

    A box reaches from the first to the third quartile with a line at the median; the whiskers
    reach the outermost value within 1.5 times its length, and all beyond are dots. Fewer than 5
    values are dots alone.

    Args:
        values: Class -> (n,) finite scores in 0..1.
        title: What the figure shows, for screen readers.
        unit: What the horizontal axis measures.

    Returns:
        An SVG element; empty if there is no value.
    """
    known = {name: scores for name, scores in values.items() if len(scores)}
    if not known:
        return ""
    ranked = sorted(known, key=lambda name: (-float(np.median(known[name])), name))
    left, width, row_height, top = 226.0, 420.0, 22.0, 24.0
    bottom = top + row_height * len(ranked)
    parts = []
    for tick in np.linspace(0, 1, 6):
        x = left + width * tick
        parts.append(line("grid", x=(x, x), y=(top, bottom)))
        parts += [text(x, y, f"{tick:.1f}", "tick middle") for y in (top - 8, bottom + 16)]
    for place, name in enumerate(ranked):
        y = top + row_height * (place + 0.5)
        parts.append(text(left - 12, y + 4, cut(name), "label end", full=name))
        parts += _box(known[name], y, left, width)
        parts.append(text(left + width + 14, y + 4, f"n = {len(known[name])}", "tick"))
    parts.append(text(left + width / 2, bottom + 36, unit, "label middle"))
    return picture(WIDTH, bottom + 44, parts, title=title)


def _box(scores: np.ndarray, y: float, left: float, width: float) -> list[str]:
    def dots(some: np.ndarray, radius: float) -> list[str]:
        places = (f"{left + width * score:.1f}" for score in some)
        return [f'<circle class="dot s0" cx="{x}" cy="{y:.1f}" r="{radius}"/>' for x in places]

    if len(scores) < _FEW:
        return dots(scores, 3.2)
    first, median, third = np.quantile(scores, (0.25, 0.5, 0.75))
    reach = 1.5 * (third - first)
    inside = scores[(scores >= first - reach) & (scores <= third + reach)]
    low, high = inside.min(), inside.max()
    start, middle = left + width * first, left + width * median
    return [
        line("whisker s0", x=(left + width * low, left + width * high), y=(y, y)),
        f'<rect class="box s0" x="{start:.1f}" y="{y - 7:.1f}" '
        f'width="{max(width * (third - first), 1):.1f}" height="14" rx="2"/>',
        line("median s0", x=(middle, middle), y=(y - 7, y + 7)),
        *dots(scores[(scores < low) | (scores > high)], 2.2),
    ]


def _lowest(series: Sequence[Series]) -> float:
    """Choose where the vertical axis begins: at 0, or higher if all lines lie high."""
    points = [point for entry in series for point in entry.means.values()]
    low = min(min(mean, interval[0]) if interval else mean for mean, interval in points)
    return min(max(0.0, math.floor((low - 0.02) * 5) / 5), 0.8)


def _grid(panel: _Panel, *, step: float) -> list[str]:
    """Draw gridlines and the numbers along both axes."""
    parts = []
    step = step if panel.lowest >= 0.4 else 0.2
    for tick in np.arange(panel.lowest, 1 + 1e-9, step):
        y = panel.y(float(tick))
        parts.append(line("grid", x=(panel.left, panel.right), y=(y, y)))
        parts.append(text(panel.left - 8, y + 4, f"{tick:.1f}", "tick end"))
    every = math.ceil(len(panel.clicks) * 28 / panel.width)
    for clicks in panel.clicks[::every]:
        label = short_clicks(clicks)
        parts.append(text(panel.x(clicks), panel.bottom + 18, label, "tick middle"))
    return parts


def _axis_names(panel: _Panel, unit: str) -> list[str]:
    middle = panel.top + panel.height / 2
    return [
        text(panel.left + panel.width / 2, panel.bottom + 38, "clicks", "label middle"),
        f'<text class="label middle" transform="translate(14 {middle:.1f}) rotate(-90)">'
        f"{html.escape(unit)}</text>",
    ]


def _draw(panel: _Panel, series: Series, place: int, *, shift: float | None) -> list[str]:
    """Draw a line with its intervals.

    Args:
        panel: Where to.
        series: The line.
        place: Its number, which decides colour and marks.
        shift: How far it is moved aside, with bars for its intervals; None for a band behind it.
    """
    kind = style_of(place) if place != _BEHIND else "all"
    points = [(panel.x(n) + (shift or 0), *series.means[n]) for n in sorted(series.means)]
    spans = [(x, panel.y(low), panel.y(high)) for x, _, (low, high) in _with_interval(points)]
    parts = []
    if place != _BEHIND and shift is None and len(spans) > 1:
        edge = [f"{x:.1f},{high:.1f}" for x, _, high in spans]
        edge += [f"{x:.1f},{low:.1f}" for x, low, _ in reversed(spans)]
        parts.append(f'<polygon class="band {kind}" points="{" ".join(edge)}"/>')
    elif place != _BEHIND:
        parts += [line(f"bar {kind}", x=(x, x), y=(low, high)) for x, low, high in spans]
    path = " ".join(f"{x:.1f},{panel.y(mean):.1f}" for x, mean, _ in points)
    parts.append(f'<polyline class="line {kind}" points="{path}"/>')
    if place != _BEHIND:
        parts += [mark(x, panel.y(mean), place) for x, mean, _ in points]
    return parts


def _with_interval(
    points: Sequence[tuple[float, float, Interval | None]],
) -> list[tuple[float, float, Interval]]:
    return [(x, mean, interval) for x, mean, interval in points if interval]


def _legend(names: Sequence[str]) -> list[list[str]]:
    """Draw what the lines are called, in as many rows as that needs."""
    rows: list[list[str]] = [[]]
    x = 56.0
    for place, name in enumerate(names):
        label = cut(name)
        needed = 50 + 7.8 * len(label)
        if rows[-1] and x + needed > WIDTH:
            rows.append([])
            x = 56.0
        y = 12.0 + 20 * (len(rows) - 1)
        rows[-1] += [
            line(f"line {style_of(place)}", x=(x, x + 24), y=(y, y)),
            mark(x + 12, y, place),
            text(x + 30, y + 4, label, "label", full=name),
        ]
        x += needed
    return rows
