"""A small 3DSAM-adapter whose every weight matters, for the tests of its parts."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.models.adapter3d_encoder import Adapter3DConfig

CONFIG = Adapter3DConfig(
    dim=24,
    depth=5,
    num_heads=2,
    global_blocks=(1, 2, 3, 4),
    grid_side=8,
    window=4,
    table_window=3,
    out_dim=16,
)
CROP = 16

M = TypeVar("M", bound=nn.Module)


def randomise(module: M, std: float = 0.3) -> M:
    """Draw every parameter but the weight of the position terms, which is one in all files."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.endswith("attn.lr"):
                parameter.normal_(std=std, generator=generator)
    return module


def small_adapter3d(**options: bool) -> Adapter3D:
    return randomise(Adapter3D(CONFIG, crop_size=CROP, **options))


def crop_of(side: int = CROP, *, batch: int = 1, seed: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, side, side, side, generator=generator)


def clicks_of(number: int = 3, *, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, CROP, (batch, number, 3), generator=generator)
