"""The prompts a network is asked with, and their shapes.

Shapes: B batch, N points; M side of the low-resolution mask.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompts:
    """Points, box and mask for every item of a batch; what is not given is `None`.

    Args:
        points: Voxel indices (B, N, 3) in the order (d, h, w).
        labels: One per point, (B, N): 1 inside the object, 0 outside, -1 not a point.
        box: Corners (B, 2, 3), lowest first, both included.
        mask: Logits (B, 1, M, M, M) of an earlier prediction.

    Raises:
        ValueError: If a shape is wrong or points come without labels.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    box: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.points is None) != (self.labels is None):
            raise ValueError("points and labels are given together, got only one of them")
        if self.points is not None and self.labels is not None:
            if self.points.ndim != 3 or self.points.shape[2] != 3:
                raise ValueError(f"points must be (B, N, 3), got {tuple(self.points.shape)}")
            if self.labels.shape != self.points.shape[:2]:
                raise ValueError(
                    f"labels must be {tuple(self.points.shape[:2])}, one per point, "
                    f"got {tuple(self.labels.shape)}"
                )
        if self.box is not None and self.box.shape[1:] != (2, 3):
            raise ValueError(f"box must be (B, 2, 3), got {tuple(self.box.shape)}")
        if self.mask is not None and (self.mask.ndim != 5 or self.mask.shape[1] != 1):
            raise ValueError(f"mask must be (B, 1, M, M, M), got {tuple(self.mask.shape)}")

    def add_click(self, coords: Tensor, labels: Tensor) -> "Prompts":
        """Return the same prompts with one more click per item.

        Args:
            coords: The new points (B, 1, 3).
            labels: Their labels (B, 1).
        """
        if self.points is None or self.labels is None:
            return replace(self, points=coords, labels=labels)
        points = torch.cat([self.points, coords], dim=1)  # (B, N + 1, 3)
        return replace(self, points=points, labels=torch.cat([self.labels, labels], dim=1))
