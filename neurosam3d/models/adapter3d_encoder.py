"""The image encoder of 3DSAM-adapter (arXiv:2306.13465): SAM's 2-D vision transformer on a cubic
grid of tokens, with four levels of features.

Shapes: B batch, C channels, P side of a crop in voxels; H W D = voxels along its axes, the slice
axis last, as the published kernels have it; h w d = token grid along them, n its side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.adapter3d_block import AdapterBlock, shifted_regions, window_counts
from neurosam3d.models.layers import LayerNorm3d, interpolation_matrix, run_block

PATCH = 16  # side of a patch of SAM, and slices per token


@dataclass(frozen=True)
class Adapter3DConfig:
    """Size of the encoder, and of what reads its features.

    Attributes:
        dim: Channels of a token.
        depth: Number of blocks; every other one, from the first on, shifts its windows.
        num_heads: Attention heads per block.
        global_blocks: Indices of the blocks that attend to everything in SAM, the last block among
            them. Here they attend in windows like the others; their position tables are longer, and
            each has a neck behind it.
        grid_side: Side of the token grid; SAM's position table has twice as many rows.
        window: Side of a window in tokens.
        table_window: Side of a window in SAM, for which the tables of the other blocks were made.
        out_dim: Channels of the features.
    """

    dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    grid_side: int = 32
    window: int = 8
    table_window: int = 14
    out_dim: int = 256

    def table_length(self, index: int) -> int:
        """Return the entries of a relative position table of a block."""
        side = 2 * self.grid_side if index in self.global_blocks else self.table_window
        return 2 * side - 1


ADAPTER3D_CONFIGS = {
    "adapter3d_vit_b": Adapter3DConfig(
        dim=768, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11)
    ),
    # Not published: SAM's two larger encoders by the same rules.
    "adapter3d_vit_l": Adapter3DConfig(
        dim=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23)
    ),
    "adapter3d_vit_h": Adapter3DConfig(
        dim=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31)
    ),
    # For tests and for trials on a CPU; no weights fit.
    "adapter3d_vit_tiny": Adapter3DConfig(
        dim=192, depth=4, num_heads=3, global_blocks=(0, 1, 2, 3), grid_side=16, out_dim=64
    ),
}


class SlicePatchEmbed(nn.Module):
    """SAM's projection of patches of a slice, under SAM's name; it only lends its weights.

    Args:
        dim: Channels C of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, stride=PATCH)


class Adapter3DEncoder(nn.Module):
    """Tokens of interpolated slices, blocks with adapters, a neck behind each of four blocks.

    As published, a crop is interpolated to 16 voxels per token along each axis, SAM's patch
    embedding reads the slices one by one, and a depthwise convolution merges the patches of 16
    slices. Interpolation and both convolutions are linear, so that all of it is one convolution of
    the crop as it is, with a kernel made of the three; see `token_kernel`.

    Args:
        config: Width, depth and windows.
        crop_size: Side P of a crop in voxels.
        checkpoint_blocks: Recompute each block in the backward pass instead of keeping its
            activations.

    Raises:
        ValueError: If ``crop_size`` is not a positive multiple of twice the side of the token grid.
    """

    def __init__(
        self, config: Adapter3DConfig, *, crop_size: int, checkpoint_blocks: bool = False
    ) -> None:
        super().__init__()
        side, dim = config.grid_side, config.dim
        if crop_size < 2 * side or crop_size % (2 * side):
            raise ValueError(
                f"crop_size must be a positive multiple of {2 * side}, got {crop_size}"
            )
        self.crop_size = crop_size
        self.window = config.window
        self.side_outputs = config.global_blocks
        self.checkpoint_blocks = checkpoint_blocks
        self.pos_embed = nn.Parameter(torch.zeros(1, 2 * side, 2 * side, dim))
        self.depth_embed = nn.Parameter(torch.ones(1, side, dim))
        self.patch_embed = SlicePatchEmbed(dim)
        slices = (1, 1, PATCH)
        self.slice_embed = nn.Conv3d(dim, dim, slices, stride=slices, groups=dim)
        self.blocks = nn.ModuleList(
            AdapterBlock(
                dim,
                config.num_heads,
                window=config.window,
                table_length=config.table_length(index),
            )
            for index in range(config.depth)
        )
        self.neck_3d = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(dim, config.out_dim, kernel_size=1, bias=False),
                LayerNorm3d(config.out_dim),
                nn.Conv3d(config.out_dim, config.out_dim, kernel_size=3, padding=1, bias=False),
                LayerNorm3d(config.out_dim),
            )
            for _ in config.global_blocks
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map a crop (B, 1, P, P, P), slices along its last axis, to features of four levels.

        Returns:
            One (B, out_dim, h, w, d) per neck, the deepest last.

        Raises:
            ValueError: If the crop has another shape than the network was built for.
        """
        if tuple(image.shape[1:]) != (1, *(self.crop_size,) * 3):
            side = self.crop_size
            raise ValueError(
                f"a crop must be (B, 1, {side}, {side}, {side}), got {tuple(image.shape)}"
            )
        x = self.embed(image)
        regions = shifted_regions(window_counts(x.shape[1:4], self.window), self.window, x.device)
        features: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            shifted = regions if index % 2 == 0 else None
            x = run_block(block, x, shifted, recompute=self.checkpoint_blocks)
            if index in self.side_outputs:
                features.append(self.neck_3d[len(features)](x.movedim(-1, 1)))
        return features

    def embed(self, image: Tensor) -> Tensor:
        """Map a crop (B, 1, H, W, D) to tokens (B, h, w, d, C) with their positions."""
        voxels = self.crop_size // self.depth_embed.shape[1]  # per token, along each axis
        kernel, bias = token_kernel(self.patch_embed.proj, self.slice_embed, voxels)
        # Beyond the faces interpolation finds the outermost voxels again.
        image = F.pad(image, (1,) * 6, mode="replicate")
        windows = image[:, 0].unfold(1, voxels + 2, voxels).unfold(2, voxels + 2, voxels)
        windows = windows.unfold(3, voxels + 2, voxels)  # (B, h, w, d, voxels + 2, ..., voxels + 2)
        x = F.linear(windows.flatten(4), kernel.flatten(1), bias)  # (B, h, w, d, C)
        in_plane = F.avg_pool2d(self.pos_embed.movedim(3, 1), 2).movedim(1, 3)  # (1, h, w, C)
        return x + in_plane[:, :, :, None] + self.depth_embed[:, None, None]


def token_kernel(patches: nn.Conv2d, slices: nn.Conv3d, voxels: int) -> tuple[Tensor, Tensor]:
    """Make one kernel of interpolation, patch embedding and merging of slices.

    Args:
        patches: Convolution (C, 3, 16, 16) of interpolated slices; its three channels read the same
            image.
        slices: Depthwise convolution (C, 1, 1, 1, 16) of the patches of 16 interpolated slices.
        voxels: Voxels per token of the crop before interpolation.

    Returns:
        A kernel (C, k, k, k), k = voxels + 2, for steps of that many voxels, that begins one voxel
        before those of the token; and a bias (C,).
    """
    # A cell between two others, and how its 16 samples weigh its voxels and the next on both sides.
    samples = interpolation_matrix(3 * voxels, 3 * PATCH, like=patches.weight)
    samples = samples[PATCH : 2 * PATCH, voxels - 1 : 2 * voxels + 1]  # (16, k)
    in_plane = samples.T @ patches.weight.sum(1) @ samples  # (C, k, k)
    depth = slices.weight.flatten(1)  # (C, 16)
    kernel = in_plane[..., None] * (depth @ samples)[:, None, None]  # (C, k, k, k)
    assert patches.bias is not None
    assert slices.bias is not None
    return kernel, slices.bias + patches.bias * depth.sum(1)
