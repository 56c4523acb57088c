"""Augmentation: what each transform does to known voxels, and what it must leave alone."""

import pytest
import torch
import torchio as tio

from neurosam3d.data.transforms import (
    TRANSFORM_PRESETS,
    OnUnitRange,
    RandomHistogramShift,
    RandomQuarterTurn,
    RandomSharpen,
    get_transform_preset,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def subject_of(image: torch.Tensor, label: torch.Tensor | None = None) -> tio.Subject:
    label = (image > image.mean()).to(torch.uint8) if label is None else label
    return tio.Subject(image=tio.ScalarImage(tensor=image), label=tio.LabelMap(tensor=label))


def numbered(side: int = 6) -> torch.Tensor:
    return torch.arange(float(side**3)).view(1, side, side, side)


@pytest.mark.parametrize("plane", [(0, 1), (1, 2), (0, 2)])
def test_quarter_turns_move_image_and_label_alike_in_their_plane(plane):
    image = numbered()
    seen = set()
    for _ in range(20):
        turned = RandomQuarterTurn(plane)(subject_of(image.clone(), image.to(torch.uint8)))
        data = turned["image"].data
        assert torch.equal(data.to(torch.uint8), turned["label"].data)
        axes = [1 + axis for axis in plane]
        seen |= {k for k in range(4) if torch.equal(data, torch.rot90(image, k, axes))}
    assert seen == {1, 2, 3}


def test_on_unit_range_hands_over_unit_intensities_and_goes_back():
    image = numbered() * 3 - 100

    class Record(tio.IntensityTransform):
        def apply_transform(self, subject: tio.Subject) -> tio.Subject:
            self.seen = subject["image"].data.clone()
            subject["image"].set_data(self.seen / 2)
            return subject

    record = Record(copy=False)
    result = OnUnitRange(record)(subject_of(image.clone()))["image"].data
    assert torch.allclose(record.seen, (image + 100) / 645, atol=1e-6)
    assert torch.allclose(result, (image + 100) / 2 - 100, atol=1e-3)


def test_on_unit_range_leaves_a_constant_image_alone():
    image = torch.full((1, 4, 5, 6), 7.0)
    result = OnUnitRange(tio.Gamma(2.0))(subject_of(image.clone()))["image"].data
    assert torch.equal(result, image)


def test_histogram_shift_is_a_rising_curve_that_keeps_the_ends():
    image = torch.linspace(0, 1, 216).view(1, 6, 6, 6)
    result = RandomHistogramShift()(subject_of(image.clone()))["image"].data
    assert result.dtype == torch.float32
    assert result.flatten()[0] == 0
    assert result.flatten()[-1] == 1
    assert (result.flatten().diff() > 0).all()
    assert 0.005 < (result - image).abs().max() < 0.5 / 9


def test_sharpen_overshoots_at_an_edge_and_keeps_flat_parts():
    image = torch.zeros(1, 24, 5, 7)
    image[:, 12:] = 1
    result = RandomSharpen()(subject_of(image.clone()))["image"].data[0, :, 2, 3]
    assert result[11] < -0.01
    assert result[12] > 1.01
    assert result[[0, -1]] == pytest.approx([0, 1], abs=1e-3)


@pytest.mark.parametrize(
    "transform", [RandomHistogramShift(), RandomSharpen(), OnUnitRange(tio.Gamma(1.5))]
)
def test_intensity_transforms_leave_the_label_alone(transform):
    label = torch.randint(2, (1, 6, 6, 6), dtype=torch.uint8)
    result = transform(subject_of(torch.rand(1, 6, 6, 6), label.clone()))
    assert torch.equal(result["label"].data, label)


@pytest.mark.parametrize("name", TRANSFORM_PRESETS)
def test_presets_keep_shape_type_and_the_voxels_of_the_label(name):
    augment = get_transform_preset(name).build()
    for _ in range(20):
        label = torch.randint(2, (1, 8, 8, 8), dtype=torch.uint8)
        result = augment(subject_of(torch.randn(1, 8, 8, 8), label.clone()))
        assert result["image"].data.shape == result["label"].data.shape == (1, 8, 8, 8)
        assert result["image"].data.dtype == torch.float32
        assert result["image"].data.isfinite().all()
        assert result["label"].data.dtype == torch.uint8
        assert result["label"].data.sum() == label.sum()


def test_sam_med3d_flips_every_axis_half_of_the_time():
    image = numbered(3)
    flipped = torch.zeros(3)
    for _ in range(300):
        result = TRANSFORM_PRESETS["sam_med3d"].build()(subject_of(image.clone()))["image"].data
        d, h, w = (int(result[0, 0, 0, 0]) // step % 3 == 2 for step in (9, 3, 1))
        assert torch.equal(result.flip([a + 1 for a, on in enumerate((d, h, w)) if on]), image)
        flipped += torch.tensor([d, h, w])
    assert (flipped / 300 - 0.5).abs().max() < 0.1


def test_neurosam3d_changes_place_and_intensity_as_often_as_it_says():
    augment = TRANSFORM_PRESETS["neurosam3d"].build()
    image = torch.rand(1, 6, 6, 6)
    numbers = torch.arange(216, dtype=torch.uint8).view(1, 6, 6, 6)
    unmoved = untouched = 0
    for _ in range(300):
        result = augment(subject_of(image.clone(), numbers.clone()))
        place = result["label"].data
        unmoved += torch.equal(place, numbers)
        untouched += torch.equal(
            result["image"].data.flatten(), image.flatten()[place.flatten().long()]
        )
    assert unmoved / 300 == pytest.approx(0.7**6, abs=0.06)
    assert untouched / 300 == pytest.approx(0.5, abs=0.1)


def test_unknown_presets_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'monai'; known: sam_med3d, neurosam3d"):
        get_transform_preset("monai")
