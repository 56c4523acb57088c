"""How slices are fed: where pixels and points go, what the network sees, what comes back."""

import numpy as np
import pytest
import torch
from torch import Tensor

from neurosam3d.slice_feeding import FEEDINGS, Feeding, find_feeding

SIDE = 64
RED = (123.675, 58.395)


def grey(height: int, width: int) -> Tensor:
    """Return a slice (1, 1, H, W) that is 1 in a block, else 0."""
    image = torch.zeros(1, 1, height, width)
    image[..., height // 4 : height // 2, width // 2 : 3 * width // 4] = 1
    return image


@pytest.mark.parametrize("sides", [(40, 30), (90, 120), (128, 96), (64, 64)])
@pytest.mark.parametrize("name", FEEDINGS)
def test_points_go_where_their_pixels_go(name: str, sides: tuple[int, int]) -> None:
    feeding, image = find_feeding(name), grey(*sides)
    fed = feeding.image(image, SIDE)
    assert fed.shape == (1, 3, SIDE, SIDE)
    inside = torch.tensor([[sides[1] * 0.625, sides[0] * 0.375]])
    x, y = feeding.place(inside, sides, SIDE)[0].int().tolist()
    assert fed[0, 0, y, x] == pytest.approx(float(fed[0, 0].max()), abs=0.2)
    x, y = feeding.place(torch.tensor([[1.0, sides[0] - 2.0]]), sides, SIDE)[0].int().tolist()
    assert fed[0, 0, y, x] == pytest.approx(float(fed[0, 0].min()), abs=0.2)


@pytest.mark.parametrize("sides", [(40, 30), (90, 120), (128, 96)])
@pytest.mark.parametrize("name", [name for name in FEEDINGS if name != "slicewise_ft2d"])
def test_masks_come_back_where_they_were(name: str, sides: tuple[int, int]) -> None:
    feeding, image = find_feeding(name), grey(*sides)
    fitted = feeding.frame.fit(image, SIDE, mode="bilinear")
    low_res = 12 * (torch.nn.functional.avg_pool2d(fitted, 4) - 0.5)
    back = feeding.restore(low_res, sides, SIDE)
    assert back.shape == (1, 1, *sides)
    found, truth = back > 0, image > 0.5
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85


def test_the_published_mistake_misplaces_masks_of_small_slices() -> None:
    low_res = torch.full((1, 1, 16, 16), -5.0)
    low_res[..., :4, :4] = 5.0  # a quarter of the slice's rows and columns
    right, wrong = (
        find_feeding(name).restore(low_res, (40, 32), SIDE)[0, 0] > 0
        for name in ("slicewise", "slicewise_ft2d")
    )
    assert right[:10, :8].all()
    assert right.sum() == 80
    assert not wrong.any()  # rows 0 ... 15 of 64 less the 12 cut off, columns less 16


def test_sam_sees_eight_bits_with_its_mean_and_padding_of_zero() -> None:
    fed = FEEDINGS["sam"].image(torch.full((1, 1, 20, 40), 0.5021), SIDE)
    expected = (128 - RED[0]) / RED[1]
    torch.testing.assert_close(fed[0, 0, :32], torch.full((32, 64), expected))
    assert not fed[..., 32:, :].any()
    green = (128 - 116.28) / 57.12
    assert float(fed[0, 1, 0, 0]) == pytest.approx(green, abs=1e-5)


def test_sam_med2d_picks_pixels_of_large_slices_and_pads_small_ones_around() -> None:
    image = torch.linspace(0, 1, 80).expand(1, 1, 100, 80)
    fed = FEEDINGS["sam_med2d"].image(image, SIDE)
    levels = (fed[0, 0] * RED[1] + RED[0]).round()
    picked = (255 * image[0, 0, 0]).round()[torch.arange(SIDE) * 80 // SIDE]
    torch.testing.assert_close(levels[7], picked)
    small = FEEDINGS["sam_med2d"].image(torch.ones(1, 1, 20, 33), SIDE)
    rows, columns = (small[0, 0] != 0).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (22, 41, 15, 47)


def test_medsam_sees_the_range_of_each_slice() -> None:
    fed = FEEDINGS["medsam"].image(7 + 3 * grey(48, 80), SIDE)
    assert (fed.min(), fed.max()) == (0, 1)
    flat = FEEDINGS["medsam"].image(torch.full((1, 1, 48, 80), 7.0), SIDE)
    assert flat.abs().max() < 1e-4


def test_slicewise_sees_the_slices_own_mean_and_deviation() -> None:
    fed = FEEDINGS["slicewise"].image(-5 + 3 * grey(48, 80), SIDE)
    std, mean = torch.std_mean(fed[0, 0])
    assert (float(mean), float(std)) == pytest.approx((0, 1), abs=1e-5)
    assert not FEEDINGS["slicewise"].image(torch.full((1, 1, 48, 80), 7.0), SIDE).any()


def test_medsams_logits_are_those_of_interpolated_probabilities() -> None:
    low_res = torch.full((1, 1, 16, 16), -30.0)
    low_res[..., 8:] = 4.0
    back = FEEDINGS["medsam"].restore(low_res, (32, 32), SIDE)
    edge = back[0, 0, 5, 15].sigmoid()
    assert float(edge) == pytest.approx(0.25 / (1 + np.exp(-4)), abs=1e-5)
    assert torch.isfinite(back).all()


@pytest.mark.parametrize(
    ("name", "one_alone", "one_with_box", "two"),
    [
        ("sam", True, False, False),
        ("medsam", False, False, False),
        ("sam_med2d", True, True, True),
        ("slicewise", True, True, True),
    ],
)
def test_when_the_best_of_three_masks_is_taken(
    name: str, one_alone: bool, one_with_box: bool, two: bool
) -> None:
    feeding: Feeding = FEEDINGS[name]
    assert feeding.wants_three(num_points=1, alone=True) == one_alone
    assert feeding.wants_three(num_points=1, alone=False) == one_with_box
    assert feeding.wants_three(num_points=2, alone=True) == two


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="unknown feeding 'x'; known: sam, sam_med2d, medsam, sl"):
        find_feeding("x")
    for name in ("sam", "sam_med2d"):
        with pytest.raises(ValueError, match=r"'clip LOW HIGH' and medsam give it, got -1 to 1"):
            FEEDINGS[name].image(2 * grey(40, 30) - 1, SIDE)
