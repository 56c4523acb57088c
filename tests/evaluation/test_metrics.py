"""Overlap and surface metrics: known answers, and equality with the `surface-distance` package."""

import math
import tracemalloc
from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
import surface_distance
import torch

from neurosam3d.evaluation.metrics import (
    assd,
    batch_dice,
    dice,
    hausdorff95,
    iou,
    score_masks,
    surface_dice,
    volume_error,
)

SHAPE = (6, 9, 13)
SPACING = (0.8, 1.3, 2.5)
Spacing = tuple[float, float, float]
FUNCTIONS: list[Callable[..., float]] = [
    *(dice, iou, surface_dice),
    *(hausdorff95, assd, volume_error),
]


def ellipsoid(
    shape: tuple[int, int, int], centre: tuple[float, ...], radii: tuple[float, ...]
) -> np.ndarray:
    offsets = [(axis - c) / r for axis, c, r in zip(np.indices(shape), centre, radii, strict=True)]
    return sum(offset**2 for offset in offsets) < 1


def reference(
    prediction: np.ndarray, truth: np.ndarray, *, spacing: Spacing, tolerance_mm: float
) -> tuple[float, float, float]:
    """Surface Dice, HD95 and ASSD from the package's distances."""
    found = surface_distance.compute_surface_distances(truth, prediction, spacing)
    distances = np.concatenate([found["distances_gt_to_pred"], found["distances_pred_to_gt"]])
    areas = np.concatenate([found["surfel_areas_gt"], found["surfel_areas_pred"]])
    return (
        surface_distance.compute_surface_dice_at_tolerance(found, tolerance_mm),
        surface_distance.compute_robust_hausdorff(found, 95),
        (distances * areas).sum() / areas.sum(),
    )


def test_overlap_of_counted_voxels() -> None:
    prediction, truth = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    truth[1:3, 2:4, 3:6] = True  # 12 voxels
    prediction[2:5, 2:4, 3:6] = True  # 18 voxels, 6 shared
    assert dice(prediction, truth) == pytest.approx(12 / 30)
    assert dice(torch.from_numpy(prediction), torch.from_numpy(truth)) == pytest.approx(12 / 30)
    assert dice(prediction.astype(np.uint8) * 7, truth, spacing=SPACING) == pytest.approx(12 / 30)
    assert iou(prediction, truth) == pytest.approx(6 / 24)
    assert volume_error(prediction, truth) == pytest.approx(6 / 12)
    assert volume_error(truth, prediction) == pytest.approx(-6 / 18)


@pytest.mark.parametrize("density", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("spacing", [SPACING, (1.5, 1.5, 1.5), (3.0, 0.7, 0.9)])
def test_equal_to_surface_distance_on_every_kind_of_cell(density: float, spacing: Spacing) -> None:
    rng = np.random.default_rng(11)
    for tolerance_mm in (0.0, 1.0, 1.5, 2.6, 3.0):
        prediction, truth = rng.random((2, *SHAPE)) < density
        scores = score_masks(prediction, truth, spacing=spacing, tolerance_mm=tolerance_mm)
        expected = reference(prediction, truth, spacing=spacing, tolerance_mm=tolerance_mm)
        found = (scores.surface_dice, scores.hausdorff95, scores.assd)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spacing", [SPACING, (0.9765625, 0.9765625, 5.0), (0.7, 0.7, 0.7)])
@pytest.mark.parametrize("shift", [2.0, 9.0])
def test_equal_to_surface_distance_on_objects_that_touch_the_border(
    spacing: Spacing, shift: float
) -> None:
    shape = (20, 31, 46)
    truth = ellipsoid(shape, (3.0, 15.0, 20.0), (8.0, 11.0, 9.0))
    prediction = ellipsoid(shape, (5.0, 17.0, 18.0 + shift), (9.0, 10.0, 22.0))
    expected = reference(prediction, truth, spacing=spacing, tolerance_mm=2.1)
    scores = score_masks(prediction, truth, spacing=spacing, tolerance_mm=2.1)
    assert 0.1 < scores.surface_dice < 0.8
    found = (scores.surface_dice, scores.hausdorff95, scores.assd)
    assert found == pytest.approx(expected, abs=1e-12)
    single = (
        surface_dice(prediction, truth, spacing=spacing, tolerance_mm=2.1),
        hausdorff95(prediction, truth, spacing=spacing),
        assd(prediction, truth, spacing=spacing),
    )
    assert single == found


def test_equal_to_surface_distance_on_objects_large_enough_for_threads() -> None:
    shape = (64, 90, 81)
    truth = ellipsoid(shape, (30.0, 40.0, 40.0), (29.0, 38.0, 36.0))
    prediction = ellipsoid(shape, (33.0, 45.0, 45.0), (20.0, 30.0, 24.0))
    expected = reference(prediction, truth, spacing=SPACING, tolerance_mm=5.0)
    scores = score_masks(prediction, truth, spacing=SPACING, tolerance_mm=5.0)
    found = (scores.surface_dice, scores.hausdorff95, scores.assd)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("spacing", "steps"), [(SPACING, 2), ((1.0, 1.0, 0.7), 3)])
def test_shifted_block_in_millimetres(spacing: Spacing, steps: int) -> None:
    truth = np.zeros((12, 14, 16), bool)
    truth[3:9, 4:10, 5:11] = True
    shifted, distance_mm = np.roll(truth, steps, axis=2), steps * spacing[2]
    assert hausdorff95(shifted, truth, spacing=spacing) == pytest.approx(distance_mm)
    assert surface_dice(shifted, truth, spacing=spacing, tolerance_mm=distance_mm) == 1.0
    below = np.nextafter(distance_mm, 0)
    assert surface_dice(shifted, truth, spacing=spacing, tolerance_mm=below) < 1.0


def test_average_distance_weighs_both_surfaces_together() -> None:
    # Two plates one voxel thick: the wide one reaches 6 mm beyond the other on one side.
    truth, prediction = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    truth[4, 1:8, 1:8] = True
    prediction[4, 1:8, 1:5] = True
    found = surface_distance.compute_surface_distances(truth, prediction, (2.0, 2.0, 2.0))
    directions = surface_distance.compute_average_surface_distance(found)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    together = np.dot(directions, areas) / sum(areas)
    assert abs(together - np.mean(directions)) > 0.1
    assert assd(prediction, truth, spacing=(2.0, 2.0, 2.0)) == pytest.approx(together)


def test_conventions_for_empty_masks() -> None:
    empty, full = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    both, missed = score_masks(empty, empty), score_masks(empty, full)
    invented, right = score_masks(full, empty), score_masks(full, full)
    assert astuple(both) == (1, 1, 1, 0, 0, 0, True, True)
    assert astuple(missed) == (0, 0, 0, math.inf, math.inf, -1, True, False)
    assert astuple(invented) == (0, 0, 0, math.inf, math.inf, math.inf, False, True)
    assert astuple(right) == (1, 1, 1, 0, 0, 0, False, False)
    for function in FUNCTIONS:
        for masks, scores in (((empty, full), missed), ((full, empty), invented)):
            assert function(*masks) == getattr(scores, function.__name__)


def test_memory_is_that_of_the_objects_not_of_the_volume() -> None:
    prediction, truth = np.zeros((2, 200, 220, 240), np.uint8)
    truth[10:20, 12:20, 14:20] = truth[180:190, 200:210, 220:230] = 1
    prediction[11:20, 12:20, 14:20] = prediction[180:190, 200:210, 219:229] = 1
    score_masks(prediction[:20], truth[:20])  # fill the tables
    tracemalloc.start()
    scores = score_masks(prediction, truth, spacing=SPACING)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.9 < scores.dice < 1
    assert peak < 2.2 * truth.size  # two maps of a byte per voxel, of which little is touched


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


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_names_wrong_masks_and_conventions(function: Callable[..., float]) -> None:
    mask = np.ones(SHAPE, bool)
    with pytest.raises(ValueError, match=r"of one shape, got \(6, 9, 13\) and \(6, 9, 12\)"):
        function(mask, mask[..., 1:])
    known = "adapter3d, sam_med3d, samed"
    with pytest.raises(ValueError, match=f"unknown legacy convention 'medpy'; known: {known}"):
        function(mask, mask, legacy="medpy")


def test_wrong_lengths_are_named() -> None:
    mask = np.ones(SHAPE, bool)
    with pytest.raises(ValueError, match="spacing must be three positive lengths"):
        hausdorff95(mask, mask, spacing=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="tolerance_mm must be a length >= 0, got -1"):
        surface_dice(mask, mask, tolerance_mm=-1.0)
    with pytest.raises(ValueError, match="logits must have the truth's shape"):
        batch_dice(torch.zeros(2, 1, 3, 4, 5), torch.zeros(1, 1, 3, 4, 5))
