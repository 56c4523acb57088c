"""The box around a mask's foreground."""

import numpy as np
import pytest
import torch

from neurosam3d.evaluation.foreground_box import Mask, MaskPair, find_foreground

SHAPE = (6, 9, 13)


def mask() -> np.ndarray:
    volume = np.zeros(SHAPE, bool)
    volume[1:4, 2, 3:5] = volume[2, 7, 4] = True
    return volume


@pytest.mark.parametrize(
    "stored",
    [
        mask(),
        np.asfortranarray(mask()),
        np.ascontiguousarray(mask().transpose(1, 2, 0)).transpose(2, 0, 1),
        mask().astype(np.int16) * 5 - 2,
        np.where(mask(), 0.5, np.nan),
    ],
)
def test_box_is_tight_and_a_view(stored: np.ndarray) -> None:
    box = find_foreground(stored)
    assert box.corner.tolist() == [1, 2, 3]
    assert box.num_voxels == 7
    assert np.array_equal(box.voxels > 0, mask()[1:4, 2:8, 3:5])
    assert np.shares_memory(box.voxels, stored)


def test_empty_mask_has_an_empty_box() -> None:
    box = find_foreground(np.zeros(SHAPE))
    assert box.is_empty
    assert box.voxels.size == 0


@pytest.mark.parametrize(
    "prediction",
    [
        torch.from_numpy(mask()),
        torch.where(torch.from_numpy(mask()), 0.3, -2.0).to(torch.bfloat16),
        torch.from_numpy(mask()).to(torch.int8).neg().neg(),
        (mask() * 7).tolist(),
    ],
)
def test_tensors_and_lists_count_where_positive(prediction: Mask) -> None:
    masks = MaskPair(prediction, np.asfortranarray(mask()))
    assert masks.prediction.num_voxels == masks.num_shared == 7
    assert masks.num_empty == 0


def test_shared_voxels_are_counted_where_the_boxes_overlap() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        first, second = np.zeros((2, *SHAPE), bool)
        for volume in (first, second):
            start = rng.integers(0, SHAPE)
            part = volume[tuple(slice(s, s + 5) for s in start)]
            part[:] = rng.random(part.shape) < 0.4
        masks = MaskPair(first, second)
        assert masks.num_shared == (first & second).sum()
        assert masks.num_empty == 2 - first.any() - second.any()


def test_shapes_must_be_equal_volumes() -> None:
    with pytest.raises(ValueError, match=r"of one shape, got \(6, 9, 13\) and \(6, 9, 12\)"):
        MaskPair(mask(), mask()[..., 1:])
    with pytest.raises(ValueError, match=r"volumes \(D, H, W\) of one shape, got \(9, 13\)"):
        MaskPair(mask()[0], mask()[0])
