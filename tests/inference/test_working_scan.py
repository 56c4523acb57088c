"""Scans on their working grids, coordinates and intensities included."""

import numpy as np
import pytest
import torch

from neurosam3d.inference.windows import Window
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.intensity import normalize_crop, prepare_volume
from neurosam3d.volume import Volume, crop_or_pad, resample, to_canonical
from tests.inference.oracle import oblique

SHAPE = (24, 30, 12)
AFFINE = oblique((0.8, 1.1, 3.0), axes=(1, 0, 2), signs=(-1, 1, -1))


def scan_of(intensity: str = "sam_med3d", *, spacing: float | None = 1.5) -> WorkingScan:
    data = np.random.default_rng(2).normal(100, 60, (1, *SHAPE)).astype(np.int16)
    volume = Volume(torch.from_numpy(data), AFFINE)
    return WorkingScan(volume, spacing=spacing and (spacing,) * 3, intensity=intensity)


@pytest.mark.parametrize("intensity", ["sam_med3d", "neurosam3d", "none"])
@pytest.mark.parametrize("spacing", [1.5, None])
def test_window_is_what_training_crops_are(intensity: str, spacing: float | None) -> None:
    scan = scan_of(intensity, spacing=spacing)
    volume = Volume(prepare_volume(scan.volume.data, intensity), AFFINE)
    volume = to_canonical(volume)
    if spacing is not None:
        volume = resample(volume, (spacing,) * 3)
    crop = crop_or_pad(volume, (16, 14, 40), center=(5, 6, 7), fill=scan.padding)
    expected = normalize_crop(crop.data, intensity)
    window = Window((5 - 8, 6 - 7, 7 - 20), (16, 14, 40))
    assert scan.window_grid(window).same_as(crop.grid)
    torch.testing.assert_close(scan.cut(window)[0], expected, atol=1e-4, rtol=1e-4)


def test_points_go_there_and_back() -> None:
    scan = scan_of()
    points = np.array([[0, 0, 0], [23, 29, 11], [3.5, 7.25, 2]])
    for level in (0, 1, 3):
        there = scan.to_working(points, level=level)
        np.testing.assert_allclose(scan.to_scan(there, level=level), points, atol=1e-6)
        world = points @ AFFINE[:3, :3].T + AFFINE[:3, 3]
        affine = scan.grid(level).affine
        np.testing.assert_allclose(there @ affine[:3, :3].T + affine[:3, 3], world, atol=1e-6)


def test_native_points_stay_whole() -> None:
    scan = scan_of(spacing=None)
    points = np.array([[1.0, 2, 3], [20, 11, 7]])
    assert (scan.to_working(points) == scan.to_working(points).round()).all()
    assert not scan.is_interpolated
    assert scan_of().is_interpolated


def test_outermost_voxels_are_placed_on_the_outermost_ones() -> None:
    scan = scan_of(spacing=4.0)
    last = np.array(SHAPE) - 1
    corners = np.array([[0, 0, 0], last])
    beyond = scan.to_working(corners)
    assert (beyond < -0.1).any()
    placed = scan.place(corners)
    assert placed.min() >= 0
    assert (placed <= np.array(scan.grid().shape) - 1).all()


def test_levels_double_the_spacing_over_one_field_of_view() -> None:
    scan = scan_of(spacing=1.0)
    for level in (1, 2):
        grid = scan.grid(level)
        assert grid.spacing == pytest.approx((2.0**level,) * 3)
        middle = [np.append((np.array(g.shape) - 1) / 2, 1) for g in (grid, scan.grid())]
        np.testing.assert_allclose(grid.affine @ middle[0], scan.grid().affine @ middle[1])
    constant = Volume(torch.full((1, *SHAPE), 7, dtype=torch.int16), AFFINE)
    flat = WorkingScan(constant, spacing=None, intensity="none")
    assert (flat.cut(Window((0, 0, 0), flat.grid(2).shape, level=2)) == 7).all()


def test_scan_has_one_channel() -> None:
    with pytest.raises(ValueError, match="a scan has one channel, got 2"):
        WorkingScan(Volume(torch.zeros(2, 3, 3, 3), np.eye(4)), spacing=None, intensity="none")
