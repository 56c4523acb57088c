"""Losses of prompted slices: the published value, terms by hand, and no item looking at another."""

import math

import pytest
import torch
from torch import Tensor

from neurosam3d.training.prompt_losses import (
    dice_bce_losses,
    dice_losses,
    focal_dice_iou_losses,
    focal_losses,
    mean_of,
    soft_ious,
)
from tests.reference.seeded import seeded_array

# Focal, Dice and IoU loss and their sum, as SAM-Med2D's program gives them for a batch of three,
# which it takes as one.
PUBLISHED = (0.4190258979797363, 0.6166638135910034, 0.5448036789894104, 9.541985511779785)


def seeded(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(seeded_array(f"med2d/loss_{name}", shape))


def test_sam_med2d_gives_the_published_value_for_one_slice_of_all() -> None:
    logits = (2 * seeded("logits", 3, 1, 64, 64)).reshape(1, 1, 192, 64)
    truth = (seeded("label", 3, 1, 64, 64) > 0.5).reshape(1, 1, 192, 64)
    errors = (seeded("iou", 3, 1) - soft_ious(logits, truth)) ** 2
    terms = [focal_losses(logits, truth), dice_losses(logits, truth), errors.mean()]
    assert [term.item() for term in terms] == pytest.approx(PUBLISHED[:3], abs=1e-5)
    total = 20 * terms[0] + terms[1] + terms[2]
    assert total.item() == pytest.approx(PUBLISHED[3], abs=1e-4)


@pytest.mark.parametrize("kind", ["sam_med2d", "medsam"])
def test_a_loss_is_that_of_its_item_alone(kind: str) -> None:
    logits, truth = 2 * seeded("logits", 3, 1, 64, 64), seeded("label", 3, 1, 64, 64) > 0.5
    iou = seeded("iou", 3, 1)

    def losses(items: list[int]) -> Tensor:
        if kind == "medsam":
            return dice_bce_losses(logits[items], truth[items])
        return focal_dice_iou_losses(logits[items], iou[items], truth[items])

    together = losses([0, 1, 2])
    assert together.shape == (3,)
    torch.testing.assert_close(together, torch.cat([losses([i]) for i in range(3)]))
    assert together.std() > 0


def test_terms_by_hand() -> None:
    truth = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    truth[0, 0, 0] = True  # 5 of 20 pixels
    logits = torch.zeros(1, 1, 4, 5)  # probability 1/2 everywhere
    # Every pixel: (1/2)^2 log 2, foreground weighs 1/4, background 3/4.
    assert focal_losses(logits, truth).item() == pytest.approx(
        0.25 * math.log(2) * (5 * 0.25 + 15 * 0.75) / 20, abs=1e-6
    )
    assert dice_losses(logits, truth).item() == pytest.approx(1 - 6 / 16, abs=1e-6)
    assert soft_ious(logits, truth).item() == pytest.approx(2.5 / 12.5, abs=1e-6)
    squared = 1 - 2 * 2.5 / (20 / 4 + 5)
    assert dice_bce_losses(logits, truth).item() == pytest.approx(squared + math.log(2), abs=1e-5)


def test_the_estimate_learns_from_the_mask_and_not_the_mask_from_it() -> None:
    truth = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    truth[0, 0, 0] = True  # probabilities of 1/2 have an IoU of 2.5 / 12.5 with it
    gradients = []
    for guess in (0.0, 0.9):
        logits = torch.zeros(1, 1, 4, 5, requires_grad=True)
        iou = torch.tensor([[guess]], requires_grad=True)
        focal_dice_iou_losses(logits, iou, truth).sum().backward()
        gradients.append(logits.grad)
        assert iou.grad is not None
    assert iou.grad.item() == pytest.approx(2 * (0.9 - 0.2), abs=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_half_precision_does_not_reach_the_sums() -> None:
    logits = 2 * seeded("logits", 1, 1, 64, 64)
    truth = seeded("label", 1, 1, 64, 64) > 0.5
    losses = dice_bce_losses(logits.bfloat16(), truth)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, dice_bce_losses(logits, truth), rtol=0.01, atol=0)


def test_only_what_counts_is_averaged() -> None:
    losses = torch.tensor([1.0, 5, 2], requires_grad=True)
    mean = mean_of(losses, torch.tensor([True, False, True]))
    assert mean.item() == 1.5
    nothing = mean_of(losses, torch.zeros(3, dtype=torch.bool))
    assert nothing.item() == 0
    nothing.backward()
    assert losses.grad is not None  # it is still in the graph
