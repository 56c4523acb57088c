"""Metrics and simulated prompts hold their rules for any two masks, empty ones included."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosam3d.evaluation.metrics import batch_dice, score_masks
from neurosam3d.prompts import CLICK_METHODS, boxes_from_masks, sample_clicks
from tests.properties.drawing import Effort, efforts, shapes

SHARES = st.sampled_from([0.0, 0.02, 0.5, 1.0])
SEEDS = st.integers(0, 2**32 - 1)
SPACINGS = st.tuples(*[st.floats(0.3, 12.0)] * 3)
SYMMETRIC = ("dice", "iou", "surface_dice", "hausdorff95", "assd")


def draw_mask(shape: tuple[int, int, int], share: float, seed: int) -> np.ndarray:
    """Draw a mask of which about a share is foreground."""
    return np.random.default_rng(seed).random(shape) < share


def alike(first: float, second: float) -> bool:
    """Tell whether two scores are one, up to the order of a sum."""
    return first == second or math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-9)


@efforts(few=40, many=300)
def test_scores_hold_their_rules(effort: Effort) -> None:
    @effort.tries
    @given(shapes(40), SHARES, SHARES, SEEDS, SPACINGS, st.floats(0, 9))
    def holds(
        shape: tuple[int, int, int],
        share: float,
        other_share: float,
        seed: int,
        spacing: tuple[float, float, float],
        tolerance_mm: float,
    ) -> None:
        first, second = draw_mask(shape, share, seed), draw_mask(shape, other_share, seed + 1)
        given_ = {"spacing": spacing, "tolerance_mm": tolerance_mm}
        scores = score_masks(first, second, **given_)
        swapped = score_masks(second, first, **given_)
        for name in SYMMETRIC:
            assert alike(getattr(scores, name), getattr(swapped, name)), name
        shared, total = int((first & second).sum()), int(first.sum() + second.sum())
        assert alike(scores.dice, 2 * shared / total if total else 1.0)
        assert alike(scores.iou, shared / (total - shared) if total else 1.0)
        assert 0 <= scores.surface_dice <= 1 + 1e-12
        assert scores.assd >= 0
        diagonal = float(np.linalg.norm(np.multiply(shape, spacing)))
        is_one_empty = first.any() != second.any()
        assert math.isinf(scores.hausdorff95) == is_one_empty
        assert is_one_empty or 0 <= scores.hausdorff95 <= diagonal
        perfect = score_masks(first, first, **given_)
        assert (perfect.dice, perfect.iou, perfect.surface_dice) == (1, 1, 1)
        assert (perfect.hausdorff95, perfect.assd, perfect.volume_error) == (0, 0, 0)
        masks = (torch.from_numpy(mask)[None, None] for mask in (first, second))
        assert math.isclose(float(batch_dice(*masks)), scores.dice, rel_tol=1e-6)

    holds()


@efforts(few=40, many=300)
def test_clicks_fall_into_the_error_and_boxes_hold_the_mask(effort: Effort) -> None:
    @effort.tries
    @given(shapes(40), SHARES, SHARES, SEEDS, st.sampled_from(list(CLICK_METHODS)))
    def holds(
        shape: tuple[int, int, int], share: float, other_share: float, seed: int, method: str
    ) -> None:
        truth = torch.from_numpy(draw_mask(shape, share, seed))[None, None]
        prediction = torch.from_numpy(draw_mask(shape, other_share, seed + 1))[None, None]
        generator = torch.Generator().manual_seed(seed)
        points, labels = sample_clicks(truth, prediction, method=method, generator=generator)
        (voxel,) = points[0].long().tolist()
        assert all(0 <= place < side for place, side in zip(voxel, shape, strict=True))
        label = int(labels[0, 0])
        is_object = bool(truth[0, 0][tuple(voxel)])
        can_click = truth if method == "largest" else truth ^ prediction
        if can_click.any():
            assert label == is_object
            assert bool(can_click[0, 0][tuple(voxel)])
        low, high = boxes_from_masks(truth)[0].long().tolist()
        if truth.any():
            found = truth[0, 0].nonzero()
            assert (low, high) == (found.amin(0).tolist(), found.amax(0).tolist())
        else:
            assert (low, high) == ([0, 0, 0], [side - 1 for side in shape])

    holds()
