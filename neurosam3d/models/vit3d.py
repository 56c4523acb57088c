"""The 3-D vision transformer that encodes the image in SAM-Med3D (arXiv:2310.15161, section 3).

Checkpoints that fit: SAM-Med3D ``vit_b_ori``, NeuroSAM3D ``vit_b``, ``vit_b_ori``, ``vit_l``,
``vit_h``.

Shapes: B batch (times windows), C channels, N heads, x head channels; d h w = token grid along
tensor axes 2 3 4 of the image; T window side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neurosam3d.models.layers import (
    MLP,
    DropPath,
    LayerNorm3d,
    PatchEmbed3d,
    check_image_size,
    drop_path_rates,
    run_block,
)
from neurosam3d.models.relative_position import (
    attend,
    attention_scale,
    decomposed_terms,
    published_terms,
)
from neurosam3d.models.windows import merge_windows, split_windows, window_regions


@dataclass(frozen=True)
class ViT3DConfig:
    """Size of a 3-D ViT encoder.

    Attributes:
        dim: Channels of a token.
        depth: Number of blocks.
        num_heads: Attention heads per block.
        global_blocks: Indices of the blocks that attend over the whole volume; the others use
            windows.
        window: Side of a window in tokens.
        patch_size: Side of a patch in voxels.
        out_dim: Channels of the embedding that the mask decoder reads.
    """

    dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    window: int = 14
    patch_size: int = 16
    out_dim: int = 384


VIT3D_CONFIGS = {
    # Small enough for tests and for a demonstration without a GPU; no published weights.
    "vit_tiny": ViT3DConfig(dim=192, depth=4, num_heads=6, global_blocks=(1, 3)),
    "vit_b": ViT3DConfig(dim=384, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11)),
    "vit_b_ori": ViT3DConfig(dim=768, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11)),
    "vit_l": ViT3DConfig(dim=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23)),
    "vit_h": ViT3DConfig(dim=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31)),
}


class RelativeAttention3d(nn.Module):
    """Multi-head self-attention within cubic windows, with relative position tables.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        window: Window side T; a window at least as large as the grid makes the attention global up
            to padding.
        published_quirks: Compute the bias and the padding as the published weights need it (see
            `relative_position`); False gives the decomposed bias and ignores the padding.
    """

    def __init__(self, dim: int, num_heads: int, *, window: int, published_quirks: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.published_quirks = published_quirks
        head_dim = dim // num_heads
        self.scale = attention_scale(head_dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_d = nn.Parameter(torch.zeros(2 * window - 1, head_dim))
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * window - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * window - 1, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, d, h, w, C) to tokens of the same shape."""
        qkv = self.qkv(x)  # (B, d, h, w, 3C)
        if max(x.shape[1:4]) <= self.window:
            return self.proj(self._attend_window(qkv))
        out = torch.empty_like(x, dtype=qkv.dtype)
        for region, counts in window_regions(x.shape[1:4], self.window):
            index = (slice(None), *region)
            windows = split_windows(qkv[index], counts)
            out[index] = merge_windows(self._attend_window(windows), counts)
        return self.proj(out)

    def _attend_window(self, qkv: Tensor) -> Tensor:
        """Attend within windows whose real tokens are (B, d, h, w, 3C); returns (B, d, h, w, C)."""
        grid = qkv.shape[1:4]
        q, k, v = qkv.unflatten(4, (3, self.num_heads, -1)).permute(4, 0, 5, 1, 2, 3, 6)
        tables = (self.rel_pos_d, self.rel_pos_h, self.rel_pos_w)
        if self.published_quirks:
            pad_q, pad_k, pad_v = self.qkv.bias.to(q.dtype).view(3, self.num_heads, -1)  # (N, x)
            terms = published_terms(q, pad_q, tables, self.window)
        else:
            terms = decomposed_terms(q, tables, self.window)
        q, k, v = (t.flatten(2, 4) for t in (q * self.scale, k, v))  # (B, N, d*h*w, x)
        if terms.key.shape[0] > k.shape[2]:  # one virtual key for all the padding
            k = torch.cat([k, pad_k[None, :, None].expand(k.shape[0], -1, -1, -1)], dim=2)
            v = torch.cat([v, pad_v[None, :, None].expand(v.shape[0], -1, -1, -1)], dim=2)
        out = attend(q, k, v, terms, fused=not torch.is_grad_enabled())  # (B, N, d*h*w, x)
        return out.transpose(1, 2).flatten(2).unflatten(1, grid)  # (B, d, h, w, C)


class Block(nn.Module):
    """A pre-norm transformer block on a token grid.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        window: Window side in tokens.
        published_quirks: See `RelativeAttention3d`.
        drop_path: Probability of leaving out a branch while training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window: int,
        published_quirks: bool,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = RelativeAttention3d(
            dim, num_heads, window=window, published_quirks=published_quirks
        )
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d, h, w, C) to the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViT3D(nn.Module):
    """Image encoder: patches, absolute positions, transformer blocks, convolutional neck.

    Args:
        config: Width, depth and windows.
        image_size: Side S of the cubic input in voxels, a multiple of the patch size.
        published_quirks: See `RelativeAttention3d`.
        drop_path: Probability of leaving out a branch of the last block while training; it grows
            linearly from 0 at the first.
        checkpoint_blocks: Recompute each block in the backward pass instead of keeping its
            activations.

    Raises:
        ValueError: If ``image_size`` is not a positive multiple of the patch size, or ``drop_path``
            lies outside [0, 1).
    """

    def __init__(
        self,
        config: ViT3DConfig,
        *,
        image_size: int,
        published_quirks: bool,
        drop_path: float = 0.0,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        check_image_size(image_size, config.patch_size)
        self.image_size = image_size
        self.checkpoint_blocks = checkpoint_blocks
        side = image_size // config.patch_size
        self.patch_embed = PatchEmbed3d(1, config.dim, config.patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, side, config.dim))
        self.blocks = nn.ModuleList(
            Block(
                config.dim,
                config.num_heads,
                window=side if index in config.global_blocks else config.window,
                published_quirks=published_quirks,
                drop_path=rate,
            )
            for index, rate in enumerate(drop_path_rates(drop_path, config.depth))
        )
        self.neck = nn.Sequential(
            nn.Conv3d(config.dim, config.out_dim, kernel_size=1, bias=False),
            LayerNorm3d(config.out_dim),
            nn.Conv3d(config.out_dim, config.out_dim, kernel_size=3, padding=1, bias=False),
            LayerNorm3d(config.out_dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, 1, S, S, S) to its embedding (B, out_dim, S/16, S/16, S/16).

        Raises:
            ValueError: If the image has another shape than the one the position tables were built
            for.
        """
        side = self.image_size
        if tuple(image.shape[1:]) != (1, side, side, side):
            raise ValueError(
                f"image must be (B, 1, {side}, {side}, {side}), got {tuple(image.shape)}"
            )
        x = self.patch_embed(image) + self.pos_embed  # (B, d, h, w, C)
        for block in self.blocks:
            x = run_block(block, x, recompute=self.checkpoint_blocks)
        return self.neck(x.movedim(-1, 1))  # (B, out_dim, d, h, w)
