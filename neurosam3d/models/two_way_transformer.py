"""The two-way transformer of SAM's mask decoder (arXiv:2304.02643, appendix A), on flattened grids
of any dimension.

Shapes: B batch, T tokens, I image positions, C channels, N heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import MLP


class ProjectedAttention(nn.Module):
    """Multi-head attention with separate projections and an optional narrower inner width.

    Args:
        dim: Channels in and out.
        num_heads: Attention heads.
        downsample_rate: ``dim`` divided by the inner width.
        dropout: Dropout on the attention probabilities while training.
    """

    def __init__(
        self, dim: int, num_heads: int, *, downsample_rate: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        inner = dim // downsample_rate
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, seen: Tensor | None = None) -> Tensor:
        """Let queries (B, Q, C) attend to keys and values (B, K, C), or only to those that are to
        be seen (B, K); returns (B, Q, C).
        """
        q, k, v = self.q_proj(q), self.k_proj(k), self.v_proj(v)
        q, k, v = (t.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        mask = None if seen is None else seen[:, None, None]  # (B, 1, 1, K)
        # (B, N, Q, inner/N)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image; then the image attends to the tokens.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        mlp_dim: Hidden channels of the token MLP.
        dropout: Dropout on attention probabilities.
        first: The first block has neither a position encoding nor a residual in its self attention.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_dim: int, *, dropout: float, first: bool
    ) -> None:
        super().__init__()
        self.first = first
        self.self_attn = ProjectedAttention(dim, num_heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = ProjectedAttention(
            dim, num_heads, downsample_rate=2, dropout=dropout
        )
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = ProjectedAttention(
            dim, num_heads, downsample_rate=2, dropout=dropout
        )

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update tokens (B, T, C) and image (B, I, C)."""
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            query = tokens + token_pe
            tokens = tokens + self.self_attn(query, query, tokens)
        tokens = self.norm1(tokens)
        keys = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, keys, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        update = self.cross_attn_image_to_token(keys, tokens + token_pe, tokens)
        return tokens, self.norm4(image + update)


class TwoWayTransformer(nn.Module):
    """Two-way blocks and a last attention of the tokens to the image.

    Args:
        dim: Channels.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_dim: Hidden channels of the token MLPs.
        dropout: Dropout on attention probabilities.
    """

    def __init__(
        self, dim: int, *, depth: int, num_heads: int, mlp_dim: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, num_heads, mlp_dim, dropout=dropout, first=index == 0)
            for index in range(depth)
        )
        self.final_attn_token_to_image = ProjectedAttention(
            dim, num_heads, downsample_rate=2, dropout=dropout
        )
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Attend both ways.

        Args:
            image: Image positions (B, I, C).
            image_pe: Their position encoding, broadcastable to (B, I, C).
            tokens: Prompt and output tokens (B, T, C), which also serve as their own position
                encoding.

        Returns:
            Updated tokens (B, T, C) and image positions (B, I, C).
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        update = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + update), image


def repeat_to_batch(x: Tensor, batch: int) -> Tensor:
    """Repeat each item of (b, ...) so that the batch is ``batch``, a multiple of b."""
    return x if x.shape[0] == batch else torch.repeat_interleave(x, batch // x.shape[0], dim=0)
