from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks.measure import saved_megabytes
from neurosam3d.models.layers import upsample_trilinear
from neurosam3d.training.early_gradient import take_gradient
from neurosam3d.training.losses import MaskLoss

LOW, FULL = (3, 4, 2), (12, 8, 6)


def seeded(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=dtype)


def truth_of(batch: int, size: tuple[int, ...] = FULL) -> Tensor:
    return (seeded(batch, 1, *size) > 0.5).to(torch.uint8)


def upsampled_loss(low_res: Tensor, truth: Tensor) -> Tensor:
    return MaskLoss()(upsample_trilinear(low_res, tuple(truth.shape[2:])), truth)


@pytest.mark.parametrize("size", [FULL, LOW], ids=["upsampled", "as decoded"])
def test_value_and_gradient_are_those_of_the_loss(size: tuple[int, ...]) -> None:
    kept, taken = (seeded(2, 1, *LOW).requires_grad_() for _ in range(2))
    truth = truth_of(2, size)
    expected = upsampled_loss(kept, truth)
    (3 * expected).backward()
    loss = take_gradient(upsampled_loss(taken, truth), taken)
    (3 * loss).backward()
    assert loss.item() == expected.item()
    torch.testing.assert_close(taken.grad, kept.grad, rtol=1e-6, atol=1e-9)


def test_gradient_in_double_precision_is_that_of_differences() -> None:
    truth, dice_ce = truth_of(1, (6, 5, 4)).double(), MaskLoss().dice_ce

    def loss_of(low_res: Tensor) -> Tensor:
        return take_gradient(dice_ce(upsample_trilinear(low_res, (6, 5, 4)), truth), low_res)

    low_res = seeded(1, 1, 3, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(loss_of, (low_res,))


def test_what_comes_before_is_reached_in_the_backward_pass() -> None:
    weights = []
    for taken in (False, True):
        layer = nn.Linear(5, 24)
        nn.init.constant_(layer.weight, 0.1)
        nn.init.zeros_(layer.bias)
        low_res = layer(seeded(2, 5)).view(2, 1, *LOW)
        loss = upsampled_loss(low_res, truth_of(2))
        loss = take_gradient(loss, low_res) if taken else loss
        assert layer.weight.grad is None
        loss.backward()
        weights.append(layer.weight.grad)
    torch.testing.assert_close(*weights)


def test_nothing_of_the_full_resolution_is_kept() -> None:
    low_res, truth = torch.zeros(1, 1, 8, 8, 8, requires_grad=True), truth_of(1, (32, 32, 32))
    low_res_mib = low_res.nbytes / 2**20
    assert saved_megabytes(lambda: upsampled_loss(low_res, truth), set()) > 3 * 64 * low_res_mib

    def early() -> Tensor:
        return take_gradient(upsampled_loss(low_res, truth), low_res)

    assert saved_megabytes(early, set()) == low_res_mib


def test_autocast_does_not_reach_into_the_gradient() -> None:
    def gradient(*, autocast: bool) -> Tensor:
        low_res = seeded(1, 1, *LOW).requires_grad_()
        with torch.autocast("cpu", enabled=False):
            loss = upsampled_loss(low_res, truth_of(1))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = take_gradient(loss, low_res)
        return torch.autograd.grad(loss, low_res)[0]

    assert gradient(autocast=True).equal(gradient(autocast=False))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_loss_without_gradient_comes_back_as_it_is(context: Callable[[], object]) -> None:
    with context():  # type: ignore[attr-defined]
        low_res = seeded(1, 1, *LOW)
        loss = upsampled_loss(low_res, truth_of(1))
        assert take_gradient(loss, low_res) is loss
