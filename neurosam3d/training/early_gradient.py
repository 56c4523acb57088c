"""Take a loss's gradient as soon as the loss is known, so that a long step need not remember it.

A session has a loss per round, each at the image's resolution, while the network answers at a
quarter of its side. What autograd would keep from the one to the other for every round until the
step's end is many times what the network itself keeps; the gradient at the answer is small.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _KnownGradient(Function):
    """A number whose gradient with respect to a tensor is known already."""

    @staticmethod
    def forward(ctx: Any, at: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return scale * gradient, None, None


def take_gradient(loss: Tensor, at: Tensor) -> Tensor:
    """Return the same loss, of which nothing but the gradient at ``at`` is kept.

    The backward pass from ``loss`` to ``at`` is done now and its memory freed. The rest, from
    ``at`` on, is done as ever, by whatever the returned loss is part of; a loss without a gradient
    comes back as it is.

    Args:
        loss: A scalar that depends on ``at``, and on nothing else that learns.
        at: Where to stop. In half precision a small gradient would vanish before any scaling of
            the loss could help it, so make this float32.
    """
    if not loss.requires_grad:
        return loss
    with torch.autocast(at.device.type, enabled=False):  # it would reach into the backward pass
        (gradient,) = torch.autograd.grad(loss, at)
    return _KnownGradient.apply(at, loss.detach(), gradient)
