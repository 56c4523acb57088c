import numpy as np
import pytest
import torch

from neurosam3d.inference.candidates import (
    box_ious,
    count_voxels,
    end_at_window,
    stability_scores,
    suppress_boxes,
    suppress_masks,
    tight_boxes,
)
from neurosam3d.inference.sparse_mask import SparseMask, mask_iou


def random_boxes(count: int, num_axes: int) -> np.ndarray:
    random = np.random.default_rng(count)
    low = random.integers(0, 8, (count, num_axes))
    return np.stack([low, low + random.integers(0, 9, (count, num_axes))], axis=1)


def fill(box: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(low, high + 1) for low, high in box.T)] = True
    return mask


def test_stability_is_the_share_that_a_higher_threshold_leaves() -> None:
    logits = torch.tensor([-3.0, -0.5, 0.5, 2.0, 3.0, 4.0]).reshape(1, 3, 1, 2)
    assert stability_scores(logits, offset=1.0).item() == pytest.approx(3 / 5)
    assert stability_scores(logits, offset=2.5).item() == pytest.approx(2 / 5)
    assert stability_scores(logits, offset=1.0, threshold=2.5).item() == pytest.approx(1 / 3)


def test_nothing_above_either_threshold_passes_no_filter() -> None:
    score = stability_scores(torch.full((1, 2, 3, 4), -9.0), offset=1.0)
    assert score.isnan().all()
    assert not (score >= 0).any()


def test_large_masks_do_not_overflow() -> None:
    logits = torch.full((1, 70_000, 2), 9.0)  # beyond 16 bits
    logits[0, :7_000] = 0.0
    assert stability_scores(logits, offset=1.0).item() == pytest.approx(0.9)


def test_voxels_are_counted_in_64_bits() -> None:
    masks = torch.zeros(3, 5, 2, 4, dtype=torch.bool)
    masks[0, 1:4] = masks[2, :, 1, 2] = True
    counts = count_voxels(masks)
    assert counts.tolist() == [24, 0, 5]
    assert counts.dtype == torch.int64
    assert count_voxels(masks[:0]).tolist() == []


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_boxes_are_tight_and_include_both_corners(num_axes: int) -> None:
    shape = (17, 19, 18)[:num_axes]
    boxes = random_boxes(9, num_axes)
    masks = torch.from_numpy(np.stack([fill(box, shape) for box in boxes]))
    np.testing.assert_array_equal(tight_boxes(masks), boxes)


def test_the_box_of_an_empty_mask_is_zeros() -> None:
    assert tight_boxes(torch.zeros(2, 4, 5, 6, dtype=torch.bool)).tolist() == [[[0] * 3] * 2] * 2


def test_a_box_is_cut_off_at_a_face_of_its_window_that_is_not_the_scans() -> None:
    scan = np.array([[0, 0, 0], [99, 49, 79]])
    window = np.array([[0, 10, 40], [31, 41, 79]])  # shares the low end of axis 0, the high of 2
    boxes = np.array(
        [
            [[0, 15, 45], [20, 30, 79]],  # ends with the scan only
            [[5, 15, 45], [31, 30, 60]],  # high face of axis 0
            [[5, 12, 45], [20, 30, 60]],  # within the tolerance of the low face of axis 1
            [[5, 13, 45], [20, 30, 60]],
            [[5, 15, 40], [20, 30, 60]],  # low face of axis 2
        ]
    )
    expected = [False, True, True, False, True]
    assert end_at_window(boxes, window, scan, tolerance=2).tolist() == expected
    per_axis = end_at_window(boxes, window, scan, tolerance=np.array([2, 3, 2]))
    assert per_axis.tolist() == [False, True, True, True, True]


def test_box_overlap_counts_voxels() -> None:
    box = np.array([[0, 0, 0], [3, 2, 4]])  # 60 voxels
    others = np.array([[[3, 1, 2], [7, 5, 3]], [[4, 0, 0], [5, 2, 4]], [[0, 0, 0], [3, 2, 4]]])
    assert box_ious(box, others).tolist() == [4 / (60 + 50 - 4), 0, 1]


@pytest.mark.parametrize("num_axes", [2, 3])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 1.0])
def test_box_suppression_equals_going_through_all_pairs(num_axes: int, threshold: float) -> None:
    boxes = random_boxes(40, num_axes)
    scores = np.random.default_rng(1).integers(0, 9, 40) / 9  # with ties
    masks = [SparseMask.from_array(fill(box, (17,) * num_axes)) for box in boxes]
    expected: list[int] = []
    for index in sorted(range(40), key=lambda i: (-scores[i], i)):
        if all(mask_iou(masks[index], masks[other]) <= threshold for other in expected):
            expected.append(index)
    assert suppress_boxes(boxes, scores, threshold=threshold) == expected
    assert suppress_masks(masks, scores, threshold=threshold) == expected
    assert threshold == 1 or len(expected) < 40


def test_the_better_of_two_equal_masks_stays_the_first_of_a_tie() -> None:
    masks = [SparseMask.from_array(np.ones((3, 4, 5), dtype=bool))] * 3
    assert suppress_masks(masks, np.array([0.8, 0.9, 0.9]), threshold=0.5) == [1]


def test_a_part_of_a_better_mask_goes_if_asked_for() -> None:
    whole, part = np.zeros((2, 9, 8, 7), dtype=bool)
    whole[:6] = True  # 336 voxels
    part[4:8, :2, :2] = True  # 16, half of them in the whole
    masks = [SparseMask.from_array(mask) for mask in (part, whole)]
    scores = np.array([0.7, 0.9])
    assert suppress_masks(masks, scores, threshold=0.5) == [1, 0]
    assert suppress_masks(masks, scores, threshold=0.5, containment=0.5) == [1, 0]
    assert suppress_masks(masks, scores, threshold=0.5, containment=0.49) == [1]
    # A whole that comes after its part stays: it holds more than that.
    assert suppress_masks(masks, scores[::-1], threshold=0.5, containment=0.49) == [0, 1]
