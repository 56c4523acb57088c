"""The transformer block of 3DSAM-adapter (arXiv:2306.13465): SAM's block with a convolutional
adapter before it, in cubic windows that every other block shifts.

Shapes: B batch, C channels, N heads, x head channels; h w d = token grid, the slice axis last; M
windows of all grids together, T side of a window, nh nw nd = windows along the axes of a grid.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import MLP
from neurosam3d.models.relative_position import (
    Tables,
    attend_by_channels,
    attention_scale,
    decomposed_terms,
)
from neurosam3d.models.windows import merge_windows, split_windows

NUM_REGIONS = 8  # what a shifted window at the far end of all three axes is divided into
APART = -100.0  # logit between tokens of two regions, as the weights were trained with


def window_counts(grid: Sequence[int], window: int) -> tuple[int, int, int]:
    """Return how many windows cover each axis of a grid (h, w, d)."""
    h, w, d = (-(-side // window) for side in grid)
    return h, w, d


def shifted_regions(counts: tuple[int, int, int], window: int, device: torch.device) -> Tensor:
    """Tell apart the tokens that a shift by half a window has brought together from opposite sides.

    The last window along an axis holds the end of the grid in its first half and the beginning in
    its second. Tokens of a window attend to each other if their regions are the same (Swin,
    arXiv:2103.14030, section 3.2).

    Args:
        counts: Windows (nh, nw, nd) along each axis.
        window: Window side T in tokens.
        device: Where the result is to be.

    Returns:
        The region of each token, 0 to 7, as (nh * nw * nd, T^3), windows in the order of
        `split_windows`.
    """
    regions = torch.zeros(*counts, window, window, window, dtype=torch.long, device=device)
    wrapped = slice(window // 2, None)
    regions[-1, :, :, wrapped] += 4
    regions[:, -1, :, :, wrapped] += 2
    regions[:, :, -1, :, :, wrapped] += 1
    return regions.flatten(3).flatten(0, 2)


def shift_mask(counts: tuple[int, int, int], window: int) -> Tensor:
    """Return what is added to the logits of a shifted grid's windows: (nh * nw * nd, T^3, T^3).

    Published files hold it; the network does without, see `WindowAttention3d`.
    """
    regions = shifted_regions(counts, window, torch.device("cpu"))
    return APART * (regions[:, :, None] != regions[:, None, :]).float()


class Adapter(nn.Module):
    """A bottleneck with a depthwise convolution, added to the tokens.

    As the published weights need it, the branch ends in a ReLU, so that it can only add, and does
    not start at zero: the network differs from SAM before its first step.

    Args:
        dim: Channels in and out; half as many between.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = dim // 2
        self.linear1 = nn.Linear(dim, inner)
        self.conv = nn.Conv3d(inner, inner, kernel_size=3, padding=1, groups=inner)
        self.linear2 = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, h, w, d, C) to the same shape."""
        y = F.relu(self.linear1(x)).movedim(-1, 1)  # (B, C/2, h, w, d)
        y = F.relu(self.conv(y)).movedim(1, -1)  # (B, h, w, d, C/2)
        return x + F.relu(self.linear2(y))


class WindowAttention3d(nn.Module):
    """Multi-head self-attention within cubic windows, with SAM's relative position tables.

    Tables have the length that they have in SAM, and are brought to 2T - 1 entries at each call.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        window: Window side T in tokens.
        table_length: Entries of a table.
    """

    def __init__(self, dim: int, num_heads: int, *, window: int, table_length: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        head_dim = dim // num_heads
        self.scale = attention_scale(head_dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(table_length, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(table_length, head_dim))
        self.rel_pos_d = nn.Parameter(torch.zeros(table_length, head_dim))
        # Weight of the position terms; the published weights have it and never train it.
        self.lr = nn.Parameter(torch.ones(()), requires_grad=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, regions: Tensor | None = None) -> Tensor:
        """Map windows (M, T, T, T, C) to the same shape.

        Args:
            x: The tokens of the windows.
            regions: Region of each token (M, T^3) in a shifted grid; see `shifted_regions`.
        """
        qkv = self.qkv(x).unflatten(4, (3, self.num_heads, -1))  # (M, T, T, T, 3, N, x)
        q, k, v = qkv.permute(4, 0, 5, 1, 2, 3, 6)  # each (M, N, T, T, T, x)
        query, key, _ = decomposed_terms(q, self.resized_tables(), self.window)
        if regions is not None:
            own = F.one_hot(regions, NUM_REGIONS).to(query.dtype)[:, None]  # (M, 1, T^3, 8)
            query = torch.cat([query, own.expand(-1, self.num_heads, -1, -1)], dim=-1)
            key = torch.cat([key.expand(*own.shape[:2], -1, -1), APART * (1 - own)], dim=-1)
        q, k, v = (t.flatten(2, 4) for t in (q * self.scale, k, v))  # (M, N, T^3, x)
        out = attend_by_channels(q, k, v, query=query, key=key)  # (M, N, T^3, x)
        return self.proj(out.transpose(1, 2).flatten(2).view(x.shape))

    def resized_tables(self) -> Tables:
        """Return the weighted tables of the axes h, w, d, each (2T - 1, x)."""
        tables = torch.stack([self.rel_pos_h, self.rel_pos_w, self.rel_pos_d])  # (3, length, x)
        length = 2 * self.window - 1
        rows = F.interpolate(tables.mT, size=length, mode="linear", align_corners=False)
        h, w, d = self.lr * rows.mT
        return h, w, d


class AdapterBlock(nn.Module):
    """An adapter, then a pre-norm transformer block in windows.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        window: Window side T in tokens.
        table_length: Entries of a relative position table.
    """

    def __init__(self, dim: int, num_heads: int, *, window: int, table_length: int) -> None:
        super().__init__()
        self.window = window
        self.adapter = Adapter(dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = WindowAttention3d(dim, num_heads, window=window, table_length=table_length)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, 4 * dim)

    def forward(self, x: Tensor, regions: Tensor | None = None) -> Tensor:
        """Map tokens (B, h, w, d, C) to the same shape.

        Args:
            x: The tokens.
            regions: What `shifted_regions` returns for one grid, to shift its windows by half their
                side; None leaves them in place.
        """
        x = self.adapter(x)
        if regions is None:
            return self._transform(x)
        shift = (self.window // 2,) * 3
        x = x.roll([-step for step in shift], dims=(1, 2, 3))
        return self._transform(x, regions).roll(shift, dims=(1, 2, 3))

    def _transform(self, x: Tensor, regions: Tensor | None = None) -> Tensor:
        """Attend in windows and apply the MLP."""
        if torch.is_grad_enabled() or not x.is_cpu:
            return self._transform_windows(x, regions)
        # Windows do not see each other. One layer of them at a time keeps temporary tensors small.
        slabs = x.split(self.window, dim=1)
        parts = [None] * len(slabs) if regions is None else regions.chunk(len(slabs))
        pairs = zip(slabs, parts, strict=True)
        return torch.cat([self._transform_windows(slab, part) for slab, part in pairs], dim=1)

    def _transform_windows(self, x: Tensor, regions: Tensor | None) -> Tensor:
        x = x + self._attend(self.norm1(x), regions)
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: Tensor, regions: Tensor | None) -> Tensor:
        """Attend in windows; the last of an axis may reach beyond the grid, where tokens are zero
        and take part.
        """
        h, w, d = x.shape[1:4]
        far_h, far_w, far_d = (-side % self.window for side in (h, w, d))
        if far_h or far_w or far_d:
            x = F.pad(x, (0, 0, 0, far_d, 0, far_w, 0, far_h))
        counts = window_counts(x.shape[1:4], self.window)
        windows = split_windows(x, counts)  # (M, T, T, T, C)
        if regions is not None:
            regions = regions.repeat(len(x), 1)  # (M, T^3)
        return merge_windows(self.attn(windows, regions), counts)[:, :h, :w, :d]
