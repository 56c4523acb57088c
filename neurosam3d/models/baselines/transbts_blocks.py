"""Blocks of TransBTS (arXiv:2103.04430), under the names that published checkpoints have.

Shapes: B batch, C channels, N tokens; D H W (d h w) = voxels along tensor axes 2 3 4.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv3d:
    """Return a 3 x 3 x 3 convolution that keeps the sides, or halves them at stride 2."""
    return nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens.

    Args:
        dim: Channels in and out.
        num_heads: Attention heads.
        dropout: Rate on attention and output, in training.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (B, N, 3, heads, C/heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, C/heads)
        rate = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, N, C)
        return F.dropout(x, self.dropout, self.training)


class TokenMLP(nn.Module):
    """Two linear layers with GELU between them.

    Args:
        dim: Channels in and out.
        hidden_dim: Channels between the layers.
        dropout: Rate after each layer, in training.
    """

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.net(x)


class PreNorm(nn.Module):
    """Normalise, then transform.

    Args:
        dim: Channels.
        fn: What to do with the normalised tokens.
    """

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        return self.fn(self.norm(x))


class Residual(nn.Module):
    """Add what a branch makes of its input.

    Args:
        fn: The branch.
    """

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to one of the same shape."""
        return x + self.fn(x)


class LearnedPositions(nn.Module):
    """A learned vector for each token.

    Args:
        num_tokens: Tokens of the crop.
        dim: Channels of a token.
    """

    def __init__(self, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Parameter(torch.zeros(1, num_tokens, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Add the positions to tokens (B, N, C)."""
        return x + self.position_embeddings


class Stem(nn.Module):
    """The first convolution; in training it leaves out whole channels.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels out.
        dropout: Rate.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.conv = conv3(in_channels, out_channels)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, D, H, W) to (B, out, D, H, W)."""
        return F.dropout3d(self.conv(x), self.dropout, self.training)


class EncoderBlock(nn.Module):
    """Group norm, ReLU and convolution, twice, added to the input.

    Args:
        dim: Channels in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bn1 = nn.GroupNorm(8, dim)
        self.conv1 = conv3(dim, dim)
        self.bn2 = nn.GroupNorm(8, dim)
        self.conv2 = conv3(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to the same shape."""
        y = self.conv1(F.relu(self.bn1(x)))
        return x + self.conv2(F.relu(self.bn2(y)))


class Halve(nn.Module):
    """A convolution of stride 2.

    Args:
        dim: Channels in; twice as many come out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = conv3(dim, 2 * dim, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to (B, 2C, D/2, H/2, W/2)."""
        return self.conv(x)


class DecoderBlock(nn.Module):
    """Convolution, batch norm and ReLU, twice; added to the input if the channels allow.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = conv3(in_channels, out_channels)
        self.bn1 = nn.BatchNorm3d(out_channels)
        self.conv2 = conv3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm3d(out_channels)
        self.is_residual = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, D, H, W) to (B, out, D, H, W)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return x + y if self.is_residual else y


class UpAndJoin(nn.Module):
    """Double the resolution and join a skip connection.

    Args:
        dim: Channels in; half as many come out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.conv1 = nn.Conv3d(dim, half, kernel_size=1)
        self.conv2 = nn.ConvTranspose3d(half, half, kernel_size=2, stride=2)
        self.conv3 = nn.Conv3d(dim, half, kernel_size=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, C, d, h, w) and a skip (B, C/2, 2d, 2h, 2w) to the skip's shape."""
        up = self.conv2(self.conv1(x))  # (B, C/2, 2d, 2h, 2w)
        return self.conv3(torch.cat([skip, up], dim=1))
