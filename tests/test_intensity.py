"""Intensity presets: known numbers, and defined results where there is no contrast."""

import numpy as np
import pytest
import torch

from neurosam3d.intensity import (
    INTENSITY_PRESETS,
    get_preset,
    normalize_crop,
    padding_value,
    prepare_volume,
)


def image_of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1, 1)


def test_sam_med3d_standardizes_over_voxels_above_zero():
    # Above 0: 2, 4, 6 with mean 4 and unbiased deviation 2; voxels <= 0 are shifted along.
    result = normalize_crop(image_of(2, 4, 6, 0, -10), "sam_med3d")
    assert torch.allclose(result, image_of(-1, 0, 1, -2, -7))


def test_sam_med3d_leaves_the_volume_alone():
    image = torch.randint(-1000, 1000, (1, 3, 4, 5), dtype=torch.int16)
    result = prepare_volume(image, "sam_med3d")
    assert result.dtype == torch.float32
    assert torch.equal(result, image.float())
    assert padding_value("sam_med3d") == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((7, 7, 7), (0, 0, 0)),  # constant, positive
        ((0, 0, 0), (0, 0, 0)),  # nothing above 0, constant
        ((-300, -100, -200), (-1, 1, 0)),  # nothing above 0: all voxels, mean -200, deviation 100
        ((-1, 0, 1), (-1, 0, 1)),  # a single voxel above 0 has no deviation
        ((0, 5, 5), (-5, 0, 0)),  # a foreground of one value is only shifted
    ],
)
def test_sam_med3d_is_defined_without_contrast(values, expected):
    result = normalize_crop(image_of(*values), "sam_med3d")
    assert torch.allclose(result, image_of(*expected))


def test_sam_med3d_does_not_amplify_rounding():
    """A constant scan comes out of resampling with noise in the last digit."""
    image = torch.full((1, 4, 30, 5), 1234.567)
    image[:, ::2] = torch.nextafter(image[:, ::2], torch.tensor(2000.0))
    assert normalize_crop(image, "sam_med3d").abs().max() < 1e-2


def test_neurosam3d_maps_percentiles_to_unit_range_and_clips():
    order = torch.randperm(10_001, generator=torch.Generator().manual_seed(0))
    image = torch.arange(10_001.0)[order]
    result = prepare_volume(image.view(1, 1, 1, -1), "neurosam3d").flatten()
    # Percentiles 0.05 and 99.95 of 0..10000 are 5 and 9995.
    assert torch.allclose(result, ((image - 5) / 9990 * 2 - 1).clamp(-1, 1), atol=1e-6)
    assert result.min() == -1
    assert result.max() == 1
    assert result[image == 5000].abs() < 1e-6


def test_neurosam3d_takes_more_voxels_than_torch_quantile():
    image = torch.zeros(1, 260, 256, 256, dtype=torch.int16)
    image[0, :10] = 100
    assert prepare_volume(image, "neurosam3d").unique().tolist() == [-1, 1]


def test_neurosam3d_maps_a_constant_image_to_its_padding():
    assert (prepare_volume(image_of(3, 3, 3), "neurosam3d") == padding_value("neurosam3d")).all()


def test_neurosam3d_does_nothing_to_the_crop():
    image = image_of(-1, 0.25, 1)
    assert torch.equal(normalize_crop(image, "neurosam3d"), image)


def test_none_only_converts_to_float():
    image = torch.tensor(np.arange(-3, 3, dtype=np.int16)).view(1, 1, 2, 3)
    for stage in (prepare_volume, normalize_crop):
        assert torch.equal(stage(image, "none"), image.float())
    assert padding_value("none") == 0


@pytest.mark.parametrize("name", INTENSITY_PRESETS)
def test_presets_do_not_write_into_their_input(name):
    image = torch.randn(1, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    normalize_crop(prepare_volume(image, name), name)
    assert torch.equal(image, before)


EXPRESSION = "clip -50 150 mean 30 std 20"


def test_clip_limits_the_values_and_maps_the_range_to_0_and_1():
    image = image_of(-1000, -50, 0, 150, 3000)
    assert torch.equal(prepare_volume(image, "clip -50 150"), image)  # resampling sees raw values
    result = normalize_crop(image, "clip -50 150")
    assert torch.allclose(result, image_of(0, 0, 0.25, 1, 1))


def test_clip_with_statistics_limits_the_values_before_it_standardises():
    image = image_of(-1000, -50, 0, 30, 150, 3000)
    assert torch.equal(prepare_volume(image, EXPRESSION), image)
    result = normalize_crop(image, EXPRESSION)
    assert torch.allclose(result, image_of(-4, -4, -1.5, 0, 6, 6))


@pytest.mark.parametrize("name", ["clip -50 1.5e2", EXPRESSION, "adapter3d_lits", "baseline_colon"])
def test_the_outside_of_a_clipped_scan_becomes_zero(name):
    assert normalize_crop(image_of(padding_value(name)), name).item() == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adapter3d_kits", ((-54 - 59.53867) / 55.457336, (247 - 59.53867) / 55.457336)),
        ("adapter3d_pancreas", ((-39 - 68.45214) / 63.422806, (204 - 68.45214) / 63.422806)),
        ("adapter3d_lits", ((-48 - 60.057533) / 40.198017, (163 - 60.057533) / 40.198017)),
        ("adapter3d_colon", ((-57 - 65.175035) / 32.651197, (175 - 65.175035) / 32.651197)),
        ("baseline_kits", (0, 1)),
        ("baseline_pancreas", (0, 1)),
        ("baseline_lits", (0, 1)),
        ("baseline_colon", (0, 1)),
    ],
)
def test_named_clips_have_the_published_numbers(name, expected):
    low, high = {"kits": (-54, 247), "pancreas": (-39, 204), "lits": (-48, 163)}.get(
        name.rpartition("_")[2], (-57, 175)
    )
    result = normalize_crop(image_of(low - 1, low, high, high + 1), name)
    assert torch.allclose(result, image_of(expected[0], *expected, expected[1]))
    inside = normalize_crop(image_of(low + 1, high - 1), name).flatten()
    assert expected[0] < inside[0] < inside[1] < expected[1]


def test_zscore_takes_the_statistics_of_the_whole_scan():
    result = prepare_volume(image_of(1, 3, 1, 3, -4, 8), "zscore")  # mean 2, deviation sqrt(76 / 6)
    assert torch.allclose(result, (image_of(1, 3, 1, 3, -4, 8) - 2) / (76 / 6) ** 0.5)
    assert torch.equal(normalize_crop(result, "zscore"), result)
    assert padding_value("zscore") == 0
    assert torch.equal(prepare_volume(image_of(7, 7, 7), "zscore"), image_of(0, 0, 0))


def test_unknown_presets_are_refused_with_the_known_ones():
    image = torch.zeros(1, 2, 2, 2)
    for call in (
        lambda: prepare_volume(image, "bright"),
        lambda: normalize_crop(image, "bright"),
        lambda: padding_value("bright"),
        lambda: get_preset("bright"),
    ):
        with pytest.raises(
            ValueError,
            match=r"'bright'; known: sam_med3d, .*, none, 'clip LOW HIGH', 'clip LOW HIGH mean M",
        ):
            call()


@pytest.mark.parametrize(
    "expression", ["clip 5", "clip 1 2 3", "clip 1 2 mean 3", "clip 1 2 std 3 mean 4", "CLIP 1 2"]
)
def test_what_only_looks_like_an_expression_is_unknown(expression):
    with pytest.raises(ValueError, match=f"unknown intensity preset '{expression}'"):
        get_preset(expression)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("clip low 5", "could not convert string to float: 'low'"),
        ("clip 5 5", "LOW < HIGH"),
        ("clip nan 5", "finite numbers"),
        ("clip 0 inf", "finite numbers"),
        ("clip 0 5 mean 2 std inf", "finite numbers"),
        ("clip 0 5 mean 6 std 1", "LOW <= M <= HIGH"),
        ("clip 5 0 mean 2 std 1", "LOW < HIGH"),
        ("clip 3 3 mean 3 std 1", "LOW < HIGH"),
        ("clip 0 5 mean 2 std 0", "S > 0"),
    ],
)
def test_unfit_numbers_are_refused_with_the_expression(expression, reason):
    with pytest.raises(ValueError, match=f"{reason}.*, got '{expression}'"):
        get_preset(expression)


def test_medsam_maps_percentiles_of_voxels_above_zero_to_0_and_1():
    order = torch.randperm(2001, generator=torch.Generator().manual_seed(0))
    image = torch.arange(-1000.0, 1001.0)[order]
    result = prepare_volume(image.view(1, 1, -1, 1), "medsam").flatten()
    # Above 0 are 1 to 1000, with the percentiles 5.995 and 995.005.
    expected = ((image - 5.995) / 989.01).clamp(0, 1)
    assert torch.allclose(result, expected, atol=1e-6)
    assert not result[image <= 5].any()
    assert padding_value("medsam") == 0


@pytest.mark.parametrize("values", [(0, 0, 0), (-3, -1, -2), (5, 5, 0)])
def test_medsam_is_defined_without_contrast(values):
    assert not prepare_volume(image_of(*values), "medsam").any()
