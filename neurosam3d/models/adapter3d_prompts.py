"""The visual sampler of 3DSAM-adapter (arXiv:2306.13465): clicks are the features found where they
are, and change the features of the whole crop through a few global queries.

As published clicks have no label: what a click is on must be plain from the features there. With
labelled clicks, which are an addition of ours, a learnt vector tells what was meant.

Labels: 1 on the object, 0 beside it, -1 not a point, which only fills a batch.

Shapes: B batch, N clicks, C channels, Q global queries, I = h*w*d tokens of the grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import MLP
from neurosam3d.models.two_way_transformer import ProjectedAttention

NUM_QUERIES = 10
NOT_A_POINT = -1


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

    def forward(
        self, points: Tensor, image: Tensor, is_point: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Update clicks (B, N, C), of which not all need be points (B, N), and image (B, I, C)."""
        queries = self.global_query.expand(len(points), -1, -1)
        tokens = torch.cat([queries, points], dim=1)  # (B, Q + N, C)
        seen = None if is_point is None else F.pad(is_point, (NUM_QUERIES, 0), value=True)
        attended = self.self_attn(tokens, tokens, tokens, seen=seen)
        tokens = self.norm2(tokens + self.norm1(attended))
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

    def forward(self, points: Tensor, image: Tensor, is_point: Tensor | None = None) -> Tensor:
        """Update the image (B, I, C) by clicks (B, N, C), of which some may be no points (B, N)."""
        for layer in self.layers:
            points, image = layer(points, image, is_point)
        return image


class VisualPromptEncoder(nn.Module):
    """Bring clicks into the deepest features of a crop.

    Args:
        dim: Channels C of the features.
        labelled_clicks: Add a learnt vector to the features of a click, one for each label. They
            start at zero, so that published weights mean what they meant.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int, *, labelled_clicks: bool = False) -> None:
        super().__init__()
        self.label_embedding = nn.Parameter(torch.zeros(2, dim)) if labelled_clicks else None
        # Published weights have a random position encoding, which is not computed.
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, dim // 2))
        self.transformer = VisualSampler(dim, depth=2, num_heads=8, mlp_dim=8 * dim)

    def forward(
        self,
        features: Tensor,
        points: Tensor,
        labels: Tensor | None = None,
        *,
        crop: tuple[int, int, int],
    ) -> Tensor:
        """Map features to features of the same shape that know of the clicks.

        Args:
            features: (B, C, h, w, d).
            points: Voxel indices (B, N, 3) in the crop, ordered as its axes H, W, D. Outside the
                crop, features fade to zero within half a token.
            labels: Labels of the clicks (B, N); None for 1 everywhere.
            crop: Sides of the crop in voxels along H, W, D.

        Raises:
            ValueError: If a label is unknown, or 0 without labelled clicks.
        """
        sampled = sample_features(features, points, crop=crop)  # (B, N, C)
        is_point = None if labels is None else self._find_points(labels)
        if self.label_embedding is not None:
            if labels is None:
                sampled = sampled + self.label_embedding[1]
            else:
                sampled = sampled + self.label_embedding[labels.clamp(min=0)]
        image = features.flatten(2).transpose(1, 2)  # (B, I, C)
        image = self.transformer(sampled, image, is_point)
        return image.transpose(1, 2).unflatten(2, features.shape[2:])

    def _find_points(self, labels: Tensor) -> Tensor | None:
        """Tell which clicks are points (B, N); None if all are."""
        found = set(labels.unique().tolist())
        allowed = {NOT_A_POINT, 1} if self.label_embedding is None else {NOT_A_POINT, 0, 1}
        if not found <= allowed:
            raise ValueError(
                f"labels of clicks must be among {sorted(allowed)} "
                f"{'without' if self.label_embedding is None else 'with'} labelled_clicks, "
                f"got {sorted(found)}"
            )
        return labels != NOT_A_POINT if NOT_A_POINT in found else None


def sample_features(features: Tensor, points: Tensor, *, crop: tuple[int, int, int]) -> Tensor:
    """Interpolate features (B, C, h, w, d) at voxels (B, N, 3) of the crop; returns (B, N, C)."""
    sides = torch.tensor(crop, device=points.device)
    positions = (points.float() + 0.5) * 2 / sides - 1  # -1 and 1 at the crop's faces
    grid = positions.flip(-1)[:, None, None]  # (B, 1, 1, N, 3), the last axis first
    # Half precision would be too coarse for positions.
    sampled = F.grid_sample(features.float(), grid, mode="bilinear", align_corners=False)
    return sampled[:, :, 0, 0].transpose(1, 2).to(features.dtype)
