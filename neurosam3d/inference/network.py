"""A network as the predictor sees it: it encodes one window and answers prompts about it.

Shapes: B prompts on one image; D H W voxels of the window (its ROI); M side of the low-resolution
mask.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from neurosam3d.models.layers import upsample_trilinear
from neurosam3d.prompts import Prompts
from neurosam3d.volume import Triple


@dataclass(frozen=True)
class WindowAnswer:
    """What a network says about one window.

    Args:
        logits: Mask logits (B, 1, D, H, W).
        low_res: The same before upsampling, (B, 1, M, M, M): the next round's mask prompt.
        iou: Estimated IoU (B, 1); noise unless that head was trained.
    """

    logits: Tensor
    low_res: Tensor
    iou: Tensor


class Embedding(Protocol):
    """What a network keeps of a window, to answer any number of prompts about it."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""


class PromptableNetwork(Protocol):
    """What the predictor needs of a network."""

    @property
    def roi_size(self) -> Triple:
        """Voxels of a window along D, H, W."""

    @property
    def mask_size(self) -> Triple:
        """Voxels of the mask prompt."""

    @property
    def takes_boxes(self) -> bool:
        """Whether the network was built for box prompts."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    def encode(self, image: Tensor) -> Embedding:
        """Embed one normalised window (1, 1, D, H, W)."""

    def decode(self, embedding: Any, prompts: Prompts) -> WindowAnswer:
        """Answer B prompts on one embedding that `encode` returned."""


class WindowNetwork:
    """A network of SAM's seam in 3-D: Sam3D, or anything that has its parts.

    It computes in evaluation mode, without gradients and in its weights' own precision, whatever
    the caller's surroundings are, so that every command gets the same numbers from it.

    Args:
        model: Has `image_encoder`, `prompt_encoder` with `get_dense_pe`, and `mask_decoder`. It
            is put into evaluation mode and moved. `image_size` and `mask_size` are the sides of
            its image and its mask prompt; a mask is as large as the image if it does not say.
        roi_size: Voxels of a window along D, H, W, or one number; by default `model.image_size`.
        device: Where to compute; by default where the weights are.

    Raises:
        ValueError: If a part is missing, or the window's size is not known, not positive or not
            the network's.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        roi_size: int | Sequence[int] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        for part in ("image_encoder", "prompt_encoder", "mask_decoder"):
            if not hasattr(model, part):
                raise ValueError(f"a promptable network has a {part}, {type(model).__name__} not")
        own = getattr(model, "image_size", None)
        self.roi_size = window_size(model, roi_size, own=own)
        stride = self.roi_size[0] // getattr(model, "mask_size", self.roi_size[0])
        d, h, w = (side // stride for side in self.roi_size)
        self.mask_size: Triple = (d, h, w)
        embeddings = getattr(model.prompt_encoder, "point_embeddings", ())
        self.takes_boxes = len(embeddings) == 4  # background, foreground, low corner, high corner
        weight = next(model.parameters(), torch.zeros(()))
        self.device = weight.device if device is None else torch.device(device)
        self._model: Any = model.to(self.device).eval()  # its parts have no type of their own

    def encode(self, image: Tensor) -> Tensor:
        """Embed one normalised window (1, 1, D, H, W)."""
        with undisturbed(self.device):
            return self._model.image_encoder(image.to(self.device))

    def decode(self, embedding: Tensor, prompts: Prompts) -> WindowAnswer:
        """Answer B prompts on one embedding.

        Without a mask prompt a mask of zeros is given, as in the first round of all training.
        """
        points, box, mask = self._inputs(prompts)
        with undisturbed(self.device):
            sparse, dense = self._model.prompt_encoder(points=points, boxes=box, masks=mask)
            low_res, iou = self._model.mask_decoder(
                image_embeddings=embedding.to(self.device),
                image_pe=self._model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            return WindowAnswer(upsample_trilinear(low_res, self.roi_size), low_res, iou)

    def _inputs(
        self, prompts: Prompts
    ) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor]:
        """Return points with labels, boxes and a mask, on the device."""
        points = None
        if prompts.points is not None and prompts.labels is not None:
            points = (prompts.points.to(self.device), prompts.labels.to(self.device))
        box = None if prompts.box is None else prompts.box.to(self.device)
        if prompts.mask is not None:
            return points, box, prompts.mask.to(self.device)
        first = next((t for t in (prompts.points, prompts.box) if t is not None), None)
        batch = 1 if first is None else len(first)
        return points, box, torch.zeros(batch, 1, *self.mask_size, device=self.device)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Let a network compute without gradients and in its own precision, whoever calls it."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def window_size(
    model: nn.Module, roi_size: int | Sequence[int] | None, *, own: int | None
) -> Triple:
    """Settle the voxels of a window.

    Args:
        model: The network.
        roi_size: What is asked for, if anything.
        own: The only side that the network takes, if there is one.

    Raises:
        ValueError: If neither says it, or the two do not agree.
    """
    wanted = own if roi_size is None else roi_size
    if wanted is None:
        raise ValueError(f"roi_size must be given, {type(model).__name__} has no image_size")
    sides = (wanted,) * 3 if isinstance(wanted, int) else tuple(int(side) for side in wanted)
    if len(sides) != 3 or min(sides) < 1:
        raise ValueError(f"roi_size must be one or three positive numbers of voxels, got {wanted}")
    if own is not None and sides != (own,) * 3:
        raise ValueError(f"roi_size must be the network's own {own}, got {wanted}")
    d, h, w = sides
    return d, h, w
