"""The originals' ways of scoring, against what their programs gave."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from neurosam3d.evaluation.metrics import dice, hausdorff95, score_masks, surface_dice
from tests.reference.seeded import seeded_array

SHAPE = (6, 9, 13)
EMPTY, FULL = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
SPACING = (2.5, 0.8, 0.8)


def ball(centre: tuple[int, int, int], radius_mm: float) -> np.ndarray:
    axes = zip(np.indices((24, 40, 40)), centre, SPACING, strict=True)
    return sum(((axis - c) * side) ** 2 for axis, c, side in axes) <= radius_mm**2


def samed_mask(name: str) -> np.ndarray:
    field = torch.from_numpy(seeded_array(name, (1, 1, 4, 5, 6)))
    return F.interpolate(field, (12, 30, 36), mode="trilinear")[0, 0].numpy() > 0.3


def test_sam_med3d_has_no_score_for_two_empty_masks_and_a_tolerance_of_1_mm() -> None:
    both = score_masks(EMPTY, EMPTY, legacy="sam_med3d")
    assert math.isnan(both.dice)
    assert math.isnan(both.surface_dice)
    assert both.hausdorff95 == 0  # the original does not compute it
    for pair in ((EMPTY, FULL), (FULL, EMPTY)):
        scores = score_masks(*pair, legacy="sam_med3d")
        assert (scores.dice, scores.surface_dice) == (0, 0)
    pair = ball((12, 20, 20), 10), ball((13, 23, 18), 9)
    named = surface_dice(*pair, spacing=SPACING, tolerance_mm=7.0, legacy="sam_med3d")
    assert named == surface_dice(*pair, spacing=SPACING, tolerance_mm=1.0)


def test_adapter3d_gives_what_its_program_gave() -> None:
    prediction, truth = ball((13, 23, 18), 9), ball((12, 20, 20), 10)
    for tolerance_mm, stored in ((1.0, 0.3983527390140167), (2.0, 0.6021985883455322)):
        found = surface_dice(prediction, truth, spacing=SPACING, tolerance_mm=tolerance_mm)
        assert found == pytest.approx(stored, abs=1e-6)
    found = surface_dice(prediction, truth, spacing=SPACING, legacy="adapter3d")
    assert found == pytest.approx(0.99931277692883, abs=1e-6)  # at its 5 mm
    logits = torch.from_numpy(seeded_array("adapter3d/loss/logits", (1, 2, 12, 14, 16)))
    label = seeded_array("adapter3d/loss/seg", (1, 1, 12, 14, 16))[0, 0] > 0.8
    found = dice(logits.softmax(1)[0, 1] > 0.5, label, legacy="adapter3d")
    assert found == pytest.approx(0.2813456058502197, abs=1e-6)


def test_adapter3d_smooths_dice() -> None:
    one = np.zeros(SHAPE, bool)
    one[0, 0, 0] = True
    assert dice(EMPTY, one, legacy="adapter3d") == pytest.approx(1e-5 / (1 + 1e-5))
    both = score_masks(EMPTY, EMPTY, legacy="adapter3d")
    assert (both.dice, both.surface_dice) == (1, 1)


def test_samed_gives_what_its_program_gave() -> None:
    prediction, truth = samed_mask("samed/metric_a"), samed_mask("samed/metric_b")
    scores = score_masks(prediction, truth, spacing=SPACING, legacy="samed")
    assert scores.dice == pytest.approx(0.34062822)
    assert scores.hausdorff95 == pytest.approx(5.0)  # in voxels, whatever the spacing
    for pair, stored in (
        ((FULL, EMPTY), (1, 0)),
        ((EMPTY, FULL), (0, 0)),
        ((EMPTY, EMPTY), (0, 0)),
    ):
        scores = score_masks(*pair, legacy="samed")
        assert (scores.dice, scores.hausdorff95) == stored


def test_samed_pools_the_distances_of_border_voxels() -> None:
    # A rod of 5 voxels and one of 25 around it: 30 border voxels, 10 + 10 of them 1..10 away.
    short, long = np.zeros((5, 5, 29), bool), np.zeros((5, 5, 29), bool)
    short[2, 2, 12:17] = True
    long[2, 2, 2:27] = True
    distances = [0] * 10 + [*range(1, 11)] * 2
    expected = np.percentile(distances, 95)
    assert hausdorff95(short, long, spacing=(9, 9, 9), legacy="samed") == pytest.approx(expected)
    block = np.zeros((5, 5, 29), bool)
    block[1:4, 1:4, 2:5] = True  # its middle voxel is no border
    hollow = block.copy()
    hollow[2, 2, 3] = False  # now six more voxels are, of which none was far
    assert hausdorff95(block, hollow, legacy="samed") == 0
