"""The parts of patch transforms: maps in the body's axes, and intensities with known answers."""

import numpy as np
import pytest
import torch

from neurosam3d.data.patch_transforms import (
    PATCH_TRANSFORMS,
    Flip,
    PatchTransform,
    QuarterTurn,
    Rotation,
    Zoom,
    add_noise,
    bend_gamma,
    bend_gamma_inverted,
    blur,
    lower_resolution,
    scale_brightness,
    scale_contrast,
    shift,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def ramp() -> torch.Tensor:
    return torch.linspace(-2, 6, 240).view(1, 6, 8, 5)


@pytest.mark.parametrize(("orientation", "axis"), [("RAS", 2), ("SAR", 0), ("LIP", 1)])
def test_in_plane_is_the_plane_of_slices_whatever_the_axes(orientation, axis):
    for name in ("adapter3d_in_plane", "baseline_in_plane"):
        maps = [p for p in PATCH_TRANSFORMS[name].linear if isinstance(p, Rotation | Zoom)]
        transform = PatchTransform(tuple(maps))
        seen = []
        for _ in range(60):
            matrix = transform.draw_matrix(orientation)
            assert matrix[axis, axis] == 1
            assert np.abs(matrix[axis]).sum() == np.abs(matrix[:, axis]).sum() == 1
            seen.append(matrix)
        assert np.std(seen, axis=0)[axis - 1, axis - 2] > 0.05


@pytest.mark.parametrize("about", ["RAS", "S", "R"])
def test_a_rotation_turns_either_way_and_keeps_lengths(about):
    angles = []
    for _ in range(200):
        matrix = Rotation(30, p=1, about=about).draw()
        assert np.allclose(matrix @ matrix.T, np.eye(3))
        angles.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    if about == "S":
        assert -30 <= min(angles) < -25
        assert 25 < max(angles) <= 30
    assert np.allclose(angles, 0) == (about == "R")


def test_a_zoom_enlarges_the_groups_by_factors_of_their_own():
    for _ in range(50):
        even = np.diag(Zoom(0.5, 2, p=1).draw())
        assert (even == even[0]).all()
        assert 0.5 <= 1 / even[0] <= 2
        right, front, up = np.diag(Zoom(0.5, 2, p=1, along=("R", "A")).draw())
        assert right != front
        assert up == 1
    # Enlarged, a patch covers less of the scan.
    assert Zoom(2, 2, p=1).draw()[0, 0] == 0.5


def test_quarter_turns_are_the_three_turns_of_their_plane():
    seen = {tuple(map(tuple, QuarterTurn("SA", p=1).draw().round().tolist())) for _ in range(50)}
    assert len(seen) == 3
    for turn in map(np.array, seen):
        assert turn[0, 0] == 1
        assert np.linalg.det(turn) == pytest.approx(1)


def test_a_flip_mirrors_one_axis():
    assert np.diag(Flip("A", p=1).draw()).tolist() == [1, -1, 1]


def test_parts_are_drawn_with_their_probabilities():
    transform = PatchTransform((Flip("R", 0.5), Flip("S", 0.1)), offset=20)
    matrices = np.array([np.diag(transform.draw_matrix("RAS")) for _ in range(1000)])
    assert (matrices < 0).mean(axis=0) == pytest.approx([0.5, 0, 0.1], abs=0.05)
    offsets = np.array([transform.draw_offset() for _ in range(1000)])
    assert (offsets == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert np.abs(offsets).max() == pytest.approx(20, abs=0.5)
    assert offsets.min() < -19


def test_changes_come_with_their_probabilities():
    transform = PatchTransform(changes=((0.3, lambda image: image + 1), (0.1, torch.neg)))
    results = [float(transform.change(torch.zeros(1))) for _ in range(1000)]
    assert np.mean([value != 0 for value in results]) == pytest.approx(0.3, abs=0.05)
    assert np.mean([value < 0 for value in results]) == pytest.approx(0.03, abs=0.02)


def test_shift_adds_up_to_a_tenth_of_the_range():
    shifts = torch.tensor([float((shift(ramp()) - ramp()).mean()) for _ in range(200)])
    assert torch.allclose(shift(ramp()).diff(), ramp().diff(), atol=1e-5)
    assert 0.75 < float(shifts.max()) <= 0.8
    assert -0.8 <= float(shifts.min()) < -0.75


def test_noise_has_up_to_a_tenth_of_the_variance():
    image = 7 * torch.randn(1, 20, 20, 20)
    ratios = [float((add_noise(image) - image).var() / image.var()) for _ in range(60)]
    assert 0.08 < max(ratios) < 0.11
    assert min(ratios) < 0.02


def test_blur_spreads_a_point_and_keeps_its_sum():
    image = torch.zeros(1, 19, 21, 17)
    image[0, 9, 10, 8] = 1
    peaks = []
    for _ in range(20):
        result = blur(image)
        assert result.sum() == pytest.approx(1, abs=1e-3)
        peaks.append(float(result[0, 9, 10, 8]))
    assert 0.015 < min(peaks) < 0.06  # 1 / (2 pi)^1.5 / 1.5^3 is 0.019
    assert 0.15 < max(peaks) < 0.55


def test_brightness_is_a_factor():
    factors = [float(scale_brightness(ramp()).flatten()[-1] / 6) for _ in range(200)]
    assert 0.7 <= min(factors) < 0.73
    assert 1.27 < max(factors) <= 1.3
    assert scale_brightness(torch.zeros(1)) == 0


def test_contrast_keeps_mean_and_range():
    for _ in range(20):
        result = scale_contrast(ramp())
        assert result.mean() == pytest.approx(2, abs=1e-4)
        assert result.min() >= -2
        assert result.max() <= 6
        assert not torch.allclose(result, ramp())


def test_low_resolution_loses_what_changes_from_voxel_to_voxel():
    checks = torch.tensor([0.0, 1.0]).repeat(12).view(1, 24, 1, 1).repeat(1, 1, 4, 5)
    slow = torch.linspace(0, 1, 24).view(1, 24, 1, 1).repeat(1, 1, 9, 5)
    for _ in range(10):
        assert lower_resolution(checks).shape == checks.shape
        assert (lower_resolution(slow) - slow).abs().max() < 0.06
    changes = [float((lower_resolution(checks) - checks).abs().mean()) for _ in range(20)]
    assert max(changes) > 0.3


@pytest.mark.parametrize("function", [bend_gamma, bend_gamma_inverted])
def test_gamma_is_a_rising_curve_that_keeps_both_ends(function):
    for _ in range(10):
        result = function(ramp()).flatten()
        assert (result.diff() > 0).all()
        assert result[[0, -1]] == pytest.approx([-2, 6], abs=1e-5)
    assert torch.equal(function(torch.full((1, 3), 4.0)), torch.full((1, 3), 4.0))


def test_gamma_bends_the_dark_end_and_inverted_the_bright_one():
    torch.manual_seed(3)
    exponent = 0.7 + 0.8 * float(torch.rand(()))
    unit = (ramp() + 2) / 8
    torch.manual_seed(3)
    assert torch.allclose(bend_gamma(ramp()), unit**exponent * 8 - 2, atol=1e-4)
    torch.manual_seed(3)
    assert torch.allclose(bend_gamma_inverted(ramp()), 6 - (1 - unit) ** exponent * 8, atol=1e-4)


def test_nnunet_has_the_published_probabilities():
    changes = {function: p for p, function in PATCH_TRANSFORMS["nnunet"].changes}
    assert changes == {
        add_noise: 0.15,
        blur: 0.1,
        scale_brightness: 0.15,
        scale_contrast: 0.15,
        lower_resolution: 0.125,
        bend_gamma: 0.15,
        bend_gamma_inverted: 0.15,
    }
