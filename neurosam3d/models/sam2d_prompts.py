"""SAM's prompt encoder: points, boxes and masks on slices (arXiv:2304.02643, appendix A).

Unlike everywhere else in the package, coordinates are (x, y), along tensor axes 3 and 2 of the
image, as in all code for SAM.

Shapes: B batch, P points, C channels of an embedding; S = side of an image in pixels, n = side of
the embedding grid, M = S / 4 side of masks.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import LayerNorm3d

MASK_STRIDE = 4  # S / M


class FourierEncoding2D(nn.Module):
    """Encode positions in the unit square by random Fourier features (arXiv:2006.10739).

    Args:
        dim: Channels C of the encoding.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, positions: Tensor) -> Tensor:
        """Map positions (..., 2) in [0, 1], ordered (x, y), to (..., C)."""
        matrix = self.positional_encoding_gaussian_matrix
        # Angles reach tens of radians: half precision would lose the fraction that matters.
        with torch.autocast(positions.device.type, enabled=False):
            angle = 2 * math.pi * ((2 * positions.to(matrix.dtype) - 1) @ matrix)
            return torch.cat([angle.sin(), angle.cos()], dim=-1)


class PromptEncoder2D(nn.Module):
    """Embed points, boxes and a previous mask.

    Args:
        embed_dim: Channels C of the embeddings.
        image_size: Image side S in pixels.
        grid_size: Side n of the image embedding.
    """

    def __init__(self, embed_dim: int, *, image_size: int, grid_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.grid_size = grid_size
        self.mask_side = image_size // MASK_STRIDE
        self.pe_layer = FourierEncoding2D(embed_dim)
        # Background, foreground, corner of low x and y, corner of high x and y.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            LayerNorm3d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm3d(16),
            nn.GELU(),
            nn.Conv2d(16, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    def get_dense_pe(self) -> Tensor:
        """Return the position encoding of the embedding grid (1, C, n, n)."""
        n, matrix = self.grid_size, self.pe_layer.positional_encoding_gaussian_matrix
        centre = (torch.arange(n, device=matrix.device, dtype=matrix.dtype) + 0.5) / n
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1)).movedim(-1, 0)[None]

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed any combination of prompts.

        Args:
            points: Coordinates (B, P, 2), pixel indices (x, y) in the image, and labels (B, P):
                1 foreground, 0 background, -1 not a point.
            boxes: Low and high corner (B, 4) as (x, y, x, y), pixel indices, both included.
            masks: Mask logits (B, 1, M, M).

        Returns:
            Sparse embeddings (B, tokens, C) and dense embeddings (B, C, n, n); without prompts of
            batch 1.

        Raises:
            ValueError: If a mask has another side than M.
        """
        first = next((t for t in (points and points[0], boxes, masks) if t is not None), None)
        batch = 1 if first is None else first.shape[0]
        tokens = []
        if points is not None:
            tokens.append(self._embed_points(*points, pad=boxes is None))
        if boxes is not None:
            corners = torch.cat(self._kind_weights()[2:])  # (2, C)
            tokens.append(self._encode(boxes.unflatten(-1, (2, 2))) + corners)  # (B, 2, C)
        weight = self.no_mask_embed.weight
        sparse = torch.cat(tokens, 1) if tokens else weight.new_empty(batch, 0, weight.shape[1])
        n, side = self.grid_size, self.mask_side
        if masks is None:
            return sparse, weight.view(1, -1, 1, 1).expand(batch, -1, n, n)
        if masks.shape[1:] != (1, side, side):
            raise ValueError(
                f"masks must be (B, 1, M, M) with M = {side}, got {tuple(masks.shape)}"
            )
        return sparse, self.mask_downscaling(masks)

    def _encode(self, coords: Tensor) -> Tensor:
        """Encode pixel indices (..., 2) at their centres."""
        return self.pe_layer((coords.float() + 0.5) / self.image_size)

    def _embed_points(self, coords: Tensor, labels: Tensor, *, pad: bool) -> Tensor:
        """Embed points (B, P, 2); ``pad`` appends a not-a-point, as SAM does without a box."""
        if pad:
            coords, labels = F.pad(coords, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
        # One table, looked up by label: every kind of point stays in the graph whatever the labels
        # are, which plain distributed training needs, and no label is ever read on the host.
        table = torch.cat([self.not_a_point_embed.weight, *self._kind_weights()[:2]])  # (3, C)
        is_point = (labels >= 0).unsqueeze(-1)
        return self._encode(coords) * is_point + table[labels.long() + 1]  # (B, P, C)

    def _kind_weights(self) -> list[Tensor]:
        """Return the (1, C) vectors of background, foreground and the corners of a box."""
        return [embedding.get_parameter("weight") for embedding in self.point_embeddings]
