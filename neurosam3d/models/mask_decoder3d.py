"""From image and prompt embeddings to mask logits: SAM's decoder in 3-D (arXiv:2304.02643, appendix
A; arXiv:2310.15161).

Shapes: B batch, T tokens, C channels of an embedding, K masks; n = side of the embedding grid, M =
side of the masks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from neurosam3d.models.layers import LayerNorm3d, from_nested
from neurosam3d.models.two_way_transformer import TwoWayTransformer, repeat_to_batch

NUM_MASK_TOKENS = 4  # one for a single mask, three for an ambiguous prompt


class MaskUpscaling(nn.Sequential):
    """Transposed convolutions from the embedding grid to the grid of the masks, in the nested
    layout.

    Published as ConvTranspose3d layers of kernel = stride = 2, whose names and shapes the
    parameters keep.

    Args:
        in_dim: Channels of the embedding.
        widths: Channels after each doubling.
        norms: Whether a LayerNorm follows, per doubling.
    """

    def __init__(self, in_dim: int, widths: tuple[int, ...], norms: tuple[bool, ...]) -> None:
        layers: list[nn.Module] = []
        for in_width, width, norm in zip((in_dim, *widths), widths, norms, strict=False):
            layers.append(nn.ConvTranspose3d(in_width, width, 2, stride=2))
            layers += [LayerNorm3d(width), nn.GELU()] if norm else [nn.GELU()]
        super().__init__(*layers)
        self.num_doublings = len(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, n^3, C) to nested voxels (B, n^3, 8, ..., 8, width)."""
        for layer in self:
            if isinstance(layer, nn.ConvTranspose3d):
                weight = layer.weight.movedim(1, -1).flatten(1).T  # (8 * out, in)
                bias = None if layer.bias is None else layer.bias.repeat(8)
                x = F.linear(x, weight, bias).unflatten(-1, (8, -1))
            elif isinstance(layer, LayerNorm3d):
                x = layer.channels_last(x)
            else:
                x = layer(x)
        return x


class Hypernetwork(nn.Module):
    """Three linear layers with ReLU between them.

    Args:
        in_dim: Channels in.
        hidden_dim: Channels between.
        out_dim: Channels out.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Linear(in_dim, hidden_dim),
                nn.Linear(hidden_dim, hidden_dim),
                nn.Linear(hidden_dim, out_dim),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., out_dim)."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


class MaskDecoder3D(nn.Module):
    """Predict masks and their quality from an image embedding and prompt embeddings.

    Args:
        dim: Channels of the embeddings.
        mask_stride: 4: logits of side S/4 (SAM-Med3D); 1: logits of side S (NeuroSAM3D).
        checkpoint_upscaling: Recompute the upscaling in the backward pass instead of keeping it; it
            is most of the memory of training at ``mask_stride`` 1.

    Raises:
        ValueError: If ``mask_stride`` is neither 4 nor 1.
    """

    def __init__(self, dim: int, *, mask_stride: int, checkpoint_upscaling: bool = False) -> None:
        super().__init__()
        if mask_stride not in (1, 4):
            raise ValueError(f"mask_stride must be 4 or 1, got {mask_stride}")
        self.checkpoint_upscaling = checkpoint_upscaling
        # The two families of weights were trained with different dropout in these attentions.
        self.transformer = TwoWayTransformer(
            dim, depth=2, num_heads=8, mlp_dim=2048, dropout=0.1 if mask_stride == 1 else 0.0
        )
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, dim)
        width = dim // 8
        if mask_stride == 4:  # the second doubling has no norm in the published weights
            self.output_upscaling = MaskUpscaling(dim, (dim // 4, width), (True, False))
        else:
            self.output_upscaling = MaskUpscaling(dim, (dim // 4, width, width, width), (True,) * 4)
        self.output_hypernetworks_mlps = nn.ModuleList(
            Hypernetwork(dim, dim, width) for _ in range(NUM_MASK_TOKENS)
        )
        self.iou_prediction_head = Hypernetwork(dim, 256, NUM_MASK_TOKENS)

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Predict mask logits and their estimated IoU.

        Args:
            image_embeddings: (b, C, n, n, n); repeated if b is smaller than the batch of the
                prompts.
            image_pe: Position encoding of the grid (1, C, n, n, n).
            sparse_prompt_embeddings: (B, T, C).
            dense_prompt_embeddings: (B, C, n, n, n).
            multimask_output: Three masks for an ambiguous prompt instead of one.

        Returns:
            Logits (B, K, M, M, M) and IoU estimates (B, K), K = 3 or 1. Only the masks asked for
            are computed.
        """
        batch = sparse_prompt_embeddings.shape[0]
        grid = (image_embeddings.shape[2], image_embeddings.shape[3], image_embeddings.shape[4])
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        output_tokens = output_tokens.expand(batch, -1, -1)
        tokens = torch.cat([output_tokens, sparse_prompt_embeddings], dim=1)  # (B, 5 + T, C)
        image = repeat_to_batch(image_embeddings, batch) + dense_prompt_embeddings
        tokens, image = self.transformer(
            image.flatten(2).transpose(1, 2), image_pe.flatten(2).transpose(1, 2), tokens
        )  # (B, 5 + T, C), (B, n^3, C)
        wanted = slice(1, NUM_MASK_TOKENS) if multimask_output else slice(0, 1)
        mask_tokens = tokens[:, 1 : 1 + NUM_MASK_TOKENS][:, wanted]  # (B, K, C)
        networks = self.output_hypernetworks_mlps[wanted]
        kernels = torch.stack(
            [
                network(token)
                for network, token in zip(networks, mask_tokens.unbind(1), strict=True)
            ],
            dim=1,
        )  # (B, K, width)
        if self.checkpoint_upscaling and torch.is_grad_enabled():
            logits = checkpoint(self._masks, image, kernels, use_reentrant=False)
        else:
            logits = self._masks(image, kernels)  # (B, K, n^3, 8, ..., 8)
        masks = from_nested(logits, grid, self.output_upscaling.num_doublings)
        return masks, self.iou_prediction_head(tokens[:, 0])[:, wanted]

    def _masks(self, image: Tensor, kernels: Tensor) -> Tensor:
        """Multiply upscaled voxels with the mask kernels: (B, K, n^3, 8, ..., 8)."""
        voxels = self.output_upscaling(image)  # (B, n^3, 8, ..., 8, width)
        splits = voxels.shape[1:-1]
        logits = voxels.flatten(1, -2) @ kernels.transpose(1, 2)  # (B, M^3, K)
        return logits.transpose(1, 2).unflatten(2, splits)
