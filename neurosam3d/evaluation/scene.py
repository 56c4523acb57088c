"""What a picture of a case shows, in anatomical axes: which slices, which part of them.

Shapes: B batch, D H W volume, n clicks; canonical axes run to the Right, Anterior and Superior.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurosam3d.prompts import Prompts
from neurosam3d.volume import Volume, to_canonical

MARGIN_MM = 25.0  # least surroundings shown around what matters


@dataclass(frozen=True)
class Round:
    """What stood after one more click on every item of a batch.

    Args:
        prompts: All clicks so far.
        prediction: Boolean mask (B, 1, D, H, W).
        dice: Dice (B,) of the prediction.
    """

    prompts: Prompts
    prediction: Tensor
    dice: Tensor

    @property
    def clicks(self) -> int:
        """Number of clicks every item has had, not-a-points included."""
        return 0 if self.prompts.points is None else self.prompts.points.shape[1]


@dataclass(frozen=True)
class Answer:
    """One round of one item, in canonical axes.

    Args:
        prediction: Boolean mask (D, H, W).
        points: Voxel indices (n, 3) of the clicks so far.
        labels: Their labels (n,).
        clicks: How many there were, not-a-points included.
        dice: Dice of the prediction.
    """

    prediction: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    clicks: int
    dice: float


@dataclass(frozen=True)
class Scene:
    """One item and its rounds, in canonical axes.

    Args:
        image: Intensities (D, H, W).
        truth: Boolean reference (D, H, W).
        answers: The rounds to show.
        spacing: Voxel side in mm along each axis (3,).
        shown: First and last voxel to show along each axis (2, 3).
        slices: Voxel at which each axis is cut (3,).
    """

    image: np.ndarray
    truth: np.ndarray
    answers: list[Answer]
    spacing: np.ndarray
    shown: np.ndarray
    slices: np.ndarray


def arrange_scene(
    image: Tensor, truth: Tensor, rounds: Sequence[Round], *, affine: np.ndarray, item: int
) -> Scene:
    """Turn one item of a batch into canonical axes and choose slices and surroundings.

    Each slice is the one that cuts most of the object, or of the last prediction where the truth
    is empty.

    Args:
        image: Intensities (B, 1, D, H, W).
        truth: Reference (B, 1, D, H, W), foreground above 0.
        rounds: The rounds to show, at least one.
        affine: (4, 4) matrix from voxel indices to RAS+ millimetres.
        item: Which item of the batch.
    """
    channels = [image[item], truth[item] > 0, *(entry.prediction[item] for entry in rounds)]
    stack = torch.cat([channel.float().cpu() for channel in channels])  # (C, D, H, W)
    volume = to_canonical(Volume(stack, affine))
    to_voxels = np.linalg.inv(volume.affine) @ affine
    intensities, *masks = volume.data.numpy()
    reference, *predictions = (mask > 0 for mask in masks)
    answers = [
        Answer(prediction, *_clicks(entry, item, to_voxels), entry.clicks, float(entry.dice[item]))
        for entry, prediction in zip(rounds, predictions, strict=True)
    ]
    spacing = np.array(volume.spacing)
    return Scene(
        intensities,
        reference,
        answers,
        spacing,
        _surroundings(reference, answers[-1], spacing),
        _best_slices(reference if reference.any() else predictions[-1]),
    )


def _clicks(entry: Round, item: int, to_voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an item's clicks (n, 3), moved to the new voxel axes, and their labels (n,)."""
    if entry.prompts.points is None or entry.prompts.labels is None:
        return np.zeros((0, 3)), np.zeros(0)
    points = entry.prompts.points[item].cpu().numpy()
    return points @ to_voxels[:3, :3].T + to_voxels[:3, 3], entry.prompts.labels[item].cpu().numpy()


def _best_slices(mask: np.ndarray) -> np.ndarray:
    """Find along each axis the slice with most foreground; of an empty mask, the middle one."""
    if not mask.any():
        return np.array(mask.shape) // 2
    return np.array([mask.sum(other).argmax() for other in ((1, 2), (0, 2), (0, 1))])


def _surroundings(truth: np.ndarray, last: Answer, spacing: np.ndarray) -> np.ndarray:
    """Find the first and last voxels (2, 3) to show.

    Truth, clicks and the last prediction decide; an early one may cover the whole scan.
    """
    end = np.array(truth.shape) - 1
    marked = np.argwhere(truth | last.prediction)
    corners = np.concatenate([marked, last.points[last.labels >= 0]])
    if not len(corners):
        return np.stack([np.zeros_like(end), end])
    lowest, highest = corners.min(0), corners.max(0)
    margin = np.maximum(MARGIN_MM / spacing, (highest - lowest + 1) / 2)
    return np.stack([np.floor(lowest - margin), np.ceil(highest + margin)]).clip(0, end)
