"""The block of Hiera (arXiv:2306.00989; with windows SAM 2, arXiv:2408.00714, section 4) in 3-D, in
a form that never builds a padded window.

Shapes: B batch (times windows), C channels, N heads, x head channels; d h w = token grid along
tensor axes 2 3 4 of the image.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import DropPath
from neurosam3d.models.windows import merge_windows, split_windows, window_regions


def pool_tokens(x: Tensor) -> Tensor:
    """Take the maximum over cubes of 2 x 2 x 2 tokens: (B, d, h, w, C) to half the sides."""
    for axis in (1, 2, 3):  # much faster on channels-last tokens than max_pool3d
        x = torch.maximum(*x.unflatten(axis, (-1, 2)).unbind(axis + 1))
    return x


class PooledAttention3d(nn.Module):
    """Multi-head self-attention within cubic windows, whose queries may be pooled.

    A window that reaches beyond the grid is filled with zeros after the norm, and the published
    architecture lets these tokens take part as keys. All of them have the bias of the qkv layer as
    key and value, so that one key stands for n of them when log(n) is added to its logits.

    Args:
        dim: Channels in.
        out_dim: Channels out.
        num_heads: Attention heads.
        window: Window side in tokens, or None to attend over the whole grid.
        pool: Take the maximum over 2 x 2 x 2 queries, which halves the sides of the grid.
        padding_keys: Let padding take part as keys.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        num_heads: int,
        window: int | None,
        pool: bool,
        padding_keys: bool,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.pool = pool
        self.padding_keys = padding_keys
        self.qkv = nn.Linear(dim, 3 * out_dim)
        self.proj = nn.Linear(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, d, h, w, dim) to (B, d, h, w, out_dim), of half the sides if pooled."""
        grid = x.shape[1:4]
        if self.window is None or max(grid) <= self.window:
            return self._attend(x)
        parts = [
            (region, merge_windows(self._attend(split_windows(x[:, *region], counts)), counts))
            for region, counts in window_regions(grid, self.window)
        ]
        if len(parts) == 1:
            return parts[0][1]
        step = 2 if self.pool else 1
        out = parts[0][1].new_empty(
            len(x), *(side // step for side in grid), self.proj.out_features
        )
        for region, part in parts:
            out[:, *(slice(axis.start // step, axis.stop // step) for axis in region)] = part
        return out

    def _attend(self, x: Tensor) -> Tensor:
        """Attend within windows whose real tokens are (B, d, h, w, dim)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # each (B, d, h, w, C)
        if self.pool:
            q = pool_tokens(q)
        grid = q.shape[1:4]
        q, k, v = (self._split_heads(t.flatten(1, 3)) for t in (q, k, v))  # (B, N, tokens, x)
        num_padding = 0 if self.window is None else self.window**3 - k.shape[2]
        mask = None
        if self.padding_keys and num_padding:
            _, pad_k, pad_v = self.qkv.bias.expand(len(x), 1, -1).chunk(3, dim=-1)
            k = torch.cat([k, self._split_heads(pad_k)], dim=2)  # (B, N, tokens + 1, x)
            v = torch.cat([v, self._split_heads(pad_v)], dim=2)
            mask = q.new_zeros(1, k.shape[2])
            mask[:, -1] = math.log(num_padding)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, N, tokens, x)
        return self.proj(out.transpose(1, 2).flatten(2).unflatten(1, grid))

    def _split_heads(self, x: Tensor) -> Tensor:
        """Map (B, tokens, C) to (B, N, tokens, x)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class TokenMLP(nn.Module):
    """Two linear layers with GELU between them, four times as wide inside, under Hiera's names.

    Args:
        dim: Channels in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.layers[1](F.gelu(self.layers[0](x)))


class HieraBlock(nn.Module):
    """A pre-norm transformer block; the first of a stage pools the grid and widens the tokens.

    Args:
        dim: Channels in.
        out_dim: Channels out; more than ``dim`` in a block that pools.
        num_heads: Attention heads.
        window: Window side in tokens, or None to attend over the whole grid.
        padding_keys: See `PooledAttention3d`.
        drop_path: Probability of leaving out a branch in training; see `DropPath`.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        num_heads: int,
        window: int | None,
        padding_keys: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = PooledAttention3d(
            dim,
            out_dim,
            num_heads=num_heads,
            window=window,
            pool=dim != out_dim,
            padding_keys=padding_keys,
        )
        self.norm2 = nn.LayerNorm(out_dim, eps=1e-6)
        self.mlp = TokenMLP(out_dim)
        self.proj = nn.Linear(dim, out_dim) if dim != out_dim else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, d, h, w, dim) to (B, d, h, w, out_dim), of half the sides if pooled."""
        window = self.attn.window
        if window is None or torch.is_grad_enabled() or not x.is_cpu:
            return self._transform(x)
        # Windows do not see each other. One layer of them at a time keeps temporary tensors small,
        # which on a CPU saves memory and a tenth of the time.
        return torch.cat([self._transform(slab) for slab in x.split(window, dim=1)], dim=1)

    def _transform(self, x: Tensor) -> Tensor:
        """Do the work of `forward` on whole windows."""
        y = self.norm1(x)
        shortcut = x if self.proj is None else pool_tokens(self.proj(y))
        x = shortcut + self.drop_path(self.attn(y))
        return x + self.drop_path(self.mlp(self.norm2(x)))
