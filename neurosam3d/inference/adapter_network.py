"""3DSAM-adapter (arXiv:2306.13465) as the predictor sees it: a promptable network like any other.

Shapes: B prompts on one image, N clicks; P side of a window in voxels; C h w d = features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosam3d.axes import swap_slices, swap_slices_of_points
from neurosam3d.inference.network import WindowAnswer, undisturbed, window_size
from neurosam3d.inference.window_reader import deepest_voxel
from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.prompts import Prompts

SILENT_LOGIT = -10.0  # everywhere in a window about which the network was told nothing


@dataclass(frozen=True, eq=False)
class AdapterEmbedding:
    """What the network needs of a window to answer clicks.

    Args:
        features: Four levels of (1, C, h, w, d).
        image: The window itself, (1, 1, P, P, P), slices first.
    """

    features: list[Tensor]
    image: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(part.nbytes for part in (*self.features, self.image))


class AdapterNetwork:
    """A 3DSAM-adapter with prompts, in evaluation mode, without gradients, in its own precision.

    Windows are turned to RAS+, which the network gets slices first (see `neurosam3d.axes`).
    It knows clicks and nothing else. Clicks outside the object are left out unless it learned what
    they mean. Where none is left, the deepest voxel of the mask prompt stands for one; without a
    mask either, it finds nothing.

    Args:
        model: The network. It is put into evaluation mode and moved.
        roi_size: Voxels of a window along D, H, W, or one number: the network's own, if given.
        device: Where to compute; by default where the weights are.

    Raises:
        ValueError: If the network is the form without prompts, or the window not its own.
    """

    takes_boxes = False

    def __init__(
        self,
        model: Adapter3D,
        *,
        roi_size: int | Sequence[int] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if model.prompt_encoder is None:
            raise ValueError("a promptable network has a prompt_encoder, this Adapter3D not")
        weight = next(model.parameters())
        self.device = weight.device if device is None else torch.device(device)
        self.roi_size = window_size(model, roi_size, own=model.crop_size)
        self.mask_size = self.roi_size  # what is carried over is looked at voxel by voxel
        self._takes_labels = model.labelled_clicks
        self._model = model.to(self.device).eval()

    def encode(self, image: Tensor) -> AdapterEmbedding:
        """Embed one normalised window (1, 1, P, P, P)."""
        with undisturbed(self.device):
            image = swap_slices(image.to(self.device))
            return AdapterEmbedding(self._model.encode(image), image)

    def decode(self, embedding: AdapterEmbedding, prompts: Prompts) -> WindowAnswer:
        """Answer B prompts on one embedding, one after the other: each takes as much as a crop.

        The logit is that of the object less that of the background; a mask prompt of the next round
        is the same.
        """
        first = next((t for t in (prompts.points, prompts.mask) if t is not None), None)
        batch = 1 if first is None else len(first)
        with undisturbed(self.device):
            answers = [self._answer(embedding, prompts, index) for index in range(batch)]
            logits = torch.cat(answers)  # (B, 1, P, P, P)
            return WindowAnswer(logits, logits, iou=logits.new_zeros(batch, 1))

    def _answer(self, embedding: AdapterEmbedding, prompts: Prompts, index: int) -> Tensor:
        """Return the logits (1, 1, P, P, P) of one of the prompts."""
        points, labels = self._clicks(prompts, index)
        if not len(points):
            return torch.full_like(embedding.image, SILENT_LOGIT)
        logits = self._model.decode(
            embedding.features,
            embedding.image,
            swap_slices_of_points(points)[None],
            labels[None] if self._takes_labels else None,
        )
        return swap_slices(logits[:, 1:] - logits[:, :1])

    def _clicks(self, prompts: Prompts, index: int) -> tuple[Tensor, Tensor]:
        """Return the clicks (N, 3) of a prompt that the network understands, and their labels."""
        points, labels = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
        if prompts.points is not None and prompts.labels is not None:
            points, labels = prompts.points[index], prompts.labels[index]
            known = labels >= 0 if self._takes_labels else labels == 1
            points, labels = points[known], labels[known]
        if not len(points) and prompts.mask is not None:
            deepest = deepest_voxel(prompts.mask[index, 0].cpu() > 0)
            if deepest is not None:
                points, labels = deepest[None].float(), torch.ones(1, dtype=torch.int64)
        return points.to(self.device), labels.to(self.device)
