"""The blocks of nnFormer (arXiv:2109.03201): attention in shifted windows of a 3-D token grid,
either of tokens to themselves or of a coarser level's tokens to a skip connection's.

Shapes: B batch (times windows), C channels, N heads, x head channels; d h w = token grid along
tensor axes 2 3 4 of the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import DropPath
from neurosam3d.models.windows import merge_windows, split_windows, window_regions


def relative_position_index(window: int, *, published_quirks: bool) -> Tensor:
    """Tell which row of the table holds the bias of each pair of a window's tokens.

    Args:
        window: Side w of the window in tokens.
        published_quirks: Multiply offsets along the first axis by 3w - 1, as the published program
            does, where (2w - 1)^2 gives each offset a row of its own: other offsets then share
            rows, and most rows stand for none.

    Returns:
        (w^3, w^3), row of query and key.
    """
    positions = torch.cartesian_prod(*[torch.arange(window)] * 3).view(-1, 3)  # (w^3, 3)
    offsets = positions[:, None] - positions[None, :] + window - 1  # (w^3, w^3, 3), from 0
    step = 2 * window - 1
    first_step = 3 * window - 1 if published_quirks else step**2
    return offsets @ torch.tensor([first_step, step, 1])


class WindowAttention(nn.Module):
    """Multi-head attention within cubic windows, with a bias for each relative position.

    Args:
        dim: Channels in and out.
        num_heads: Attention heads.
        window: Window side w in tokens.
        shift: Tokens of the first window that the grid begins with, w // 2 or 0 for all.
        reads_skip: Take keys and values from a skip connection, and the tokens themselves as
            queries.
        published_quirks: Let the zeros that fill windows beyond the grid take part as keys, and
            share rows of the table (`relative_position_index`).
    """

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window: int,
        shift: int,
        reads_skip: bool,
        published_quirks: bool,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.shift = shift
        self.padding_keys = published_quirks
        rows = (2 * window - 1) ** 3
        self.relative_position_bias_table = nn.Parameter(torch.empty(rows, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        # Kept with the table in files, which has a meaning only together with it.
        index = relative_position_index(window, published_quirks=published_quirks)
        self.register_buffer("relative_position_index", index)
        if reads_skip:
            self.kv = nn.Linear(dim, 2 * dim)
        else:
            self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Map tokens (B, d, h, w, C) to the same shape.

        Args:
            x: Normalised tokens.
            skip: Normalised tokens of the skip connection, of the same shape, if they are read.
        """
        d, h, w = x.shape[1:4]
        if self.padding_keys:
            x, skip = self._pad(x), skip if skip is None else self._pad(skip)
        if skip is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)  # each (B, d, h, w, C)
        else:
            q, (k, v) = x, self.kv(skip).chunk(2, dim=-1)
        out = torch.empty_like(k)
        for region, counts in window_regions(x.shape[1:4], self.window, self.shift):
            parts = [split_windows(t[:, *region], counts) for t in (q, k, v)]
            out[:, *region] = merge_windows(self._attend(*parts), counts)
        return self.proj(out[:, :d, :h, :w])

    def _pad(self, x: Tensor) -> Tensor:
        """Fill (B, d, h, w, C) up with zeros to whole windows."""
        missing = [-side % self.window for side in x.shape[1:4]]
        return F.pad(x, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within windows, or equal parts of them, of tokens (B, d, h, w, C)."""
        sides = q.shape[1:4]
        # (B, N, tokens, x)
        q, k, v = (
            t.flatten(1, 3).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(sides))
        return out.transpose(1, 2).flatten(2).unflatten(1, sides)

    def _bias(self, sides: tuple[int, ...]) -> Tensor:
        """Return the bias (N, tokens, tokens) of a window of these sides, whole or in part."""
        d, h, w = sides
        index = self.relative_position_index.view((self.window,) * 6)[:d, :h, :w, :d, :h, :w]
        bias = self.relative_position_bias_table[index.flatten(3).flatten(0, 2)]
        return bias.permute(2, 0, 1)


class TokenMLP(nn.Module):
    """Two linear layers with GELU between them, four times as wide inside.

    Args:
        dim: Channels in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.fc2(F.gelu(self.fc1(x)))


class WindowBlock(nn.Module):
    """A pre-norm transformer block over windows.

    Args:
        dim: Channels in and out.
        num_heads: Attention heads.
        window: See `WindowAttention`, as for what follows.
        shift: See there.
        reads_skip: See there.
        published_quirks: See there.
        drop_path: Probability of leaving out a branch in training; see `DropPath`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window: int,
        shift: int,
        reads_skip: bool,
        published_quirks: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(
            dim,
            num_heads,
            window=window,
            shift=shift,
            reads_skip=reads_skip,
            published_quirks=published_quirks,
        )
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = TokenMLP(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Map tokens (B, d, h, w, C) to the same shape.

        Args:
            x: Tokens; with a skip connection those of the coarser level, brought to its grid.
            skip: Tokens of the skip connection, which the block reads and adds.
        """
        if skip is None:
            y = self.attn(self.norm1(x))
        else:
            y = self.attn(self.norm1(x), self.norm1(skip))
            x = x + skip
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))
