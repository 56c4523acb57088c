"""A network of slices that sees the truth: the image is the object, and the answer is read off it.

Like SAM it finds what prompts point at: with a box what lies in it, else the parts that a point is
in; points outside the object take the parts that they are in away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from neurosam3d.inference.slice_predictor import SlicePredictor
from tests.evaluation.scans import block as block_within

STRIDE = 4
STEEPNESS = 12.0
# Slices of such scans have a longest side of 34 along every axis: each of their pixels is four of
# the network's, and one of its low-resolution logits.
SHAPE = (34, 26, 34)
SCALE = STRIDE
SIDE = 34 * SCALE


@dataclass(frozen=True)
class Asked:
    """The prompts of one decoding as arrays, None where there was none, and whether it was to give
    three masks.
    """

    points: Any
    labels: Any
    box: Any
    mask: Any
    three: bool


class SliceOracle(nn.Module):
    """SAM's seam around the truth, for slices of values 0 and 1 that are fed as `sam`.

    Args:
        side: Side S of its image.
    """

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        self.image_size = side
        self.mask_size = side // STRIDE
        self.weight = nn.Parameter(torch.zeros(()))
        self.num_encoded = 0
        self.asked: list[Asked] = []

    def image_encoder(self, image: Tensor) -> Tensor:
        self.num_encoded += 1
        return (image[:, :1] * 58.395 + 123.675) / 255  # red, as it was

    def decode(
        self,
        features: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        coords, labels = (None, None) if points is None else (p[0].numpy() for p in points)
        box = None if boxes is None else boxes[0].numpy()
        self.asked.append(Asked(coords, labels, box, masks, multimask_output))
        grey = nn.functional.avg_pool2d(features, STRIDE)[0, 0]
        found = self._pick((grey > 0.5).numpy(), coords, labels, box)
        logits = torch.where(torch.from_numpy(found), (grey - 0.5) * STEEPNESS, -STEEPNESS / 2)
        count = 3 if multimask_output else 1
        worse = torch.stack([torch.full_like(logits, -9.0)] * (count - 1) + [logits])
        return worse[None], torch.arange(count)[None] / 10  # the last is the best

    @staticmethod
    def _pick(
        truth: np.ndarray,
        points: np.ndarray | None,
        labels: np.ndarray | None,
        box: np.ndarray | None,
    ) -> np.ndarray:
        parts, _ = ndimage.label(truth)
        chosen = np.zeros_like(truth)
        if box is not None:
            x0, y0, x1, y1 = np.floor(box / STRIDE).astype(int)
            chosen[y0 : y1 + 1, x0 : x1 + 1] = True
        for (x, y), label in zip(*_both(points, labels), strict=True):
            part = parts[int(y) // STRIDE, int(x) // STRIDE]
            chosen[(parts == part) & (part > 0)] = bool(label)
        return truth & chosen


def block(low: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Return a mask of a box of voxels of such a scan."""
    return block_within(low, shape, within=SHAPE)


def slice_predictor(oracle: SliceOracle, **options: object) -> SlicePredictor:
    """Return a predictor that sees raw intensities on the scan's own voxels."""
    settings = {"intensity": "none", **options}
    return SlicePredictor(oracle, **settings)  # type: ignore[arg-type]


def _both(points: np.ndarray | None, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if points is None or labels is None:
        return np.zeros((0, 2)), np.zeros(0)
    return points, labels
