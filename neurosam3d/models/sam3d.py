"""Promptable 3-D segmentation networks: SAM-Med3D (arXiv:2310.15161) and NeuroSAM3D's variant of
it.

Both families share encoder and transformer and differ in the side of the masks that the prompt
encoder reads and the
decoder writes: S/4 in SAM-Med3D (``mask_stride=4``), S in NeuroSAM3D (``mask_stride=1``).
"""

from torch import Tensor, nn

from neurosam3d.models.freezing import freeze
from neurosam3d.models.layers import upsample_trilinear
from neurosam3d.models.mask_decoder3d import MaskDecoder3D
from neurosam3d.models.prompt_encoder3d import PromptEncoder3D
from neurosam3d.models.vit3d import VIT3D_CONFIGS, ViT3D


class Sam3D(nn.Module):
    """The three parts of SAM in 3-D; any code written for SAM's seam can call them one by one.

    Args:
        image_encoder: Maps (B, 1, S, S, S) to (B, C, n, n, n).
        prompt_encoder: Maps prompts to sparse and dense embeddings.
        mask_decoder: Maps embeddings to mask logits and IoU estimates.
        image_size: Image side S in voxels.
        mask_stride: S divided by the side of the decoder's logits.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder3D,
        mask_decoder: MaskDecoder3D,
        *,
        image_size: int,
        mask_stride: int,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.image_size = image_size
        self.mask_stride = mask_stride

    @property
    def mask_size(self) -> int:
        """Side M of the mask prompt and of the low-resolution logits."""
        return self.image_size // self.mask_stride

    def decode(
        self,
        image_embeddings: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask_output: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Predict masks for an image that was encoded before.

        Args:
            image_embeddings: (B, C, n, n, n).
            points: Coordinates (B, P, 3) and labels (B, P); see `PromptEncoder3D`.
            boxes: (B, 2, 3).
            masks: Previous low-resolution logits (B, 1, M, M, M).
            multimask_output: Three masks instead of one.

        Returns:
            Low-resolution logits (B, K, M, M, M) and IoU estimates (B, K).
        """
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=masks)
        return self.mask_decoder(
            image_embeddings=image_embeddings,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
        )

    def upsample(self, low_res_logits: Tensor) -> Tensor:
        """Bring logits (B, K, M, M, M) to the image's side: (B, K, S, S, S)."""
        return upsample_trilinear(low_res_logits, (self.image_size,) * 3)

    def forward(
        self,
        image: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """Segment images (B, 1, S, S, S) in one call; returns logits (B, 1, S, S, S)."""
        embeddings = self.image_encoder(image)
        return self.upsample(self.decode(embeddings, points=points, boxes=boxes, masks=masks)[0])

    def freeze_unreachable(
        self, *, boxes: bool, mask_always_given: bool, multimask: bool, iou: bool
    ) -> list[str]:
        """Stop gradients of parameters that a way of training never reaches.

        Distributed training without a search for unused parameters needs every trainable one in
        every step.

        Args:
            boxes: Boxes are among the prompts.
            mask_always_given: Every decoder call gets a mask prompt, a mask of zeros at first.
            multimask: Three masks are decoded instead of one.
            iou: The IoU estimate is trained.

        Returns:
            The names of the frozen parameters.
        """
        unread: tuple[str, ...] = getattr(self.image_encoder, "unread", ())
        unreachable = [f"image_encoder.{name}" for name in unread]
        if not boxes:
            unreachable += [
                "prompt_encoder.point_embeddings.2.",
                "prompt_encoder.point_embeddings.3.",
            ]
        if mask_always_given:
            unreachable.append("prompt_encoder.no_mask_embed.")
        if not iou:
            unreachable.append("mask_decoder.iou_prediction_head.")
        networks = (0,) if multimask else (1, 2, 3)
        unreachable += [f"mask_decoder.output_hypernetworks_mlps.{index}." for index in networks]
        return freeze(self, unreachable)


def assemble_sam3d(
    image_encoder: nn.Module,
    *,
    embed_dim: int,
    image_size: int,
    grid_size: int,
    mask_stride: int,
    box_prompts: bool | None,
    published_quirks: bool,
    checkpoint_upscaling: bool,
) -> Sam3D:
    """Put a prompt encoder and a mask decoder behind any image encoder.

    Args:
        image_encoder: Maps (B, 1, S, S, S) to (B, C, n, n, n). Parameters that it has only because
            published weights have them start with one of the names in its ``unread``, if any.
        embed_dim: Channels C of the embedding.
        image_size: Image side S in voxels.
        grid_size: Side n of the embedding.
        mask_stride: See `build_vit_sam3d`, as for what follows.
        box_prompts: Whether the network has box embeddings; None as the published family has it.
        published_quirks: Exchange the first two axes of the dense position encoding.
        checkpoint_upscaling: Recompute the decoder's upscaling in the backward pass.

    Raises:
        ValueError: If ``mask_stride`` is not allowed.
    """
    prompt_encoder = PromptEncoder3D(
        embed_dim,
        image_size=image_size,
        grid_size=grid_size,
        mask_stride=mask_stride,
        box_prompts=mask_stride == 1 if box_prompts is None else box_prompts,
        published_quirks=published_quirks,
    )
    mask_decoder = MaskDecoder3D(
        embed_dim, mask_stride=mask_stride, checkpoint_upscaling=checkpoint_upscaling
    )
    return Sam3D(
        image_encoder,
        prompt_encoder,
        mask_decoder,
        image_size=image_size,
        mask_stride=mask_stride,
    )


def build_vit_sam3d(
    name: str,
    *,
    image_size: int = 128,
    mask_stride: int = 4,
    box_prompts: bool | None = None,
    published_quirks: bool = True,
    checkpoint_upscaling: bool = False,
    checkpoint_blocks: bool = False,
    drop_path: float = 0.0,
) -> Sam3D:
    """Build a promptable network around a 3-D ViT.

    Args:
        name: A key of ``VIT3D_CONFIGS``.
        image_size: Side S of the cubic input in voxels, a multiple of 16.
        mask_stride: 4 for SAM-Med3D's decoder, 1 for NeuroSAM3D's.
        box_prompts: Whether the network has box embeddings; by default as the published family has
            it (not at stride 4, yes at 1).
        published_quirks: Compute the relative positions, the window padding and the dense position
            encoding the way the published weights need it. False gives the correct forms, for
            training from scratch.
        checkpoint_upscaling: Recompute the decoder's upscaling in the backward pass to save memory.
        checkpoint_blocks: Recompute the encoder's blocks likewise.
        drop_path: Stochastic depth of the encoder's last block, growing linearly from 0.

    Raises:
        ValueError: If ``image_size``, ``mask_stride`` or ``drop_path`` is not allowed.
    """
    config = VIT3D_CONFIGS[name]
    encoder = ViT3D(
        config,
        image_size=image_size,
        published_quirks=published_quirks,
        drop_path=drop_path,
        checkpoint_blocks=checkpoint_blocks,
    )
    return assemble_sam3d(
        encoder,
        embed_dim=config.out_dim,
        image_size=image_size,
        grid_size=image_size // config.patch_size,
        mask_stride=mask_stride,
        box_prompts=box_prompts,
        published_quirks=published_quirks,
        checkpoint_upscaling=checkpoint_upscaling,
    )
