"""A 3DSAM-adapter that sees the truth, and networks without prompts that do."""

from typing import Any

import torch
from torch import Tensor, nn

from neurosam3d.inference import Predictor
from neurosam3d.inference.adapter_network import AdapterNetwork
from tests.inference.oracle import STEEPNESS


class AdapterOracle(nn.Module):
    """Has the calls of 3DSAM-adapter; the object is what the image shows.

    Args:
        crop_size: Side of its window.
        labelled_clicks: Whether it says that it understands clicks outside the object.
    """

    def __init__(self, crop_size: int, *, labelled_clicks: bool = False) -> None:
        super().__init__()
        self.crop_size = crop_size
        self.weight = nn.Parameter(torch.ones(1))
        self.prompt_encoder = nn.Identity()
        self.labelled_clicks = labelled_clicks
        self.asked: list[tuple[Tensor, Tensor | None]] = []
        self.num_encoded = 0

    def encode(self, image: Tensor) -> list[Tensor]:
        self.num_encoded += 1
        return [image.clone() for _ in range(4)]

    def decode(
        self, features: list[Tensor], image: Tensor, points: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        self.asked.append((points[0], None if labels is None else labels[0]))
        return two_classes(features[-1])


class ClassOracle(nn.Module):
    """Segments without prompts: values 0, 1, 2 ... of the image are the classes.

    Args:
        crop_size: Sides of its window.
        num_classes: Classes, the background among them.
    """

    def __init__(self, crop_size: tuple[int, int, int] | int, *, num_classes: int = 2) -> None:
        super().__init__()
        self.crop_size = crop_size
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.ones(1))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.shapes.append(tuple(image.shape))
        values = torch.arange(self.num_classes).view(1, -1, 1, 1, 1)
        return -STEEPNESS * (image - values).abs()


class SliceClassOracle(nn.Module):
    """Segments slices without prompts, like SAMed: values 0, 1, 2 ... of them are the classes.

    Args:
        image_size: Side of its images.
        num_classes: Classes, the background among them.
    """

    def __init__(self, image_size: int, *, num_classes: int = 2) -> None:
        super().__init__()
        self.image_size = image_size
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.ones(1))
        self.images: list[Tensor] = []

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.images.append(image)
        values = torch.arange(self.num_classes).view(1, -1, 1, 1)
        return {"masks": -STEEPNESS * (image[:, :1] - values).abs()}


def two_classes(image: Tensor) -> Tensor:
    """Return logits (B, 2, D, H, W) of background and object."""
    logits = (image - 0.5) * STEEPNESS
    return torch.cat([-logits / 2, logits / 2], dim=1)


def adapter_predictor(oracle: Any, **options: object) -> Predictor:
    """Return a predictor that sees raw intensities; on the scan's own voxels if not told."""
    settings = {"spacing": None, "intensity": "none", **options}
    return Predictor(AdapterNetwork(oracle), **settings)  # type: ignore[arg-type]
