"""Prompts (points, boxes, a previous mask) as embeddings for the 3-D mask decoder (SAM,
arXiv:2304.02643, appendix A; in 3-D SAM-Med3D, arXiv:2310.15161).

Shapes: B batch, P points, C channels of an embedding; n = side of the embedding grid, S = image
side, M = S / mask_stride.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import LayerNorm3d, to_nested

NUM_FREQUENCIES = 128  # sine, cosine, sine again: 3 * 128 = 384 channels


class RandomFourierEncoding(nn.Module):
    """Encode positions in the unit cube by random Fourier features (arXiv:2006.10739).

    The first sine is repeated to fill three times ``NUM_FREQUENCIES`` channels, as in the published
    weights.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, NUM_FREQUENCIES))

    def forward(self, positions: Tensor) -> Tensor:
        """Map positions (..., 3) in [0, 1], ordered (d, h, w), to (..., 384)."""
        matrix = self.positional_encoding_gaussian_matrix
        # Angles reach tens of radians: half precision would lose the fraction that matters.
        with torch.autocast(positions.device.type, enabled=False):
            angle = 2 * math.pi * ((2 * positions.to(matrix.dtype) - 1) @ matrix)
            sine, cosine = angle.sin(), angle.cos()
        return torch.cat([sine, cosine, sine], dim=-1)

    def grid(self, side: int, *, swapped: bool) -> Tensor:
        """Encode the cell centres of a cube of ``side`` cells: (1, 384, side, side, side).

        Args:
            side: Cells along each axis.
            swapped: Exchange the first two components, as in the published weights.
        """
        matrix = self.positional_encoding_gaussian_matrix
        centre = (torch.arange(side, device=matrix.device, dtype=matrix.dtype) + 0.5) / side
        d, h, w = torch.meshgrid(centre, centre, centre, indexing="ij")
        positions = torch.stack([h, d, w] if swapped else [d, h, w], dim=-1)
        return self(positions).movedim(-1, 0)[None]


class MaskDownscaling(nn.Sequential):
    """Bring a mask (B, 1, M, M, M) onto the embedding grid, as (B, C, n, n, n).

    Published as strided convolutions, whose names and shapes the parameters keep. Kernels equal
    strides, so each is a linear layer in the nested layout. NeuroSAM3D's variant ends in a
    convolution with kernel 1 and stride 2, which reads one voxel in eight; only those voxels are
    computed.

    Args:
        widths: Channels after each halving.
        out_dim: Channels of the embedding.
        skip: True for the variant with the final stride of 2.
    """

    def __init__(self, widths: tuple[int, ...], out_dim: int, *, skip: bool) -> None:
        layers: list[nn.Module] = []
        for in_width, width in zip((1, *widths), widths, strict=False):
            layers += [nn.Conv3d(in_width, width, 2, stride=2), LayerNorm3d(width), nn.GELU()]
        layers.append(nn.Conv3d(widths[-1], out_dim, kernel_size=1, stride=2 if skip else 1))
        super().__init__(*layers)
        self.skip = skip
        self.num_halvings = len(widths)

    def forward(self, masks: Tensor) -> Tensor:
        """Map mask logits (B, 1, M, M, M) to (B, C, n, n, n)."""
        levels = self.num_halvings + self.skip
        side = masks.shape[-1] // 2**levels
        x = to_nested(masks, levels)  # (B, n^3, 8, ..., 8)
        if self.skip:
            x = x[:, :, 0]  # the first of the eight coarsest splits
        x = x[..., None]  # (B, n^3, 8, ..., 8, 1)
        for layer in self:
            if isinstance(layer, nn.Conv3d):
                if layer.kernel_size[0] == 2:
                    x = x.flatten(-2)  # (..., 8 * in), splits outer
                x = F.linear(x, layer.weight.movedim(1, -1).flatten(1), layer.bias)
            elif isinstance(layer, LayerNorm3d):
                x = layer.channels_last(x)
            else:
                x = layer(x)  # finally (B, n^3, C)
        return x.transpose(1, 2).unflatten(2, (side, side, side))


class PromptEncoder3D(nn.Module):
    """Embed points, boxes and a previous mask.

    Args:
        embed_dim: Channels C of the embeddings; 3 x 128 is the only width the position encoding
            yields.
        image_size: Image side S in voxels.
        grid_size: Side n of the image embedding.
        mask_stride: 4 for SAM-Med3D's masks of side S/4, 1 for NeuroSAM3D's of side S.
        box_prompts: Whether embeddings for the two corners of a box exist.
        published_quirks: Keep the published weights' exchange of the first two axes in the dense
            position encoding.

    Raises:
        ValueError: If ``mask_stride`` is neither 4 nor 1.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        image_size: int,
        grid_size: int,
        mask_stride: int,
        box_prompts: bool,
        published_quirks: bool,
    ) -> None:
        super().__init__()
        if mask_stride not in (1, 4):
            raise ValueError(f"mask_stride must be 4 or 1, got {mask_stride}")
        self.image_size = image_size
        self.grid_size = grid_size
        self.mask_side = image_size // mask_stride
        self.published_quirks = published_quirks
        self.pe_layer = RandomFourierEncoding()
        num_kinds = 4 if box_prompts else 2  # background, foreground, low corner, high corner
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(num_kinds))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        widths = (4, 16) if mask_stride == 4 else (4, 8, 16)
        self.mask_downscaling = MaskDownscaling(widths, embed_dim, skip=mask_stride == 1)
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    def get_dense_pe(self) -> Tensor:
        """Return the position encoding of the embedding grid (1, C, n, n, n)."""
        return self.pe_layer.grid(self.grid_size, swapped=self.published_quirks)

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed any combination of prompts.

        Args:
            points: Coordinates (B, P, 3), voxel indices (d, h, w) in the image, and labels (B, P):
                1 foreground, 0 background, -1 not a point.
            boxes: Low and high corner (B, 2, 3), voxel indices, both included.
            masks: Mask logits (B, 1, M, M, M).

        Returns:
            Sparse embeddings (B, tokens, C) and dense embeddings (B, C, n, n, n).

        Raises:
            ValueError: If a box is given to a network without box embeddings, or a mask has another
            side than M.
        """
        first = next((t for t in (points and points[0], boxes, masks) if t is not None), None)
        batch = 1 if first is None else first.shape[0]
        tokens = []
        if points is not None:
            tokens.append(self._embed_points(*points, pad=boxes is None))
        if boxes is not None:
            tokens.append(self._embed_boxes(boxes))
        weight = self.no_mask_embed.weight
        sparse = torch.cat(tokens, 1) if tokens else weight.new_empty(batch, 0, weight.shape[1])
        n = self.grid_size
        if masks is None:
            return sparse, weight.view(1, -1, 1, 1, 1).expand(batch, -1, n, n, n)
        if masks.shape[1:] != (1, *(self.mask_side,) * 3):
            raise ValueError(
                f"masks must be (B, 1, M, M, M) with M = {self.mask_side}, got {tuple(masks.shape)}"
            )
        return sparse, self.mask_downscaling(masks)

    def _encode(self, coords: Tensor) -> Tensor:
        """Encode voxel indices (..., 3) at their centres."""
        return self.pe_layer((coords.float() + 0.5) / self.image_size)

    def _embed_points(self, coords: Tensor, labels: Tensor, *, pad: bool) -> Tensor:
        """Embed points (B, P, 3); ``pad`` appends a not-a-point, as SAM does without a box."""
        if pad:
            coords, labels = F.pad(coords, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
        # One table, looked up by label: every kind of point stays in the graph whatever the labels
        # are, which plain distributed training needs, and no label is ever read on the host.
        table = torch.cat([self.not_a_point_embed.weight, *self._kind_weights()[:2]])  # (3, C)
        is_point = (labels >= 0).unsqueeze(-1)
        return self._encode(coords) * is_point + table[labels.long() + 1]  # (B, P, C)

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        """Embed the corners (B, 2, 3) as two tokens."""
        weights = self._kind_weights()
        if len(weights) < 4:
            raise ValueError(
                "box prompts need a network built with box_prompts=True, got box_prompts=False"
            )
        return self._encode(boxes) + torch.cat(weights[2:])  # (B, 2, C)

    def _kind_weights(self) -> list[Tensor]:
        """Return the (1, C) vectors of background, foreground and, if there, the box corners."""
        return [embedding.get_parameter("weight") for embedding in self.point_embeddings]
