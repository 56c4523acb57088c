"""Filling polygons: even-odd, every pixel centre on one side, as another implementation finds."""

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from neurosam3d.data.prepare.dicom.rasterize import fill_even_odd

SHAPE = (9, 13)


def pixels(filled: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(index) for index in np.argwhere(filled).tolist()}


@pytest.mark.parametrize("seed", range(20))
def test_it_fills_what_matplotlib_says_is_inside(seed: int) -> None:
    generator = np.random.default_rng(seed)
    polygons = [generator.uniform(-4, 15, (generator.integers(3, 9), 2)) for _ in range(3)]
    centres = np.argwhere(np.ones(SHAPE))
    inside = [Polygon(p, closed=False).contains_points(centres) for p in polygons]
    expected = np.logical_xor.reduce(inside).reshape(SHAPE)
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(fill_even_odd(polygons, SHAPE), expected)


def test_a_rectangle_fills_the_centres_within() -> None:
    corners = np.array([(1.5, 2.5), (4.5, 2.5), (4.5, 3.5), (1.5, 3.5)])
    assert pixels(fill_even_odd([corners], SHAPE)) == {(2, 3), (3, 3), (4, 3)}
    assert pixels(fill_even_odd([corners[::-1]], SHAPE)) == {(2, 3), (3, 3), (4, 3)}


def test_of_edges_on_centres_the_lower_ones_belong_to_the_polygon() -> None:
    corners = np.array([(1.0, 2.0), (3.0, 2.0), (3.0, 4.0), (1.0, 4.0)])
    assert pixels(fill_even_odd([corners], SHAPE)) == {(1, 2), (1, 3), (2, 2), (2, 3)}


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    left = np.array([(0.0, 0.0), (6.0, 0.0), (2.0, 8.0), (0.0, 8.0)])
    right = np.array([(6.0, 0.0), (8.0, 0.0), (8.0, 8.0), (2.0, 8.0)])
    both = fill_even_odd([left], SHAPE).astype(int) + fill_even_odd([right], SHAPE)
    assert both.max() == 1
    assert both.sum() == 64  # of the square (0, 0) to (8, 8)


def test_a_polygon_within_is_a_hole_and_one_within_that_is_none() -> None:
    def square(low: float, high: float) -> np.ndarray:
        return np.array([(low, low), (high, low), (high, high), (low, high)])

    rings = [square(0.5, 7.5), square(1.5, 6.5), square(2.5, 5.5)]
    assert fill_even_odd(rings, SHAPE).sum() == 49 - 25 + 9


def test_a_keyhole_is_a_hole() -> None:
    outer = [(0.5, 0.5), (0.5, 5.5), (5.5, 5.5), (5.5, 0.5), (3.0, 0.5)]
    inner = [(3.0, 1.5), (4.5, 1.5), (4.5, 4.5), (1.5, 4.5), (1.5, 1.5), (3.0, 1.5)]
    assert fill_even_odd([np.array([*outer, *inner, (3.0, 0.5)])], SHAPE).sum() == 25 - 9


def test_what_lies_beyond_the_pixels_is_cut_off() -> None:
    corners = np.array([(-50.0, -50.0), (2.5, -50.0), (2.5, 50.0), (-50.0, 50.0)])
    assert fill_even_odd([corners], SHAPE).sum() == 3 * 13
    assert fill_even_odd([corners + 60], SHAPE).sum() == 0
    assert fill_even_odd([], SHAPE).shape == SHAPE
