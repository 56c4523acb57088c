"""SAM's mask decoder (arXiv:2304.02643, appendix A), on slices.

Shapes: B batch, T tokens, C channels of an embedding, K masks; n = side of the embedding grid, M =
4n side of the masks.
"""

import torch
from torch import Tensor, nn

from neurosam3d.models.layers import LayerNorm3d
from neurosam3d.models.mask_decoder3d import Hypernetwork
from neurosam3d.models.two_way_transformer import TwoWayTransformer, repeat_to_batch

NUM_PROMPT_MASKS = 4  # one for a single mask, three for an ambiguous prompt


class MaskDecoder2D(nn.Module):
    """Predict masks and their quality from an image embedding and prompt embeddings.

    Args:
        dim: Channels C of the embeddings.
        num_masks: Masks that it can give.
        all_masks: Always give all of them, as SAMed does, whose masks are classes; otherwise the
            first is the single mask and the others are for an ambiguous prompt.
    """

    def __init__(
        self, dim: int, *, num_masks: int = NUM_PROMPT_MASKS, all_masks: bool = False
    ) -> None:
        super().__init__()
        self.num_masks = num_masks
        self.all_masks = all_masks
        self.transformer = TwoWayTransformer(dim, depth=2, num_heads=8, mlp_dim=2048)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(num_masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm3d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Hypernetwork(dim, dim, dim // 8) for _ in range(num_masks)
        )
        self.iou_prediction_head = Hypernetwork(dim, 256, num_masks)

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
            image_embeddings: (b, C, n, n).
            image_pe: Position encoding of the grid (1, C, n, n).
            sparse_prompt_embeddings: (b', T, C).
            dense_prompt_embeddings: (b', C, n, n). Of images and prompts, the smaller batch is
                repeated to the larger B.
            multimask_output: Three masks for an ambiguous prompt instead of one; without effect
                where all are given.

        Returns:
            Logits (B, K, M, M) and IoU estimates (B, K). Only the masks asked for are computed.
        """
        batch = max(len(image_embeddings), len(sparse_prompt_embeddings))
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        sparse = repeat_to_batch(sparse_prompt_embeddings, batch)
        tokens = torch.cat([output_tokens.expand(batch, -1, -1), sparse], dim=1)
        image = repeat_to_batch(image_embeddings, batch)
        image = image + repeat_to_batch(dense_prompt_embeddings, batch)
        grid = image.shape[2:]
        tokens, image = self.transformer(
            image.flatten(2).transpose(1, 2), image_pe.flatten(2).transpose(1, 2), tokens
        )  # (B, 1 + num_masks + T, C), (B, n^2, C)
        wanted = self._wanted(multimask_output)
        kernels = torch.stack(
            [self.output_hypernetworks_mlps[index](tokens[:, 1 + index]) for index in wanted], dim=1
        )  # (B, K, C/8)
        pixels = self.output_upscaling(image.transpose(1, 2).unflatten(2, grid))  # (B, C/8, M, M)
        logits = (kernels @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])  # (B, K, M, M)
        iou = self.iou_prediction_head(tokens[:, 0])[:, wanted.start : wanted.stop]
        return logits, iou

    def _wanted(self, multimask_output: bool) -> range:
        """Return the indices of the masks to give."""
        if self.all_masks:
            return range(self.num_masks)
        return range(1, self.num_masks) if multimask_output else range(1)
