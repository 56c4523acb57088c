"""SAMed: SAM for the classes of slices, without prompts (arXiv:2304.13785).

The decoder gives one mask per class and one of the background. Of SAM's encoder nothing learns but
low-rank additions (LoRA) to queries and values; of SAMed_s's two-way transformer likewise.

Checkpoints that fit: SAM's, of any image size, and then SAMed's own, which hold what SAM's lack.

Shapes: B batch, C channels, S side of an image in pixels, n = S / 16, K classes with background.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.freezing import freeze, freeze_all_but
from neurosam3d.models.lora import QKV, LoraConfig, add_lora
from neurosam3d.models.sam2d import Sam2D, assemble_sam2d

ATTENTIONS = (  # of the two-way transformer; SAMed_s adapts their queries and values
    "self_attn",
    "cross_attn_token_to_image",
    "cross_attn_image_to_token",
    "final_attn_token_to_image",
)


class Samed(nn.Module):
    """Tell apart the classes in slices.

    Args:
        sam: SAM whose decoder always gives all masks, one per class, the background first.
        rank: Rank of the additions.
        adapt_decoder: Adapt the two-way transformer instead of training it: SAMed_s.
        freeze_sam: Leave what encoder and adapted transformer have from SAM as it is.
    """

    def __init__(
        self, sam: Sam2D, *, rank: int, adapt_decoder: bool, freeze_sam: bool = True
    ) -> None:
        super().__init__()
        self.image_encoder = sam.image_encoder
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self.image_size = sam.image_size
        self.num_classes = sam.mask_decoder.num_masks - 1
        add_lora(self.image_encoder, LoraConfig(rank=rank, targets=(f"attn.{QKV}",)))
        if adapt_decoder:
            targets = tuple(f"{name}.{letter}_proj" for name in ATTENTIONS for letter in "qv")
            add_lora(self.mask_decoder.transformer, LoraConfig(rank=rank, targets=targets))
        self._freeze(adapt_decoder=adapt_decoder, freeze_sam=freeze_sam)

    def encode(self, image: Tensor) -> Tensor:
        """Map images (B, 3, S, S) to embeddings (B, C, n, n)."""
        return self.image_encoder(image)

    def decode(self, image_embeddings: Tensor) -> dict[str, Tensor]:
        """Segment images that were encoded before; returns what `forward` does."""
        sparse, dense = self.prompt_encoder()
        logits, iou = self.mask_decoder(
            image_embeddings=image_embeddings,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        sides = (self.image_size, self.image_size)
        masks = F.interpolate(logits, sides, mode="bilinear", align_corners=False)
        return {"masks": masks, "low_res_logits": logits, "iou_predictions": iou}

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Segment slices.

        Args:
            image: (B, 3, S, S), values in [0, 1], the three channels alike.

        Returns:
            `masks`, logits (B, K, S, S) of which the highest tells the class, 0 for background;
            `low_res_logits` (B, K, S/4, S/4), from which they are interpolated; and
            `iou_predictions` (B, K), which SAMed does not train.
        """
        return self.decode(self.encode(image))

    def _freeze(self, *, adapt_decoder: bool, freeze_sam: bool) -> None:
        """Leave to learn what is SAMed's and gets a gradient.

        The published programs also offer to the optimiser what a network without prompts and
        without a loss on the IoU never reaches, at no effect but that of its weight decay.
        """
        learning = (".lora_", "prompt_encoder.no_mask_embed.", "mask_decoder.")
        freeze_all_but(self, learning if freeze_sam else (*learning, "image_encoder."))
        freeze(self, ("mask_decoder.iou_prediction_head.",))
        if adapt_decoder and freeze_sam:
            freeze_all_but(self.mask_decoder.transformer, (".lora_",))


def build_samed(
    size: str,
    decoder: Literal["trained", "adapted"],
    *,
    image_size: int = 512,
    num_classes: int = 8,
    rank: int = 4,
    freeze_sam: bool = True,
    checkpoint_blocks: bool = False,
) -> Samed:
    """Build SAMed or SAMed_s, as published but for the weights of SAM that fill most of it.

    Args:
        size: A key of ``SAM2D_CONFIGS``.
        decoder: Whether the two-way transformer learns as a whole or by LoRA, as in SAMed_s.
        image_size: Side S of the square image in pixels, a multiple of 16.
        num_classes: Classes beside the background.
        rank: Rank of the low-rank additions.
        freeze_sam: Leave SAM's weights as they are, as published; False for starts without them.
        checkpoint_blocks: Recompute the encoder's blocks in the backward pass to save memory.

    Raises:
        ValueError: If a value is not allowed.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    sam = assemble_sam2d(
        size,
        image_size=image_size,
        num_masks=num_classes + 1,
        all_masks=True,
        checkpoint_blocks=checkpoint_blocks,
    )
    is_adapted = decoder == "adapted"
    return Samed(sam, rank=rank, adapt_decoder=is_adapted, freeze_sam=freeze_sam)
