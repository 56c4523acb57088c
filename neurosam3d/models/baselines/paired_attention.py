"""The efficient paired attention of UNETR++ (arXiv:2212.04497, section 3.2): over channels, and
over positions with keys and values projected to a few tokens; both share queries and keys.

Shapes: B batch, N tokens, C channels, H heads, x head channels, P projected tokens; d h w = grid
(N = d*h*w).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.baselines.monai_blocks import residual_block


class PairedAttention(nn.Module):
    """Channel attention and spatial attention side by side.

    Args:
        num_tokens: Tokens N, which the projection is made for.
        dim: Channels in and out.
        num_heads: Attention heads.
        num_projected: Tokens P that keys and values are projected to.
        dropout: Rate on both attentions, in training.
        scrambles_space: Lay the result of the spatial attention out as if its channels came before
            its heads and tokens, as in the published program, which mixes tokens and channels.
    """

    def __init__(
        self,
        num_tokens: int,
        dim: int,
        *,
        num_heads: int,
        num_projected: int,
        dropout: float,
        scrambles_space: bool,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.scrambles_space = scrambles_space
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.temperature2 = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkvv = nn.Linear(dim, 4 * dim, bias=False)
        self.E = self.F = nn.Linear(num_tokens, num_projected)  # one layer, under both names
        self.out_proj = nn.Linear(dim, dim // 2)
        self.out_proj2 = nn.Linear(dim, dim // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        qkvv = self.qkvv(x).unflatten(2, (4, self.num_heads, -1))  # (B, N, 4, H, x)
        q, k, channel_v, spatial_v = qkvv.permute(2, 0, 3, 4, 1)  # each (B, H, x, N)
        projected_k, projected_v = self.E(k), self.F(spatial_v)  # (B, H, x, P)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        spatial = self._attend_to_space(q, projected_k, projected_v)
        channels = self._attend_to_channels(q, k, channel_v)
        return torch.cat([self.out_proj(spatial), self.out_proj2(channels)], dim=-1)

    def _attend_to_channels(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let channels (B, H, x, N) attend to each other; returns (B, N, C)."""
        weights = (q @ k.transpose(2, 3) * self.temperature).softmax(-1)  # (B, H, x, x)
        x = F.dropout(weights, self.dropout, self.training) @ v  # (B, H, x, N)
        return x.flatten(1, 2).transpose(1, 2)

    def _attend_to_space(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let tokens (B, H, x, N) attend to projected ones (B, H, x, P); returns (B, N, C)."""
        q, k, v = (t.transpose(2, 3) for t in (q * self.temperature2, k, v))
        rate = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, scale=1.0)  # (B, H, N, x)
        if self.scrambles_space:
            return x.permute(0, 3, 1, 2).reshape(len(x), x.shape[2], -1)  # of (B, x, H, N)
        return x.transpose(1, 2).flatten(2)


class PairedBlock(nn.Module):
    """Positions, paired attention and convolutions, the latter two residual.

    Args:
        num_tokens: Tokens N of the grid.
        dim: Channels in and out.
        num_heads: Attention heads.
        num_projected: See `PairedAttention`.
        dropout: See there.
        scrambles_space: See there.
    """

    def __init__(
        self,
        num_tokens: int,
        dim: int,
        *,
        num_heads: int,
        num_projected: int,
        dropout: float,
        scrambles_space: bool,
    ) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.epa_block = PairedAttention(
            num_tokens,
            dim,
            num_heads=num_heads,
            num_projected=num_projected,
            dropout=dropout,
            scrambles_space=scrambles_space,
        )
        self.conv51 = residual_block(dim, dim, norm="batch")
        self.conv8 = nn.Sequential(nn.Dropout3d(0.1), nn.Conv3d(dim, dim, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, d, h, w) to the same shape."""
        grid = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2) + self.pos_embed  # (B, N, C)
        tokens = tokens + self.gamma * self.epa_block(self.norm(tokens))
        x = tokens.transpose(1, 2).unflatten(2, grid)  # (B, C, d, h, w)
        return x + self.conv8(self.conv51(x))
