"""The visual sampler of 3DSAM-adapter (arXiv:2306.13465): clicks are the features found where they
are, and change the features of the whole crop through a few global queries.

Clicks have no label: what a click is on must be plain from the features there.

Shapes: B batch, N clicks, C channels, Q global queries, I = h*w*d tokens of the grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import MLP
from neurosam3d.models.two_way_transformer import ProjectedAttention

NUM_QUERIES = 10


class VisualSamplerLayer(nn.Module):
    """Queries attend to the clicks and to themselves, then the image to the queries.

    Args:
        dim: Channels C.
        num_heads: Attention heads.
        mlp_dim: Hidden channels of the MLP of the queries.
    """

    def __init__(self, dim: int, *, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.global_query = nn.Parameter(0.1 * torch.randn(1, NUM_QUERIES, dim))
        self.self_attn = ProjectedAttention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = ProjectedAttention(dim, num_heads, downsample_rate=2)
        # Published weights have this layer, which is neither computed nor trained.
        self.cross_attn_token_to_image = ProjectedAttention(dim, num_heads, downsample_rate=2)
        self.cross_attn_token_to_image.requires_grad_(False)

    def forward(self, points: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Update clicks (B, N, C) and image (B, I, C)."""
        queries = self.global_query.expand(len(points), -1, -1)
        tokens = torch.cat([queries, points], dim=1)  # (B, Q + N, C)
        tokens = self.norm2(tokens + self.norm1(self.self_attn(tokens, tokens, tokens)))
        queries, points = tokens.tensor_split([NUM_QUERIES], dim=1)
        queries = self.norm3(queries + self.mlp(queries))
        image = self.norm4(image + self.cross_attn_image_to_token(image, queries, queries))
        return points, image


class VisualSampler(nn.Module):
    """Layers in turn, each with queries of its own.

    Args:
        dim: Channels C.
        depth: Number of layers.
        num_heads: Attention heads.
        mlp_dim: Hidden channels of the MLPs.
    """

    def __init__(self, dim: int, *, depth: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            VisualSamplerLayer(dim, num_heads=num_heads, mlp_dim=mlp_dim) for _ in range(depth)
        )

    def forward(self, points: Tensor, image: Tensor) -> Tensor:
        """Update the image (B, I, C) by clicks (B, N, C)."""
        for layer in self.layers:
            points, image = layer(points, image)
        return image


class VisualPromptEncoder(nn.Module):
    """Bring clicks into the deepest features of a crop.

    Args:
        dim: Channels C of the features.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        # Published weights have a random position encoding, which is not computed.
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, dim // 2))
        self.transformer = VisualSampler(dim, depth=2, num_heads=8, mlp_dim=8 * dim)

    def forward(self, features: Tensor, points: Tensor, *, crop: tuple[int, int, int]) -> Tensor:
        """Map features to features of the same shape that know of the clicks.

        Args:
            features: (B, C, h, w, d).
            points: Voxel indices (B, N, 3) in the crop, ordered as its axes H, W, D. Outside the
                crop, features fade to zero within half a token.
            crop: Sides of the crop in voxels along H, W, D.
        """
        sampled = sample_features(features, points, crop=crop)  # (B, N, C)
        image = features.flatten(2).transpose(1, 2)  # (B, I, C)
        image = self.transformer(sampled, image)
        return image.transpose(1, 2).unflatten(2, features.shape[2:])


def sample_features(features: Tensor, points: Tensor, *, crop: tuple[int, int, int]) -> Tensor:
    """Interpolate features (B, C, h, w, d) at voxels (B, N, 3) of the crop; returns (B, N, C)."""
    sides = torch.tensor(crop, device=points.device)
    positions = (points.float() + 0.5) * 2 / sides - 1  # -1 and 1 at the crop's faces
    grid = positions.flip(-1)[:, None, None]  # (B, 1, 1, N, 3), the last axis first
    # Half precision would be too coarse for positions.
    sampled = F.grid_sample(features.float(), grid, mode="bilinear", align_corners=False)
    return sampled[:, :, 0, 0].transpose(1, 2).to(features.dtype)
