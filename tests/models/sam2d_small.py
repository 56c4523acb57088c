"""Small networks of slices whose every weight matters, for the tests of their parts."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from neurosam3d.models import Sam2D, Samed, build_model
from neurosam3d.models.sam2d_encoder import Sam2DConfig

CONFIG = Sam2DConfig(dim=24, depth=3, num_heads=2, global_blocks=(1,), window=3, out_dim=16)
SIDE = 64  # four tokens: windows of three reach beyond the grid

M = TypeVar("M", bound=nn.Module)


def randomise(module: M, seed: int = 3) -> M:
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        value.normal_(std=0.3, generator=generator)
    return module


def small_sam2d(name: str = "sam_vit_b", seed: int = 3, **options: Any) -> Sam2D:
    model = build_model(name, **{"image_size": SIDE, **options})
    assert isinstance(model, Sam2D)
    return randomise(model, seed)


def small_samed(name: str = "samed_vit_b", seed: int = 3, **options: Any) -> Samed:
    model = build_model(name, **{"image_size": SIDE, "num_classes": 2, "rank": 3, **options})
    assert isinstance(model, Samed)
    return randomise(model, seed)


def slices_of(*, batch: int = 1, side: int = SIDE, seed: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, side, side, generator=generator)
