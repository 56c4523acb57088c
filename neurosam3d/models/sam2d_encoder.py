"""SAM's image encoder: a vision transformer on slices (arXiv:2304.02643, section 3).

Checkpoints that fit: SAM B, L and H, MedSAM; with adapters SAM-Med2D.

Shapes: B batch, C channels, N heads, x head channels, S side of an image in pixels; h w = token
grid along tensor axes 2 3 of the image; M windows of all grids together, T side of a window.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import MLP, LayerNorm3d, check_image_size, run_block
from neurosam3d.models.relative_position import (
    attend,
    attend_by_channels,
    attention_scale,
    decomposed_terms,
)
from neurosam3d.models.sam2d_adapter import ConvAdapter
from neurosam3d.models.windows import merge_windows, split_windows


@dataclass(frozen=True)
class Sam2DConfig:
    """Size of SAM's encoder.

    Attributes:
        dim: Channels of a token.
        depth: Number of blocks.
        num_heads: Attention heads per block.
        global_blocks: Indices of the blocks that attend over the whole image; the others use
            windows.
        window: Side of a window in tokens.
        patch_size: Side of a patch in pixels.
        out_dim: Channels of the embedding.
    """

    dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    window: int = 14
    patch_size: int = 16
    out_dim: int = 256


SAM2D_CONFIGS = {
    "vit_b": Sam2DConfig(dim=768, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11)),
    "vit_l": Sam2DConfig(dim=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23)),
    "vit_h": Sam2DConfig(dim=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31)),
}


class PatchEmbed2d(nn.Module):
    """Cut an image into squares and project each to one token.

    Args:
        dim: Channels of a token.
        patch_size: Side of a square in pixels.
    """

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, S, S) to channels-last tokens (B, h, w, C)."""
        return self.proj(image).permute(0, 2, 3, 1)


class RelativeAttention2d(nn.Module):
    """Multi-head self-attention within square windows, with relative position tables.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        window: Window side T in tokens.
    """

    def __init__(self, dim: int, num_heads: int, *, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        head_dim = dim // num_heads
        self.scale = attention_scale(head_dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * window - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * window - 1, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (M, T, T, C) to the same shape."""
        qkv = self.qkv(x).unflatten(3, (3, self.num_heads, -1))  # (M, T, T, 3, N, x)
        q, k, v = qkv.permute(3, 0, 4, 1, 2, 5)  # each (M, N, T, T, x)
        terms = decomposed_terms(q, (self.rel_pos_h, self.rel_pos_w), self.window)
        q, k, v = (t.flatten(2, 3) for t in (q * self.scale, k, v))  # (M, N, T^2, x)
        if torch.is_grad_enabled():  # no (T^2, T^2) matrix is kept
            out = attend_by_channels(q, k, v, query=terms.query, key=terms.key)
        else:
            out = attend(q, k, v, terms, fused=True)  # (M, N, T^2, x)
        return self.proj(out.transpose(1, 2).flatten(2).view(x.shape))


class Block2d(nn.Module):
    """A pre-norm transformer block.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        window: Window side T in tokens.
        adapter: Whether an adapter works beside the MLP, as in SAM-Med2D.
    """

    def __init__(self, dim: int, num_heads: int, *, window: int, adapter: bool) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = RelativeAttention2d(dim, num_heads, window=window)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, 4 * dim)
        self.Adapter = ConvAdapter(dim) if adapter else None  # the name that checkpoints have

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, h, w, C) to the same shape."""
        x = x + self._attend(self.norm1(x))
        y = self.norm2(x)
        x = x + self.mlp(y)
        return x if self.Adapter is None else x + self.Adapter(y)

    def _attend(self, x: Tensor) -> Tensor:
        """Attend in windows; those at the end may reach beyond the grid, where tokens are zero and
        take part.
        """
        h, w = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -w % self.window, 0, -h % self.window))
        counts = (x.shape[1] // self.window, x.shape[2] // self.window)
        windows = split_windows(x, counts)  # (M, T, T, C)
        return merge_windows(self.attn(windows), counts)[:, :h, :w]


class ImageEncoder2D(nn.Module):
    """Patches, absolute positions, transformer blocks and a convolutional neck.

    Args:
        config: Width, depth and windows.
        image_size: Side S of the square image in pixels, a multiple of the patch size; with
            adapters, of twice that.
        adapters: Whether every block has SAM-Med2D's adapter.
        checkpoint_blocks: Recompute each block in the backward pass instead of keeping its
            activations.

    Raises:
        ValueError: If ``image_size`` is not such a multiple.
    """

    def __init__(
        self,
        config: Sam2DConfig,
        *,
        image_size: int,
        adapters: bool = False,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        check_image_size(image_size, config.patch_size * (2 if adapters else 1))
        self.image_size = image_size
        self.checkpoint_blocks = checkpoint_blocks
        side = image_size // config.patch_size
        self.patch_embed = PatchEmbed2d(config.dim, config.patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, config.dim))
        self.blocks = nn.ModuleList(
            Block2d(
                config.dim,
                config.num_heads,
                window=side if index in config.global_blocks else config.window,
                adapter=adapters,
            )
            for index in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.dim, config.out_dim, kernel_size=1, bias=False),
            LayerNorm3d(config.out_dim),
            nn.Conv2d(config.out_dim, config.out_dim, kernel_size=3, padding=1, bias=False),
            LayerNorm3d(config.out_dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map images (B, 3, S, S) to embeddings (B, out_dim, h, w), h = w = S / patch size.

        Raises:
            ValueError: If the images have another shape than the one the position tables are for.
        """
        side = self.image_size
        if tuple(image.shape[1:]) != (3, side, side):
            raise ValueError(f"image must be (B, 3, {side}, {side}), got {tuple(image.shape)}")
        x = self.patch_embed(image) + self.pos_embed  # (B, h, w, C)
        for block in self.blocks:
            x = run_block(block, x, recompute=self.checkpoint_blocks)
        return self.neck(x.movedim(-1, 1))  # (B, out_dim, h, w)
