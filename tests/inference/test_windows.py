"""Where windows lie."""

import numpy as np
import pytest
import torch

from neurosam3d.inference.windows import (
    Window,
    blend_weights,
    centred_window,
    count_by_window,
    next_window,
    open_sides,
)
from neurosam3d.volume import Volume, crop_or_pad

SCAN = (40, 9, 30)
SHAPE = (16, 12, 7)


def test_explicit_centre_is_that_of_crop_or_pad() -> None:
    volume = Volume(torch.arange(40 * 9 * 30).reshape(1, *SCAN), np.diag([1.0, 2.0, 3.0, 1.0]))
    window = centred_window((3, 8, 27), SHAPE)
    cut = crop_or_pad(volume, SHAPE, center=(3, 8, 27), fill=-1)
    assert volume.grid.window(window.start, window.shape).same_as(cut.grid)
    assert window.start == (-5, 2, 24)


@pytest.mark.parametrize(
    ("centre", "start"),
    [
        ((20, 4, 15), (12, -2, 12)),  # along the second axis the scan is smaller: centred on it
        ((1, 0, 29), (0, -2, 23)),
        ((39.4, 8, 0), (24, -2, 0)),
        ((19.5, 4, 14.5), (12, -2, 12)),
    ],
)
def test_window_is_moved_inside_the_scan(
    centre: tuple[float, ...], start: tuple[int, int, int]
) -> None:
    assert centred_window(centre, SHAPE, scan_shape=SCAN) == Window(start, SHAPE)


def test_box_of_the_windows_own_size_is_held_exactly() -> None:
    for first in range(20):
        window = centred_window((first + 7.5,) * 3, (16,) * 3, scan_shape=(60,) * 3)
        assert window.start == (first,) * 3


def test_holds_tells_voxels_by_their_centres() -> None:
    window = Window((2, 3, 4), (5, 6, 7))
    points = np.array([[2, 3, 4], [1.5, 3, 4], [1.4, 3, 4], [6.4, 8.4, 10.4], [6.5, 8, 10]])
    assert window.holds(points).tolist() == [True, True, False, True, False]


def test_neighbours_stay_inside() -> None:
    window = Window((12, -2, 12), SHAPE)
    assert next_window(window, 0, 12, scan_shape=SCAN).start == (24, -2, 12)
    assert next_window(window, 0, -14, scan_shape=SCAN).start == (0, -2, 12)
    assert next_window(window, 2, 5, scan_shape=SCAN).start == (12, -2, 17)
    assert set(open_sides(window, SCAN)) == {(0, -1), (0, 1), (2, -1), (2, 1)}
    assert set(open_sides(Window((0, -2, 23), SHAPE), SCAN)) == {(0, 1), (2, -1)}


def test_part_inside_the_scan() -> None:
    assert Window((-3, 2, 28), (5, 6, 7)).inside(SCAN) == Window((0, 2, 28), (2, 6, 2))
    beyond = Window((50, 2, 28), (5, 6, 7)).inside(SCAN)
    assert 0 in beyond.shape


def test_points_go_to_the_window_in_whose_middle_they_lie() -> None:
    anchor = Window((10, 10, 10), (8, 8, 8))  # with a step of 6, voxels 11 to 16 are its middle
    points = np.array([[11, 11, 11], [16, 16, 16], [17, 16, 16], [10, 10, 10], [39, 20, 0]])
    counts = count_by_window(points, anchor, (6, 6, 6), scan_shape=(40, 40, 40))
    assert counts == {
        anchor: 2,
        Window((16, 10, 10), (8, 8, 8)): 1,
        Window((4, 4, 4), (8, 8, 8)): 1,
        Window((32, 16, 0), (8, 8, 8)): 1,  # moved inside along the first and the last axis
    }
    assert not count_by_window(points[:0], anchor, (6, 6, 6), scan_shape=(40, 40, 40))


def test_every_point_lies_in_the_window_it_is_dealt_to() -> None:
    scan_shape, anchor = (50, 11, 37), Window((9, -3, 20), (16, 17, 12))
    for point in np.random.default_rng(0).uniform(0, np.subtract(scan_shape, 1), (200, 3)):
        (window,) = count_by_window(point[None], anchor, (12, 13, 9), scan_shape=scan_shape)
        assert window.holds(point[None])[0]


def test_weights_fall_towards_the_border() -> None:
    weights = blend_weights((4, 3, 1))
    assert weights.shape == (4, 3, 1)
    assert weights[:, 1, 0].tolist() == pytest.approx([0.1464466, 0.8535534, 0.8535534, 0.1464466])
    assert (weights[1, :, 0] / weights[1, 1, 0]).tolist() == pytest.approx([0.25, 1, 0.25])
    assert blend_weights((128, 128, 128)).min() > 0
