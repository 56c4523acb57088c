"""The vision transformer of DINOv2 (arXiv:2304.07193) on volumes, as SAM's image encoder: the
teacher of self-supervised training in 3-D (3DINO) and a convolutional neck.

Checkpoints that fit: 3DINO's teacher (ViT-L, position table for 112^3 voxels), NeuroSAM3D
``dinov2``.

Shapes: B batch, C channels; d h w = token grid along tensor axes 2 3 4 of the image; p = side of
the learned position table; L = tokens in all: one for the class, registers if any, d*h*w patches.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.dinov2_block import Block
from neurosam3d.models.dinov2_config import DinoV2Config, parse_settings
from neurosam3d.models.layers import (
    LayerNorm3d,
    PatchEmbed3d,
    check_image_size,
    drop_path_rates,
    run_block,
)
from neurosam3d.models.sam3d import Sam3D, assemble_sam3d
from neurosam3d.network_config import read_network_config

# The table is scaled by (side + 0.1) / its own side. That factor, not the ratio of the sides, sets
# the sampling step, so positions lie a little closer together than the grid's: the published
# weights are used to it.
GRID_OFFSET = 0.1


class DinoV2Trunk(nn.Module):
    """The transformer as it was trained, under the names that its weights have.

    Args:
        config: Size and make.
        drop_path: Probability of leaving out a branch of the last block; it grows linearly from 0.
        checkpoint_blocks: Recompute each block in the backward pass instead of keeping its
            activations.
    """

    def __init__(
        self, config: DinoV2Config, *, drop_path: float = 0.0, checkpoint_blocks: bool = False
    ) -> None:
        super().__init__()
        dim, depth, side = config.dim, config.depth, config.position_side
        self.position_side = side
        self.num_registers = config.num_registers
        self.checkpoint_blocks = checkpoint_blocks
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**3, dim))
        if self.num_registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.num_registers, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))  # only self-supervision masks patches
        self.patch_embed = PatchEmbed3d(1, dim, config.patch_size)
        rates = drop_path_rates(drop_path, depth)
        blocks = [Block(config, drop_path=rate) for rate in rates]
        self.blocks = nn.ModuleList(blocks)
        if config.block_chunks:
            # `blocks.<chunk>.<index among all blocks>`
            size = depth // config.block_chunks
            self.blocks = nn.ModuleList(
                nn.ModuleDict({str(index): blocks[index] for index in range(start, start + size)})
                for start in range(0, depth, size)
            )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self._init_weights()

    def _init_weights(self) -> None:
        """Draw the initial weights as DINOv2 does; the patch projection keeps torch's."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.num_registers:
            nn.init.normal_(self.register_tokens, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def iter_blocks(self) -> Iterator[nn.Module]:
        """Yield the blocks in their order, however their names are grouped."""
        for entry in self.blocks:
            yield from entry.values() if isinstance(entry, nn.ModuleDict) else (entry,)

    def positions(self, side: int) -> Tensor:
        """Return the positions (1, 1 + side^3, C) of the class token and a grid of that side."""
        if side == self.position_side:
            return self.pos_embed
        of_class, of_patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        grid = of_patches.transpose(1, 2).unflatten(2, (self.position_side,) * 3)  # (1, C, p, p, p)
        factor = (side + GRID_OFFSET) / self.position_side
        grid = F.interpolate(grid, scale_factor=(factor,) * 3, mode="trilinear")  # (1, C, d, h, w)
        return torch.cat([of_class, grid.flatten(2).transpose(1, 2)], dim=1)

    def embed(self, image: Tensor) -> Tensor:
        """Map a cubic image (B, 1, S, S, S) to the tokens (B, L, C) that enter the first block."""
        patches = self.patch_embed(image)  # (B, d, h, w, C)
        of_class = self.cls_token.expand(len(image), -1, -1)
        x = torch.cat([of_class, patches.flatten(1, 3)], dim=1)  # (B, 1 + d*h*w, C)
        x = x + self.positions(patches.shape[1])
        if self.num_registers:
            registers = self.register_tokens.expand(len(image), -1, -1)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)  # (B, L, C)
        return x

    def forward(self, image: Tensor) -> Tensor:
        """Map a cubic image (B, 1, S, S, S) to normalised patch tokens (B, S/16, S/16, S/16, C)."""
        x = self.embed(image)  # (B, L, C)
        for block in self.iter_blocks():
            x = run_block(block, x, recompute=self.checkpoint_blocks)
        side = image.shape[2] // self.patch_embed.patch_size
        return self.norm(x[:, -(side**3) :]).unflatten(1, (side,) * 3)  # (B, d, h, w, C)


class DinoV2Encoder3D(nn.Module):
    """Image encoder: the transformer and a convolutional neck.

    Args:
        config: Size and make of the transformer.
        image_size: Side S of the cubic input in voxels, a multiple of the patch size. Where it is
            not the side that the position table was learned for, the table is interpolated.
        drop_path: See `DinoV2Trunk`.
        checkpoint_blocks: See `DinoV2Trunk`.

    Raises:
        ValueError: If ``image_size`` is not a positive multiple of the patch size, or ``drop_path``
            lies outside [0, 1).
    """

    unread = ("model.mask_token",)

    def __init__(
        self,
        config: DinoV2Config,
        *,
        image_size: int,
        drop_path: float = 0.0,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        check_image_size(image_size, config.patch_size)
        self.image_size = image_size
        self.model = DinoV2Trunk(config, drop_path=drop_path, checkpoint_blocks=checkpoint_blocks)
        self.neck = nn.Sequential(
            nn.Conv3d(config.dim, config.out_dim, kernel_size=1, bias=False),
            LayerNorm3d(config.out_dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, 1, S, S, S) to its embedding (B, out_dim, S/16, S/16, S/16).

        Raises:
            ValueError: If the image has another shape than the encoder was built for.
        """
        side = self.image_size
        if tuple(image.shape[1:]) != (1, side, side, side):
            raise ValueError(
                f"image must be (B, 1, {side}, {side}, {side}), got {tuple(image.shape)}"
            )
        return self.neck(self.model(image).movedim(-1, 1))  # (B, out_dim, d, h, w)


def build_dinov2_sam3d(
    *,
    image_size: int = 112,
    mask_stride: int = 4,
    box_prompts: bool | None = None,
    model_cfg: str | os.PathLike[str] | Mapping[str, Any] = "train/vit3d_highres",
    published_quirks: bool = True,
    checkpoint_upscaling: bool = False,
    drop_path: float = 0.0,
    checkpoint_blocks: bool = False,
) -> Sam3D:
    """Build a promptable network around DINOv2's transformer in 3-D.

    Args:
        image_size: Side S of the cubic input in voxels, a multiple of 16.
        mask_stride: 4 for SAM-Med3D's decoder, 1 for NeuroSAM3D's.
        box_prompts: Whether the network has box embeddings; by default as the published family has
            it (not at stride 4, yes at 1).
        model_cfg: The encoder's settings: a YAML file as
            `neurosam3d.network_config.find_network_config` finds it, or the content of one.
        published_quirks: Compute the dense position encoding the way the published weights need it.
            False gives the correct form, for training from scratch.
        checkpoint_upscaling: Recompute the decoder's upscaling in the backward pass to save memory.
        drop_path: Probability of leaving out a residual branch of the encoder's last block while
            training; it grows linearly from 0 at the first.
        checkpoint_blocks: Recompute each of the encoder's blocks in the backward pass to save
            memory.

    Raises:
        ValueError: If a setting or an argument is not allowed.
    """
    config = parse_settings(read_network_config(model_cfg))
    encoder = DinoV2Encoder3D(
        config, image_size=image_size, drop_path=drop_path, checkpoint_blocks=checkpoint_blocks
    )
    return assemble_sam3d(
        encoder,
        embed_dim=config.out_dim,
        image_size=image_size,
        grid_size=image_size // config.patch_size,
        mask_stride=mask_stride,
        box_prompts=box_prompts,
        published_quirks=published_quirks,
        checkpoint_upscaling=checkpoint_upscaling,
    )
