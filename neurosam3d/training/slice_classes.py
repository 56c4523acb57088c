"""How networks of slices learn classes: as SAMed did (arXiv:2304.13785).

Shapes: B slices; N slices of a scan; C channels, 1 or 3; K classes, the background first; S side of
the network's image, M side of its low-resolution masks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurosam3d.models import SAMED, Samed
from neurosam3d.training.losses import SliceLoss
from neurosam3d.training.slice_recipe import SliceAnswer

SLICES_AT_ONCE = 8  # of a scan that is validated


class ClassRecipe:
    """Every pixel of a slice is to tell its class.

    Args:
        classes: Names of the classes, of which the k-th has the value k, from 1, in labels.
        dice_weight: See `SliceLoss`.
        ce_weight: Likewise.
    """

    takes_prompts = False

    def __init__(
        self, classes: Sequence[str], *, dice_weight: float = 0.8, ce_weight: float = 0.2
    ) -> None:
        self.scored = tuple(classes)
        self.loss = SliceLoss(dice_weight=dice_weight, ce_weight=ce_weight)

    def prepare(self, model: nn.Module) -> None:
        """Do nothing: the network knows by itself what of it shall learn."""
        require_samed(model)

    def train(
        self, model: nn.Module, batch: Mapping[str, Any], *, generator: torch.Generator
    ) -> SliceAnswer:
        """Answer a batch of slices at the low resolution, of which masks are interpolated."""
        network, label = require_samed(model), batch["label"]
        logits = network(_grey(batch["image"]))["low_res_logits"]  # (B, K, M, M)
        coarse = nn.functional.interpolate(label, logits.shape[2:], mode="nearest-exact")
        prediction = logits.detach().argmax(1, keepdim=True)  # (B, 1, M, M)
        loss = self.loss(logits, coarse, across_processes=True)
        return SliceAnswer(loss, prediction, coarse)

    def validate(
        self, model: nn.Module, batch: Mapping[str, Any], *, generator: torch.Generator
    ) -> SliceAnswer:
        """Answer a scan (1, C, N, S, S), a few slices at a time, or a batch of slices."""
        network, image, label = require_samed(model), batch["image"], batch["label"]
        is_scan = image.ndim == 5
        slices, truth = (_slices_of(x) if is_scan else x for x in (image, label))
        logits, found = [], []
        for part in slices.split(SLICES_AT_ONCE):
            outputs = network(_grey(part))
            logits.append(outputs["low_res_logits"])
            found.append(outputs["masks"].argmax(1, keepdim=True))
        loss, prediction = self.loss(torch.cat(logits), truth), torch.cat(found)  # (N, 1, S, S)
        if is_scan:
            prediction = prediction.transpose(0, 1)[None]  # (1, 1, N, S, S)
        return SliceAnswer(loss, prediction, label)


def require_samed(model: nn.Module) -> Samed:
    """Return a network that tells classes of slices apart as what it is.

    Raises:
        ValueError: If it is another.
    """
    if not isinstance(model, Samed):
        raise ValueError(
            f"classes of slices need one of {', '.join(SAMED)}, got a {type(model).__name__}"
        )
    return model


def _grey(image: Tensor) -> Tensor:
    """Return slices (B, 1 or 3, S, S) with three channels."""
    return image.expand(-1, 3, -1, -1)


def _slices_of(scan: Tensor) -> Tensor:
    """Return the slices (N, C, S, S) of a scan (1, C, N, S, S)."""
    return scan[0].transpose(0, 1)
