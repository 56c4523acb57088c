"""Tell the networks of slices by the names and shapes of their weights."""

import re
from collections.abc import Mapping
from typing import Any

from neurosam3d.models.sam2d_decoder import NUM_PROMPT_MASKS
from neurosam3d.models.sam2d_encoder import SAM2D_CONFIGS

Shapes = Mapping[str, tuple[int, ...]]

PATCHES = "image_encoder.patch_embed.proj.weight"
NECK = "image_encoder.neck.0.weight"
LORA = "image_encoder.blocks.0.attn.qkv.lora_a"
UPSCALING = "mask_decoder.output_upscaling.0.weight"
DECODER_LORA = "mask_decoder.transformer.final_attn_token_to_image.q_proj.lora_a"
_IN_BLOCK = re.compile(r"image_encoder\.blocks\.(\d+)\.")


def holds_sam2d(shapes: Shapes) -> bool:
    """Tell whether weights are of SAM's encoder of slices, whatever else there is.

    3DSAM-adapter has SAM's patches, too, but other necks.
    """
    return len(shapes.get(PATCHES, ())) == 4 and len(shapes.get(NECK, ())) == 4


def recognise_sam2d(shapes: Shapes) -> tuple[str | None, dict[str, Any]] | None:
    """Tell a network of slices; SAMed's own files hold no more of the encoder than its LoRA.

    MedSAM is SAM by all that weights tell.

    Args:
        shapes: Shape of every weight, under the network's names.

    Returns:
        Its name in `list_models()`, or None where its encoder has another size, and what the
        weights say of its options: `image_size`, `num_classes`, `rank`. None in place of both if it
        is none of these networks.
    """
    is_samed_file = LORA in shapes and len(shapes.get(UPSCALING, ())) == 4
    if not holds_sam2d(shapes) and (PATCHES in shapes or not is_samed_file):
        return None
    options: dict[str, Any] = {}
    if len(positions := shapes.get("image_encoder.pos_embed", ())) == 4:
        options["image_size"] = positions[1] * shapes[PATCHES][-1]
    num_masks = shapes.get("mask_decoder.mask_tokens.weight", (NUM_PROMPT_MASKS,))[0]
    family = "sam"
    if any(".Adapter." in name for name in shapes):
        family = "sam_med2d"
    elif LORA in shapes or num_masks != NUM_PROMPT_MASKS:
        family = "samed_s" if DECODER_LORA in shapes else "samed"
        options["num_classes"] = num_masks - 1
        if LORA in shapes:
            options["rank"] = shapes[LORA][1]
    size = _recognise_size(shapes)
    return (None if size is None else f"{family}_{size}"), options


def _recognise_size(shapes: Shapes) -> str | None:
    """Return the size of the encoder."""
    dim = shapes[PATCHES][0] if PATCHES in shapes else shapes[LORA][-1]
    depth = len({found[1] for found in map(_IN_BLOCK.match, shapes) if found})
    for size, config in SAM2D_CONFIGS.items():
        if (config.dim, config.depth) == (dim, depth):
            return size
    return None
