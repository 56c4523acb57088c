import pytest
import torch
from torch import Tensor

from neurosam3d.training.losses import (
    MaskLoss,
    SegmentationLoss,
    SliceLoss,
    iou_loss,
    level_weights,
    true_iou,
)
from tests.reference.seeded import seeded_array

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


def seeded_pair() -> tuple[Tensor, Tensor]:
    """Return the logits and the label map of the published program's stored loss."""
    logits = torch.from_numpy(seeded_array("adapter3d/loss/logits", (1, 2, 12, 14, 16)))
    label = torch.from_numpy(seeded_array("adapter3d/loss/seg", (1, 1, 12, 14, 16))) > 0.8
    return logits, label.to(torch.uint8)


def test_segmentation_loss_is_that_of_the_published_program() -> None:
    loss = SegmentationLoss(dice_weight=0.5, ce_weight=0.5)(*seeded_pair())
    assert loss.item() == pytest.approx(0.83295447, abs=1e-6)


def test_segmentation_loss_leaves_the_background_out_of_dice_and_weighs_its_parts() -> None:
    label = half_full()[:1]  # 20 voxels of class 1 of three, 40 of the background
    logits = torch.zeros(1, 3, *SHAPE[2:])  # probability 1/3 everywhere
    dice = 1 - torch.tensor([2 * 20 / 3 / (60 / 3 + 20), 0]).mean()  # class 2 is nowhere
    loss = SegmentationLoss(dice_weight=2.0, ce_weight=0.25)(logits, label)
    assert loss.item() == pytest.approx(2 * dice.item() + 0.25 * 1.0986123, abs=1e-4)


def seeded_slices() -> tuple[Tensor, Tensor]:
    """Return the logits and the label map of SAMed's stored loss."""
    logits = 2 * torch.from_numpy(seeded_array("samed/loss_logits", (2, 9, 56, 56)))
    drawn = torch.from_numpy(seeded_array("samed/loss_label", (2, 56, 56)))
    return logits, (3 * drawn.abs()).clamp(0, 8).to(torch.uint8)[:, None]


@pytest.mark.parametrize(
    ("dice_weight", "ce_weight", "stored"),
    [(0.8, 0.2, 1.42527699), (0.0, 1.0, 3.63810086), (1.0, 0.0, 0.87207097)],
)
def test_slice_loss_is_that_of_samed(dice_weight: float, ce_weight: float, stored: float) -> None:
    loss = SliceLoss(dice_weight=dice_weight, ce_weight=ce_weight)(*seeded_slices())
    assert loss.item() == pytest.approx(stored, abs=1e-5)


def test_slice_loss_takes_finer_labels_at_the_centres_of_its_pixels() -> None:
    logits, label = seeded_slices()
    fine = torch.zeros(2, 1, 224, 224, dtype=torch.uint8)
    fine[..., 2::4, 2::4] = label.to(torch.uint8)  # of each 4 x 4 pixels, beside their middle
    loss = SliceLoss()
    assert loss(logits, fine).item() == pytest.approx(loss(logits, label).item(), abs=1e-6)


def test_every_level_is_compared_at_its_resolution() -> None:
    label = torch.zeros(1, 1, 4, 4, 8, dtype=torch.uint8)
    label[..., 4:] = 1
    fine = torch.stack([1.0 - label, label], dim=1)[:, :, 0] * 30.0  # right everywhere
    coarse = fine[:, :, ::2, ::4, ::4]
    loss = SegmentationLoss()
    assert loss([fine, coarse], label).item() == pytest.approx(0, abs=1e-4)
    assert loss([fine, coarse, -coarse], label).item() == pytest.approx(0, abs=1e-4)
    wrong = loss(-coarse, label[:, :, ::2, ::4, ::4]).item()
    assert loss([fine, -coarse, coarse], label).item() == pytest.approx(wrong / 3, rel=1e-3)


def test_the_coarsest_level_has_no_weight_but_a_gradient() -> None:
    assert level_weights(1).tolist() == [1]
    assert level_weights(4).tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])
    coarsest = torch.zeros(1, 2, 2, 2, 2, requires_grad=True)
    SegmentationLoss()([torch.zeros(1, 2, 4, 4, 4), coarsest], half_full()[:1, :, :1]).backward()
    assert coarsest.grad is not None  # else several processes wait for it
    assert not coarsest.grad.any()


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (0.0, 0.0)])
def test_segmentation_loss_refuses_weights_that_say_nothing(weights: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="dice_weight and ce_weight must be at least 0 and one of"):
        SegmentationLoss(dice_weight=weights[0], ce_weight=weights[1])
