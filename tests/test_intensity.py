"""Intensity presets: known numbers, and defined results where there is no contrast."""

import numpy as np
import pytest
import torch

from neurosam3d.intensity import (
    INTENSITY_PRESETS,
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


def test_unknown_presets_are_refused_with_the_known_ones():
    image = torch.zeros(1, 2, 2, 2)
    for call in (
        lambda: prepare_volume(image, "zscore"),
        lambda: normalize_crop(image, "zscore"),
        lambda: padding_value("zscore"),
    ):
        with pytest.raises(ValueError, match=r"'zscore'; known: sam_med3d, neurosam3d, none"):
            call()
