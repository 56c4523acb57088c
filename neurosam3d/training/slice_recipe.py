"""What a way of training networks of slices is to the run that carries it out.

Shapes: B batch; S side of the network's image; N slices of a scan.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SliceAnswer:
    """What a network made of a batch.

    Args:
        loss: Mean loss, a scalar.
        prediction: Label maps (B, 1, S, S), or (1, 1, N, S, S) of a scan; 0 is background.
        truth: What they should have been.
    """

    loss: Tensor
    prediction: Tensor
    truth: Tensor


class SliceRecipe(Protocol):
    """How a network is asked, and what its answers cost.

    Batches are those of `neurosam3d.data.slices`. Whatever is random comes from the generator, so
    that it depends on nothing that happened before.
    """

    @property
    def takes_prompts(self) -> bool:
        """Whether the network segments what prompts point at."""

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the values 1, 2 and so on in the label maps of the answers."""

    def prepare(self, model: nn.Module) -> None:
        """Stop the gradients of what shall not learn, before the optimizer is built."""

    def train(
        self, model: nn.Module, batch: Mapping[str, Any], *, generator: torch.Generator
    ) -> SliceAnswer:
        """Answer a batch of slices, with gradients."""

    def validate(
        self, model: nn.Module, batch: Mapping[str, Any], *, generator: torch.Generator
    ) -> SliceAnswer:
        """Answer a batch of slices, or a whole scan, as the network is used."""
