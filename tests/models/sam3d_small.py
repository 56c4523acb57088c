"""Small promptable networks of every family, of which no weight is zero."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from neurosam3d.models import Sam3D, build_model
from neurosam3d.models.hiera3d import Hiera3D, Hiera3DConfig
from neurosam3d.models.sam3d import assemble_sam3d
from neurosam3d.models.vit3d import ViT3D, ViT3DConfig

HIERA = Hiera3DConfig(
    dim=8,
    num_heads=1,
    depths=(1, 1, 2, 1),
    windows=(8, 4, 6, 3),
    global_blocks=(3,),
    position_side=3,
)
VIT = ViT3DConfig(dim=24, depth=2, num_heads=2, global_blocks=(1,), window=3)
SMALL_DINOV2 = {"student": {"arch": "vit_tiny_3d"}}


def assemble(encoder: Hiera3D | ViT3D, grid_size: int) -> Sam3D:
    return assemble_sam3d(
        encoder,
        embed_dim=384,
        image_size=encoder.image_size,
        grid_size=grid_size,
        mask_stride=4,
        box_prompts=None,
        published_quirks=True,
        checkpoint_upscaling=True,
    )


def vit(*, quirks: bool = True, recompute: bool = False) -> Sam3D:
    encoder = ViT3D(VIT, image_size=32, published_quirks=quirks, checkpoint_blocks=recompute)
    return assemble(encoder, 2)


FAMILIES: dict[str, Callable[[], Sam3D]] = {
    "vit": vit,
    "hiera": lambda: assemble(Hiera3D(HIERA, image_size=32, published_quirks=True), 2),
    "dinov2": lambda: build_model("dinov2", image_size=32, model_cfg=SMALL_DINOV2),  # type: ignore[dict-item, return-value]
}


def seeded(build: Callable[[], Sam3D]) -> Sam3D:
    torch.manual_seed(2)
    model = build().eval()
    for name, parameter in model.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def ask(model: Sam3D, embeddings: Tensor, num_points: int) -> Tensor:
    """Click so often on the mask of the round before."""
    generator = torch.Generator().manual_seed(num_points)
    previous = torch.randn(1, 1, *(model.mask_size,) * 3, generator=generator)
    coords = torch.randint(0, model.image_size, (1, num_points, 3), generator=generator)
    points = (coords, torch.arange(num_points)[None] % 2) if num_points else None
    return model.decode(embeddings, points=points, masks=previous)[0]


def image_of(model: Sam3D) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(1, 1, *(model.image_size,) * 3, generator=generator)
