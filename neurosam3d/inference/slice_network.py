"""A network of slices as the predictor sees it: it encodes one slice and answers prompts about it.

Shapes: n points, (x, y); H W rows and columns of a slice, S side of the network's image, M side of
its low-resolution logits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.inference.network import undisturbed
from neurosam3d.models.sam2d import Sam2D
from neurosam3d.models.sam2d_masks import Sides
from neurosam3d.slice_feeding import Feeding, find_feeding


@dataclass(frozen=True, eq=False)
class SliceEmbedding:
    """What a network keeps of a slice.

    Args:
        features: (1, C, S / 16, S / 16).
        sides: Rows and columns of the slice.
    """

    features: Tensor
    sides: Sides

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.features.nbytes


@dataclass(frozen=True, eq=False)
class SlicePrompts:
    """What one slice is asked with, in its own pixels.

    Args:
        points: (n, 2), x and y.
        labels: (n,): 1 inside the object, 0 outside.
        box: Lowest x and y, then highest, (4,), both included.
    """

    points: np.ndarray
    labels: np.ndarray
    box: np.ndarray | None = None

    @property
    def say_where(self) -> bool:
        """Whether they tell where the object is, not only where it is not."""
        return self.box is not None or bool((self.labels == 1).any())


@dataclass(frozen=True, eq=False)
class SliceAnswer:
    """What a network says about a slice, in the host's memory.

    Args:
        low_res: Low-resolution logits (1, 1, M, M): the next mask prompt.
        iou: Estimated IoU.
        feeding: How the slice was fed.
        side: Side S of the network's image.
        sides: Rows and columns of the slice.
    """

    low_res: Tensor
    iou: float
    feeding: Feeding
    side: int
    sides: Sides

    @property
    def logits(self) -> Tensor:
        """Logits (H, W) of the slice. Rounds about a whole scan would fill the memory with them, so
        they are made when they are asked for.
        """
        return self.feeding.restore(self.low_res, self.sides, self.side)[0, 0]

    @property
    def box(self) -> np.ndarray | None:
        """The box (4,) around the mask, as in `SlicePrompts`; None of an empty one."""
        return mask_box(self.logits > 0)


class SliceNetwork:
    """SAM, MedSAM or SAM-Med2D.

    It computes in evaluation mode, without gradients and in its weights' own precision.

    Args:
        model: The network; it is put into evaluation mode and moved.
        feeding: How slices are fed, a name in `FEEDINGS`.
        device: Where to compute; by default where the weights are.

    Raises:
        ValueError: If the feeding is unknown.
    """

    def __init__(
        self, model: Sam2D, *, feeding: str = "sam", device: torch.device | str | None = None
    ) -> None:
        self.feeding = find_feeding(feeding)
        self.side = model.image_size
        self.device = next(model.parameters()).device if device is None else torch.device(device)
        self._model = model.to(self.device).eval()

    def encode(self, grey: Tensor) -> SliceEmbedding:
        """Embed a slice (H, W).

        Raises:
            ValueError: If the network sees grey and values lie outside 0 to 1.
        """
        # On the host: 8 bits are scaled there alone, and every device gets the same image.
        image = self.feeding.image(grey[None, None].cpu(), self.side)
        with undisturbed(self.device):
            features = self._model.image_encoder(image.to(self.device))
        return SliceEmbedding(features, (len(grey), len(grey[0])))

    def decode(
        self, embedding: SliceEmbedding, prompts: SlicePrompts, mask: Tensor | None = None
    ) -> SliceAnswer:
        """Answer prompts about a slice.

        Args:
            embedding: What `encode` returned.
            prompts: Points and box.
            mask: Low-resolution logits (1, 1, M, M), of an earlier answer or from `mask_prompt`. A
                network that was not trained to take them gets none.
        """
        points, box = self._placed(prompts, embedding.sides)
        if not self.feeding.takes_masks:
            mask = None
        three = self.feeding.wants_three(
            num_points=len(prompts.points), alone=box is None and mask is None
        )
        with undisturbed(self.device):
            low_res, iou = self._model.decode(
                embedding.features.to(self.device),
                points=points,
                boxes=box,
                masks=None if mask is None else mask.to(self.device),
                multimask_output=three,
            )
            best = int(iou[0].argmax())
            low_res = low_res[:, best : best + 1].float().cpu()
        return SliceAnswer(low_res, float(iou[0, best]), self.feeding, self.side, embedding.sides)

    def mask_prompt(self, logits: Tensor) -> Tensor:
        """Bring logits (H, W) of a slice to a mask prompt (1, 1, M, M)."""
        fitted = self.feeding.frame.fit(logits[None, None], self.side, mode="bilinear")
        return F.adaptive_avg_pool2d(fitted, self._model.mask_size)

    def enlarge(self, box: np.ndarray, sides: Sides, *, margin: float) -> np.ndarray:
        """Enlarge a box (4,) of a slice (H, W), but not beyond it.

        Args:
            box: As in `SlicePrompts`.
            sides: The slice's rows and columns.
            margin: By how many pixels of the network's image, at each side.
        """
        ends = self.feeding.place(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), sides, self.side)
        reach = margin / (ends[1] - ends[0]).numpy()  # x and y, in pixels of the slice
        height, width = sides
        last = (width - 1, height - 1)
        return np.concatenate([np.maximum(box[:2] - reach, 0), np.minimum(box[2:] + reach, last)])

    def _placed(
        self, prompts: SlicePrompts, sides: Sides
    ) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
        """Return points with labels and the box in the network's image, as batches of one."""

        def place(values: np.ndarray) -> Tensor:
            corners = torch.from_numpy(values).float().view(1, -1, 2)
            return self.feeding.place(corners, sides, self.side).to(self.device)

        points = None
        if len(prompts.points):
            labels = torch.from_numpy(prompts.labels)[None].to(self.device)
            points = (place(prompts.points), labels)
        box = None if prompts.box is None else place(prompts.box).view(1, 4)
        return points, box


def mask_box(mask: Tensor) -> np.ndarray | None:
    """Return the box (4,) around a boolean mask (H, W), as in `SlicePrompts`; None of no pixel."""
    rows, columns = (mask.any(axis).nonzero() for axis in (1, 0))
    if not len(rows):
        return None
    corners = (columns[0], rows[0], columns[-1], rows[-1])
    return np.array([float(corner) for corner in corners])
