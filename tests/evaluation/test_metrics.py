"""Overlap and surface metrics: known answers, and equality with the `surface-distance` package."""

import math

import numpy as np
import pytest
import surface_distance
import torch

from neurosam3d.evaluation.metrics import (
    batch_dice,
    dice,
    hausdorff95,
    surface_dice,
    surface_scores,
)

SHAPE = (6, 9, 13)
SPACING = (0.8, 1.3, 2.5)


def _ellipsoid(
    shape: tuple[int, int, int], centre: tuple[float, ...], radii: tuple[float, ...]
) -> np.ndarray:
    offsets = [(axis - c) / r for axis, c, r in zip(np.indices(shape), centre, radii, strict=True)]
    return sum(offset**2 for offset in offsets) < 1


def test_dice_of_counted_voxels() -> None:
    prediction, truth = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    truth[1:3, 2:4, 3:6] = True  # 12 voxels
    prediction[2:5, 2:4, 3:6] = True  # 18 voxels, 6 shared
    assert dice(prediction, truth) == pytest.approx(12 / 30)
    assert dice(torch.from_numpy(prediction), torch.from_numpy(truth)) == pytest.approx(12 / 30)
    assert dice(prediction.astype(np.uint8) * 7, truth, spacing=SPACING) == pytest.approx(12 / 30)


@pytest.mark.parametrize("density", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("spacing", [SPACING, (1.5, 1.5, 1.5), (3.0, 0.7, 0.9)])
def test_equal_to_surface_distance_on_every_kind_of_cell(
    density: float, spacing: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(11)
    for _ in range(5):
        prediction, truth = rng.random((2, *SHAPE)) < density
        expected = surface_distance.compute_surface_distances(truth, prediction, spacing)
        for tolerance_mm in (0.0, 1.0, 1.5, 2.6):
            nsd = surface_distance.compute_surface_dice_at_tolerance(expected, tolerance_mm)
            assert surface_dice(
                prediction, truth, spacing=spacing, tolerance_mm=tolerance_mm
            ) == pytest.approx(nsd, abs=1e-12)
        assert hausdorff95(prediction, truth, spacing=spacing) == pytest.approx(
            surface_distance.compute_robust_hausdorff(expected, 95), abs=1e-12
        )


def test_equal_to_surface_distance_on_objects_that_touch_the_border() -> None:
    shape = (20, 31, 26)
    truth = _ellipsoid(shape, (3.0, 15.0, 20.0), (8.0, 11.0, 9.0))
    prediction = _ellipsoid(shape, (5.0, 17.0, 18.0), (9.0, 10.0, 12.0))
    expected = surface_distance.compute_surface_distances(truth, prediction, SPACING)
    nsd, hd95 = surface_scores(prediction, truth, spacing=SPACING, tolerance_mm=2.0)
    assert 0.2 < nsd < 0.8
    assert nsd == pytest.approx(surface_distance.compute_surface_dice_at_tolerance(expected, 2.0))
    assert hd95 == pytest.approx(surface_distance.compute_robust_hausdorff(expected, 95))


def test_shifted_block_in_millimetres() -> None:
    truth, prediction = np.zeros((12, 14, 16), bool), np.zeros((12, 14, 16), bool)
    truth[3:9, 4:10, 5:11] = True
    prediction[3:9, 4:10, 7:13] = True  # two voxels of 2.5 mm farther
    assert hausdorff95(prediction, truth, spacing=SPACING) == pytest.approx(5.0)
    nsd = surface_dice(prediction, truth, spacing=SPACING, tolerance_mm=5.0)
    assert nsd == 1.0  # a distance equal to the tolerance is within it
    assert surface_dice(prediction, truth, spacing=SPACING, tolerance_mm=4.9) < 1.0


def test_conventions_for_empty_masks() -> None:
    empty, full = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    assert (dice(empty, empty), surface_dice(empty, empty), hausdorff95(empty, empty)) == (1, 1, 0)
    for pair in ((empty, full), (full, empty)):
        assert (dice(*pair), surface_dice(*pair), hausdorff95(*pair)) == (0, 0, math.inf)
    assert (dice(full, full), surface_dice(full, full), hausdorff95(full, full)) == (1, 1, 0)


def test_batch_dice_scores_items_apart_and_thresholds_at_zero() -> None:
    truth = torch.zeros(4, 1, *SHAPE, dtype=torch.bool)
    truth[:2, 0, 1, 2:4, 3:6] = True  # 6 voxels
    logits = torch.full((4, 1, *SHAPE), -0.1)
    logits[0, 0, 1, 2:4, 3:6] = 0.4
    logits[1, 0, 1:3, 2:4, 3:6] = 0.4  # 12 voxels, 6 shared
    logits[2, 0, 0, 0, 0] = 0.4
    assert batch_dice(logits, truth).tolist() == pytest.approx([1.0, 12 / 18, 0.0, 1.0])
    assert batch_dice(torch.zeros_like(logits), truth).tolist() == [0, 0, 1, 1]


def test_batch_dice_agrees_with_dice() -> None:
    generator = torch.Generator().manual_seed(4)
    logits, truth = torch.randn(2, 3, 1, *SHAPE, generator=generator)
    expected = [dice(a > 0, b > 0) for a, b in zip(logits[:, 0], truth[:, 0], strict=True)]
    assert batch_dice(logits, truth).tolist() == pytest.approx(expected)


def test_wrong_arguments_are_named() -> None:
    mask = np.ones(SHAPE, bool)
    with pytest.raises(ValueError, match=r"of one shape, got \(6, 9, 13\) and \(6, 9, 12\)"):
        dice(mask, mask[..., 1:])
    with pytest.raises(ValueError, match=r"volumes \(D, H, W\) of one shape, got \(9, 13\)"):
        hausdorff95(mask[0], mask[0])
    with pytest.raises(ValueError, match="spacing must be three positive lengths"):
        hausdorff95(mask, mask, spacing=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="tolerance_mm must be a length >= 0, got -1"):
        surface_dice(mask, mask, tolerance_mm=-1.0)
    with pytest.raises(ValueError, match="logits must have the truth's shape"):
        batch_dice(torch.zeros(2, 1, 3, 4, 5), torch.zeros(1, 1, 3, 4, 5))
