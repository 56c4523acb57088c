import pytest
import torch
from torch import Tensor

from neurosam3d.training.losses import MaskLoss, iou_loss, true_iou

SHAPE = (2, 1, 3, 4, 5)


def half_full() -> Tensor:
    """Return a reference whose first item has one slab of voxels and whose second is empty."""
    truth = torch.zeros(SHAPE, dtype=torch.uint8)
    truth[0, :, 0] = 1  # 20 of 60 voxels
    return truth


def test_mask_loss_is_dice_plus_cross_entropy_by_hand() -> None:
    truth = half_full()[:1]
    logits = torch.zeros(1, *SHAPE[1:])  # probability 1/2 everywhere
    # Dice with squares: 1 - 2 * 20 * 0.5 / (60 * 0.25 + 20); cross-entropy: log 2.
    expected = 1 - 20 / 35 + 0.6931472
    assert MaskLoss()(logits, truth).item() == pytest.approx(expected, abs=1e-5)


def test_mask_loss_averages_over_the_batch_and_takes_an_empty_reference() -> None:
    truth = half_full()
    right = (truth.float() * 2 - 1) * 20
    assert MaskLoss()(right, truth).item() == pytest.approx(0, abs=1e-3)
    wrong_twice = MaskLoss()(-right, truth).item()
    wrong_once = MaskLoss()(torch.cat([right[:1], -right[1:]]), truth).item()
    assert wrong_once == pytest.approx(wrong_twice / 2, rel=1e-3)


def test_mask_loss_of_half_precision_is_taken_in_full() -> None:
    truth = torch.ones(
        1, 1, 48, 40, 40, dtype=torch.uint8
    )  # 76800 voxels: their sum overflows float16
    loss = MaskLoss()(torch.full(truth.shape, 3.0, dtype=torch.float16), truth)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(MaskLoss()(torch.full(truth.shape, 3.0), truth).item())


def test_mask_loss_has_a_gradient_where_the_reference_is_empty() -> None:
    logits = torch.zeros(SHAPE, requires_grad=True)
    MaskLoss()(logits, half_full()).backward()
    assert logits.grad is not None
    assert (logits.grad[1] > 0).all()  # downwards everywhere


def test_true_iou_by_hand() -> None:
    truth = half_full()
    logits = torch.full(SHAPE, -1.0)
    logits[0, :, :2] = 1  # 40 voxels, 20 of them right
    assert true_iou(logits, truth).tolist() == [[0.5], [1.0]]  # empty and empty agree
    assert true_iou(torch.zeros(SHAPE), truth).tolist() == [[0.0], [1.0]]  # logit 0 is background


def test_iou_loss_moves_the_estimate_and_not_the_mask() -> None:
    truth = half_full()
    logits = torch.ones(SHAPE, requires_grad=True)
    estimate = torch.tensor([[0.5], [0.5]], requires_grad=True)
    loss = iou_loss(estimate, logits, truth)
    assert loss.item() == pytest.approx(((0.5 - 1 / 3) ** 2 + 0.25) / 2)
    loss.backward()
    assert estimate.grad is not None
    assert logits.grad is None
