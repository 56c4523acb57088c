"""A network that sees the truth: the image is the object, and the answer is read off it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neurosam3d.inference import Predictor
from neurosam3d.prompts import Prompts

STEEPNESS = 12.0


class _PromptEncoder(nn.Module):
    """Knows points and boxes, so it has four embeddings; keeps what it was asked."""

    def __init__(self, *, box_prompts: bool) -> None:
        super().__init__()
        self.point_embeddings = nn.ModuleList(nn.Identity() for _ in range(4 if box_prompts else 2))
        self.asked: list[Prompts] = []

    def get_dense_pe(self) -> Tensor:
        return torch.zeros(1)

    def forward(
        self, *, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        coords, labels = points or (None, None)
        self.asked.append(Prompts(coords, labels, boxes, masks))
        return torch.zeros(len(masks), 0, 1), masks


class _ImageEncoder(nn.Module):
    """Returns the image, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.num_calls += 1
        return image.clone()


class _MaskDecoder(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(
        self,
        *,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        assert not multimask_output
        batch = len(dense_prompt_embeddings)
        logits = self.answer(image_embeddings).expand(batch, -1, -1, -1, -1)
        return logits, torch.zeros(batch, 1)


class Oracle(nn.Module):
    """SAM's seam around the truth.

    Args:
        answer: Logits for a window's image; by default above 0 where the image is above one half.
        box_prompts: Whether it has embeddings for the corners of a box.
    """

    def __init__(
        self, answer: Callable[[Tensor], Tensor] | None = None, *, box_prompts: bool = True
    ) -> None:
        super().__init__()
        self.image_encoder = _ImageEncoder()
        self.prompt_encoder = _PromptEncoder(box_prompts=box_prompts)
        self.mask_decoder = _MaskDecoder(answer or (lambda image: (image - 0.5) * STEEPNESS))

    @property
    def asked(self) -> list[Prompts]:
        """The prompts of every decoding so far."""
        return self.prompt_encoder.asked

    @property
    def num_encoded(self) -> int:
        """The windows encoded so far."""
        return self.image_encoder.num_calls


def oracle_predictor(
    oracle: nn.Module, *, roi_size: int | Sequence[int] = (16, 20, 18), **options: object
) -> Predictor:
    """Return a predictor that sees raw intensities; on the scan's own voxels if not told."""
    settings = {"spacing": None, "intensity": "none", **options}
    return Predictor(oracle, roi_size=roi_size, **settings)  # type: ignore[arg-type]


def oblique(spacing: Sequence[float], *, axes: Sequence[int], signs: Sequence[int]) -> np.ndarray:
    """Return an affine with axes permuted, flipped and turned by a few degrees."""
    turn = np.zeros((3, 3))
    turn[list(axes), range(3)] = signs
    cosine, sine = np.cos(0.15), np.sin(0.15)
    about_z = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ turn @ np.diag(spacing)
    affine[:3, 3] = -31.7, 12.4, 88.1
    return affine


def ellipsoid(
    shape: Sequence[int], *, centre: Sequence[float], radii: Sequence[float]
) -> np.ndarray:
    """Return a mask (D, H, W), uint8."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    distance = (((index - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1)
    return (distance <= 1).astype(np.uint8)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice of two masks, counted anew for the tests."""
    return 2 * float((first * second).sum()) / float(first.sum() + second.sum())
