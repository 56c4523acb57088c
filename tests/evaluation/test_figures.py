"""Figures as SVG: well-formed, escaped, and with every point where it belongs."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from neurosam3d.evaluation.figures import Series, box_plots, line_chart, small_charts

NAME = '<b>"x" & y</b> of a class whose name is far too long'


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parse(svg).iter("text")]


def marks(svg: str) -> list[tuple[float, float]]:
    found = [e for e in parse(svg).iter("circle") if "mark" in e.attrib["class"]]
    return [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in found]


def test_points_lie_by_clicks_and_score() -> None:
    (x1, y1), (x3, y3), (x5, y5) = marks(
        line_chart([Series("a", {1: (0.5, None), 3: (0.75, None), 5: (1.0, None)})], title="t")
    )
    assert x3 - x1 == pytest.approx(x5 - x3)  # clicks 1, 3 and 5
    assert y1 - y3 == pytest.approx(y3 - y5, abs=0.11)
    assert y5 == 14  # 1.0 is at the top


def test_intervals_are_bands_of_few_lines_and_bars_of_many() -> None:
    series = [Series(f"line {n}", {1: (0.5, (0.4, 0.6)), 2: (0.6, (0.5, 0.7))}) for n in range(4)]
    assert len(list(parse(line_chart(series[:2], title="t")).iter("polygon"))) == 2
    many = parse(line_chart(series, title="t"))
    assert list(many.iter("polygon")) == []
    bars = [e for e in many.iter("line") if e.attrib["class"].startswith("bar")]
    assert len(bars) == 8
    assert len({e.attrib["x1"] for e in bars}) == 8  # none hides another


def test_lines_are_named_and_told_apart_by_more_than_colour() -> None:
    series = [Series(name, {1: (0.5, None)}) for name in (NAME, "b", "c")]
    svg = line_chart(series, title=NAME)
    assert {"b", "c"} <= set(texts(svg))
    assert parse(svg).attrib["aria-label"] == NAME
    assert NAME in [e.text for e in parse(svg).iter("title")]  # in full when pointed at
    assert re.findall(r'class="mark (s\d)"', svg) == ["s0", "s1", "s2"] * 2  # and in the legend


def test_small_charts_show_each_line_before_all() -> None:
    behind = Series("all", {1: (0.4, None), 2: (0.6, None)})
    svg = small_charts([Series(f"g{n}", behind.means) for n in range(4)], behind, title="t")
    assert {"g0", "g1", "g2", "g3"} <= set(texts(svg))
    kinds = [e.attrib["class"] for e in parse(svg).iter("polyline")]
    assert kinds == ["line all", "line s0"] * 4


def test_boxes_show_quartiles_and_outliers() -> None:
    values = {"good": np.array([0.8, 0.82, 0.84, 0.86, 0.88, 0.1]), NAME: np.array([0.5, 0.6])}
    svg = parse(box_plots(values, title="t"))
    (box,) = svg.iter("rect")
    first, third = np.quantile(values["good"], (0.25, 0.75))
    assert float(box.attrib["width"]) == pytest.approx(420 * (third - first), abs=0.1)
    rows = [(e.attrib["cx"], e.attrib["cy"]) for e in svg.iter("circle")]
    assert len(rows) == 3  # an outlier, and two values too few for a box
    assert rows[0][0] == f"{226 + 42:.1f}"
    assert "n = 6" in texts(ElementTree.tostring(svg, encoding="unicode"))


def test_the_best_class_is_on_top_and_120_have_room() -> None:
    values = {f"c{n}": np.full(6, n / 120) for n in range(120)}
    svg = box_plots(values, title="t")
    labels = [text for text in texts(svg) if text.startswith("c")]
    assert (labels[0], labels[-1], len(labels)) == ("c119", "c0", 120)
    height = float(parse(svg).attrib["viewBox"].split()[3])
    assert height > 120 * 20


def test_nothing_draws_nothing() -> None:
    behind = Series("all", {})
    assert line_chart([], title="t") == line_chart([behind], title="t") == ""
    assert small_charts([], behind, title="t") == ""
    assert box_plots({"a": np.zeros(0)}, title="t") == ""


def test_a_single_perfect_point_is_drawn() -> None:
    ((_, y),) = marks(line_chart([Series("a", {3: (1.0, None)})], title="t"))
    assert y == 14
