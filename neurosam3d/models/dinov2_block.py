"""The transformer block of DINOv2 (arXiv:2304.07193), under the names of its weights.

Shapes: B batch, C channels, N heads, x head channels, M hidden channels; L tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.dinov2_config import DinoV2Config
from neurosam3d.models.layers import DropPath


class Attention(nn.Module):
    """Multi-head self-attention over all tokens.

    Args:
        config: Width, heads and biases.
    """

    def __init__(self, config: DinoV2Config) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.dim, config.dim, bias=config.proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, L, C) to the same shape."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (B, L, 3, N, x)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, N, L, x)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers with GELU between them, under DINOv2's names.

    Args:
        dim: Channels in and out.
        bias: Whether the layers have one.
    """

    def __init__(self, dim: int, *, bias: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim, bias=bias)
        self.fc2 = nn.Linear(4 * dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    """A gated feed-forward unit (arXiv:2002.05202) with about as many weights as two layers.

    Args:
        dim: Channels in and out.
        bias: Whether the layers have one.
    """

    def __init__(self, dim: int, *, bias: bool) -> None:
        super().__init__()
        hidden = -(-int(4 * dim * 2 / 3) // 8) * 8  # up to a multiple of 8
        self.w12 = nn.Linear(dim, 2 * hidden, bias=bias)
        self.w3 = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, C) to the same shape."""
        gate, value = self.w12(x).chunk(2, dim=-1)  # each (B, L, M)
        return self.w3(F.silu(gate) * value)


class LayerScale(nn.Module):
    """Scale each channel of a residual branch by a learned factor.

    Args:
        dim: Channels.
        initial: The factor to start from.
    """

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(initial * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (B, L, C)."""
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm transformer block with scaled residual branches.

    Args:
        config: Width, heads, kind of feed-forward part.
        drop_path: Probability of leaving a branch out while training.
    """

    def __init__(self, config: DinoV2Config, *, drop_path: float) -> None:
        super().__init__()
        feed_forward = SwiGLU if config.ffn == "swiglu" else FeedForward
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = Attention(config)
        self.ls1 = self._scale(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = feed_forward(config.dim, bias=config.ffn_bias)
        self.ls2 = self._scale(config)
        self.drop_path = DropPath(drop_path)

    @staticmethod
    def _scale(config: DinoV2Config) -> nn.Module:
        return LayerScale(config.dim, config.layer_scale) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, L, C) to the same shape."""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
