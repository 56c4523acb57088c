"""Promptable segmentation of slices: SAM (arXiv:2304.02643), MedSAM (arXiv:2304.12306), whose
network is SAM B, and SAM-Med2D (arXiv:2308.16184), which adds adapters to the encoder.

Coordinates of prompts are (x, y), see `PromptEncoder2D`; images are given as the networks were
trained, scaled and normalised.

Shapes: B batch, P points, C channels of an embedding, K masks; S = side of an image in pixels, n =
S / 16 = side of the embedding grid, M = S / 4 = side of the masks.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.freezing import freeze, freeze_all_but
from neurosam3d.models.sam2d_decoder import NUM_PROMPT_MASKS, MaskDecoder2D
from neurosam3d.models.sam2d_encoder import SAM2D_CONFIGS, ImageEncoder2D
from neurosam3d.models.sam2d_prompts import MASK_STRIDE, PromptEncoder2D


class Sam2D(nn.Module):
    """The three parts of SAM; any code written for SAM's seam can call them one by one.

    Args:
        image_encoder: Maps (B, 3, S, S) to (B, C, n, n).
        prompt_encoder: Maps prompts to sparse and dense embeddings.
        mask_decoder: Maps embeddings to mask logits and IoU estimates.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder2D,
        prompt_encoder: PromptEncoder2D,
        mask_decoder: MaskDecoder2D,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.image_size = image_encoder.image_size

    @property
    def mask_size(self) -> int:
        """Side M of the mask prompt and of the low-resolution logits."""
        return self.image_size // MASK_STRIDE

    def decode(
        self,
        image_embeddings: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask_output: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Predict masks for images that were encoded before.

        Args:
            image_embeddings: (b, C, n, n), one for each item of the prompts or one for all.
            points: Coordinates (B, P, 2) and labels (B, P); see `PromptEncoder2D`.
            boxes: (B, 4).
            masks: Previous low-resolution logits (B, 1, M, M).
            multimask_output: Three masks instead of one.

        Returns:
            Low-resolution logits (B, K, M, M) and IoU estimates (B, K).
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
        """Bring logits (B, K, M, M) to the image's side: (B, K, S, S)."""
        sides = (self.image_size, self.image_size)
        return F.interpolate(low_res_logits, sides, mode="bilinear", align_corners=False)

    def forward(
        self,
        image: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """Segment images (B, 3, S, S) in one call; returns logits (B, 1, S, S)."""
        embeddings = self.image_encoder(image)
        return self.upsample(self.decode(embeddings, points=points, boxes=boxes, masks=masks)[0])

    def freeze_unreachable(
        self, *, points: bool, boxes: bool, masks: bool | None, multimask: bool, iou: bool
    ) -> list[str]:
        """Stop gradients of parameters that a way of training never reaches.

        Distributed training without a search for unused parameters needs every trainable one in
        every step.

        Args:
            points: Points are among the prompts.
            boxes: Boxes are among the prompts.
            masks: Every decoder call gets a mask prompt; False: none does; None: some do.
            multimask: Three masks are decoded instead of one.
            iou: The IoU estimate is trained.

        Returns:
            The names of the frozen parameters.
        """
        kinds = "prompt_encoder.point_embeddings"
        unreachable = []
        if not points:
            unreachable += [f"{kinds}.0.", f"{kinds}.1.", "prompt_encoder.not_a_point_embed."]
        if not boxes:
            unreachable += [f"{kinds}.2.", f"{kinds}.3."]
        if masks is True:
            unreachable.append("prompt_encoder.no_mask_embed.")
        if masks is False:
            unreachable.append("prompt_encoder.mask_downscaling.")
        if not iou:
            unreachable.append("mask_decoder.iou_prediction_head.")
        networks = (0,) if multimask else range(1, NUM_PROMPT_MASKS)
        unreachable += [f"mask_decoder.output_hypernetworks_mlps.{index}." for index in networks]
        return freeze(self, unreachable)

    def freeze_encoder(self) -> list[str]:
        """Stop the gradients of all of the image encoder but its adapters, as SAM-Med2D does.

        Returns:
            The names of the frozen parameters.
        """
        return freeze_all_but(self, (".Adapter.", "prompt_encoder.", "mask_decoder."))


def assemble_sam2d(
    size: str,
    *,
    image_size: int,
    num_masks: int = NUM_PROMPT_MASKS,
    all_masks: bool = False,
    adapters: bool = False,
    checkpoint_blocks: bool = False,
) -> Sam2D:
    """Put the three parts together.

    Args:
        size: A key of ``SAM2D_CONFIGS``.
        image_size: Image side S in pixels.
        num_masks: See `MaskDecoder2D`.
        all_masks: Likewise.
        adapters: See `ImageEncoder2D`.
        checkpoint_blocks: Likewise.

    Raises:
        ValueError: If ``image_size`` is not allowed.
    """
    config = SAM2D_CONFIGS[size]
    return Sam2D(
        ImageEncoder2D(
            config, image_size=image_size, adapters=adapters, checkpoint_blocks=checkpoint_blocks
        ),
        PromptEncoder2D(
            config.out_dim, image_size=image_size, grid_size=image_size // config.patch_size
        ),
        MaskDecoder2D(config.out_dim, num_masks=num_masks, all_masks=all_masks),
    )


def build_sam2d(size: str, *, image_size: int = 1024, checkpoint_blocks: bool = False) -> Sam2D:
    """Build SAM, or MedSAM of size vit_b.

    Args:
        size: A key of ``SAM2D_CONFIGS``.
        image_size: Side S of the square image in pixels, a multiple of 16.
        checkpoint_blocks: Recompute the encoder's blocks in the backward pass to save memory.

    Raises:
        ValueError: If ``image_size`` is not allowed.
    """
    return assemble_sam2d(size, image_size=image_size, checkpoint_blocks=checkpoint_blocks)


def build_sam_med2d(
    size: str, *, image_size: int = 256, freeze_sam: bool = True, checkpoint_blocks: bool = False
) -> Sam2D:
    """Build SAM-Med2D: SAM with an adapter beside the MLP of every block.

    Args:
        size: A key of ``SAM2D_CONFIGS``.
        image_size: Side S of the square image in pixels, a multiple of 32.
        freeze_sam: Of the image encoder, train the adapters only, as published.
        checkpoint_blocks: Recompute the encoder's blocks in the backward pass to save memory.

    Raises:
        ValueError: If ``image_size`` is not allowed.
    """
    model = assemble_sam2d(
        size, image_size=image_size, adapters=True, checkpoint_blocks=checkpoint_blocks
    )
    if freeze_sam:
        model.freeze_encoder()
    return model
