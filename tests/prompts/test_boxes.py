"""Boxes around masks."""

import pytest
import torch

from neurosam3d.prompts import boxes_from_masks

SHAPE = (6, 8, 10)


def test_corners_are_included_and_an_empty_mask_gives_the_volume() -> None:
    mask = torch.zeros(4, 1, *SHAPE, dtype=torch.bool)
    mask[0, 0, 1:4, 2:7, 3:9] = True
    mask[1, 0, 5, 7, 9] = True
    mask[2, 0, 0, 0, 4] = mask[2, 0, 3, 6, 0] = True
    boxes = boxes_from_masks(mask)
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == [
        [[1, 2, 3], [3, 6, 8]],
        [[5, 7, 9], [5, 7, 9]],
        [[0, 0, 0], [3, 6, 4]],
        [[0, 0, 0], [5, 7, 9]],
    ]


def test_jitter_is_a_uniform_fraction_of_the_side() -> None:
    mask = torch.zeros(2000, 1, 20, 24, 30, dtype=torch.bool)
    mask[:, 0, 8:12, 6:16, 5:25] = True  # sides 4, 10, 20
    boxes = boxes_from_masks(mask, jitter=0.2, generator=torch.Generator().manual_seed(1))
    shift = boxes - torch.tensor([[8.0, 6, 5], [11, 15, 24]])
    reach = 0.2 * torch.tensor([4.0, 10, 20])
    assert (shift.abs() <= reach + 1e-5).all()
    assert (shift.amax(0) > 0.98 * reach).all()
    assert (shift.amin(0) < -0.98 * reach).all()
    assert (shift.mean(0).abs() < 0.06 * reach).all()


def test_jittered_boxes_stay_in_the_volume_and_in_order() -> None:
    mask = torch.zeros(500, 1, *SHAPE, dtype=torch.bool)
    mask[:250, 0, 5, 0, 4] = True  # one voxel: its corners can cross
    generator = torch.Generator().manual_seed(2)
    boxes = boxes_from_masks(mask, jitter=0.9, generator=generator)
    assert (boxes[:, 0] <= boxes[:, 1]).all()
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor(SHAPE) - 1).all()
    again = boxes_from_masks(mask, jitter=0.9, generator=torch.Generator().manual_seed(2))
    assert torch.equal(boxes, again)


def test_no_value_is_read_on_the_host() -> None:
    # A meta tensor has no values: every device-to-host read raises on it.
    mask = torch.zeros(3, 1, *SHAPE, dtype=torch.bool, device="meta")
    assert boxes_from_masks(mask, jitter=0.1).shape == (3, 2, 3)


def test_wrong_arguments_are_named() -> None:
    mask = torch.ones(1, 1, *SHAPE)
    with pytest.raises(ValueError, match=r"jitter must be .* got -0\.1"):
        boxes_from_masks(mask, jitter=-0.1)
    with pytest.raises(ValueError, match=r"mask must be \(B, 1, D, H, W\), got \(6, 8, 10\)"):
        boxes_from_masks(mask[0, 0])
