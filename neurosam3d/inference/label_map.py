"""One label map of several objects.

Objects may claim one voxel; a rule says whose it is:

    highest    the object whose logit is highest there
    first      the object that comes first
    last       the object that comes last

Shapes: D H W the scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from neurosam3d.inference.prediction import Prediction
from neurosam3d.inference.sparse_mask import bounding_slices

Overlap = Literal["highest", "first", "last"]
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Objects as whole numbers.

    Args:
        values: (D, H, W), uint8 or, for more than 255 objects, uint16: 0 background, n the n-th
            object.
        names: Names of the objects, in the order of their values.
    """

    values: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def voxel_counts(self) -> tuple[int, ...]:
        """How many voxels each object has."""
        counts = np.zeros(1 + len(self.names), dtype=np.int64)
        for plane in self.values:  # a whole scan at once would be copied as 64-bit numbers
            counts += np.bincount(plane.ravel(), minlength=len(counts))
        return tuple(counts[1:].tolist())


@dataclass(frozen=True, eq=False)
class Claim:
    """The part of a scan that an object claims.

    Args:
        box: Where in the scan it lies.
        logits: Its logits there; foreground is above 0.
    """

    box: tuple[slice, ...]
    logits: np.ndarray

    @classmethod
    def from_prediction(cls, prediction: Prediction) -> "Claim":
        """Return what a predicted object claims."""
        box, logits = prediction.foreground_logits()
        return cls(box.slices(), logits)

    @classmethod
    def from_mask(cls, mask: np.ndarray, *, logit: float) -> "Claim":
        """Return a claim to a mask (D, H, W) with one logit everywhere."""
        box = bounding_slices(mask)
        return cls(box, np.where(mask[box], logit, -logit).astype(np.float32))


def merge_objects(
    names: Sequence[str],
    claims: Sequence[Claim],
    *,
    shape: Sequence[int],
    overlap: Overlap = "highest",
) -> LabelMap:
    """Make one label map of the objects of a scan.

    Args:
        names: Names of the objects.
        claims: What each of them claims.
        shape: Voxels of the scan.
        overlap: Whose a voxel is that several objects claim; of equal logits, the first's.

    Raises:
        ValueError: If the rule is unknown or there are more objects than numbers.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"unknown overlap rule {overlap!r}; known: {', '.join(OVERLAPS)}")
    values = np.zeros(tuple(shape), dtype=label_type(len(names)))
    best = np.zeros(values.shape if overlap == "highest" else (0, 0, 0), dtype=np.float32)
    for value, (_, claim) in enumerate(zip(names, claims, strict=True), start=1):
        numbers, highest = values[claim.box], best[claim.box]  # views
        if overlap == "highest":
            won = claim.logits > highest
            highest[won] = claim.logits[won]
        elif overlap == "first":
            won = (claim.logits > 0) & (numbers == 0)
        else:
            won = claim.logits > 0
        numbers[won] = value
    return LabelMap(values, tuple(names))


def label_type(num_objects: int) -> type[np.unsignedinteger]:
    """Return the number type of a label map.

    Raises:
        ValueError: If there are more objects than 16 bits can tell apart.
    """
    if num_objects > np.iinfo(np.uint16).max:
        raise ValueError(f"a label map holds at most 65535 objects, got {num_objects}")
    return np.uint8 if num_objects <= np.iinfo(np.uint8).max else np.uint16
