from itertools import pairwise

import numpy as np
import pytest

from neurosam3d.inference.foreground_grid import cell_centres, find_body, plan_prompts


def test_cells_are_asked_at_their_centres_the_last_axis_fastest() -> None:
    unit = np.array([[0.0, 0.0], [1.0, 1.0]])
    points = cell_centres(unit, (4, 4))
    assert points.shape == (16, 2)
    assert points[:5].tolist() == [
        [0.125, 0.125],
        [0.125, 0.375],
        [0.125, 0.625],
        [0.125, 0.875],
        [0.375, 0.125],
    ]
    box = np.array([[0.0, 10.0, -4.0], [8.0, 16.0, 4.0]])
    assert cell_centres(box, (1, 2, 1)).tolist() == [[4, 11.5, 0], [4, 14.5, 0]]


def test_one_window_holds_a_body_that_fits() -> None:
    body = np.zeros((40, 30, 50), dtype=bool)
    body[20:36, 4:12, 30:50] = True
    (asked,) = plan_prompts(body, roi_size=(24, 24, 24), points_per_side=6, overlap=0.5)
    assert asked.window.start == (16, 0, 26)  # centred on the body, but inside the scan
    assert len(asked.points) == 4 * 2 * 5  # cells of 4 voxels
    assert asked.points[0].tolist() == [22, 6, 32]
    assert asked.points[-1].tolist() == [34, 10, 48]


def test_a_thin_scan_gets_points_though_no_cell_of_its_window_is_centred_in_it() -> None:
    (asked,) = plan_prompts(
        np.ones((24, 24, 3), dtype=bool), roi_size=(24, 24, 24), points_per_side=3, overlap=0.5
    )
    assert asked.window.start == (0, 0, -11)  # padded on both sides
    assert len(asked.points) == 3 * 3 * 1
    assert set(asked.points[:, 2]) == {1}


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_windows_cover_the_body_and_every_cell_is_asked_once(overlap: float) -> None:
    body = np.zeros((70, 90, 40), dtype=bool)
    body[3:67, 10:82, 1:39] = True
    side = 32
    planned = plan_prompts(body, roi_size=(side,) * 3, points_per_side=4, overlap=overlap)
    covered = np.zeros_like(body)
    for asked in planned:
        low = np.array(asked.window.start)
        assert (low >= 0).all()
        assert (low + side <= body.shape).all()
        assert (asked.points >= low).all()
        assert (asked.points < low + side).all()
        covered[tuple(slice(n, n + side) for n in low)] = True
    assert covered[body].all()
    points = np.concatenate([asked.points for asked in planned])
    assert len(np.unique(points, axis=0)) == len(points)
    for axis, length in enumerate((64, 72, 38)):
        along = np.unique(points[:, axis])
        assert np.diff(along).max() <= 12  # a cell has about 8 voxels
        assert abs(len(along) - length / 8) <= 1.5
    for axis in range(3):
        starts = sorted({asked.window.start[axis] for asked in planned})
        assert all(b - a <= side * (1 - overlap) + 1 for a, b in pairwise(starts))


def test_a_point_belongs_to_the_window_whose_middle_is_nearest() -> None:
    body = np.ones((80, 20, 20), dtype=bool)
    planned = plan_prompts(body, roi_size=(32, 32, 32), points_per_side=8, overlap=0.5)
    middles = np.array([asked.window.start[0] + 16 for asked in planned])
    assert middles.tolist() == [16, 32, 48, 64]
    for number, asked in enumerate(planned):
        distances = np.abs(asked.points[:, :1] + 0.5 - middles)
        assert (distances.argmin(1) == number).all()


def test_points_outside_the_body_are_not_asked() -> None:
    body = np.zeros((64, 64, 64), dtype=bool)
    body[:8, :, :8] = body[56:, :, 56:] = True
    planned = plan_prompts(body, roi_size=(16, 16, 16), points_per_side=2, overlap=0)
    assert sum(len(asked.points) for asked in planned) == 2 * 8
    assert all(body[tuple(asked.points.T)].all() for asked in planned)


def noisy_scan(shape: tuple[int, int, int], *, air: float, noise: float) -> np.ndarray:
    return np.random.default_rng(2).normal(air, noise, shape).astype(np.float32)


def test_the_body_holds_its_lungs_and_leaves_out_air_and_padding() -> None:
    scan = noisy_scan((60, 50, 20), air=-1000, noise=15)
    body = np.zeros(scan.shape, dtype=bool)
    body[10:50, 8:44] = True
    scan[body] += 1040
    scan[16:24, 14:30] = -860  # a lung, open at both ends of the scan
    scan[2:3, :4, :4] = 900  # a wire
    scan[:, :3], scan[:, -3:] = -2000, -2000  # outside the scanner's reach
    np.testing.assert_array_equal(find_body(scan, spacing=(4, 4, 5)), body)


def test_the_body_of_a_fine_scan_is_found_to_a_few_millimetres() -> None:
    scan = noisy_scan((90, 61, 33), air=0, noise=3)
    scan[21:70, 13:50] += 400
    body = find_body(scan, spacing=(1, 1.3, 2))
    assert body.shape == scan.shape
    assert body[24:66, 16:46].all()
    assert not body[:17].any()
    assert not body[74:].any()


def test_a_field_of_view_without_air_is_all_body() -> None:
    scan = noisy_scan((20, 24, 28), air=300, noise=10)
    scan[:, :, 14:] = 900 + 0.1 * scan[:, :, 14:]  # fat beside muscle
    assert find_body(scan, spacing=(4, 4, 4)).mean() > 0.9
    assert find_body(np.full((4, 5, 6), 7.0), spacing=(4, 4, 4)).all()
