"""Which network without prompts weights belong to, by their names and shapes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Marks:
    """Names by which a network's weights are told, and that say how it was built.

    Attributes:
        sign: No other network has it.
        image: Weight whose second axis is the channels of the image.
        head: Weight that makes the logits.
        head_axis: Its axis of classes.
        coarse_head: Weight of a head that only deep supervision has.
    """

    sign: str
    image: str
    head: str
    head_axis: int = 0
    coarse_head: str = ""


# The first whose sign is there.
MARKS = {
    "swin_unetr_v2": Marks(
        "swinViT.layers1c.0.layer.conv1.conv.weight",
        image="swinViT.patch_embed.proj.weight",
        head="out.conv.conv.weight",
    ),
    "swin_unetr": Marks(
        "swinViT.patch_embed.proj.weight",
        image="swinViT.patch_embed.proj.weight",
        head="out.conv.conv.weight",
    ),
    "unetr": Marks(
        "vit.patch_embedding.position_embeddings",
        image="encoder1.layer.conv1.conv.weight",
        head="out.conv.conv.weight",
    ),
    "3d_uxnet": Marks(
        "uxnet_3d.norm0.weight",
        image="uxnet_3d.downsample_layers.0.0.weight",
        head="out.conv.conv.weight",
    ),
    "nnformer": Marks(
        "model_down.norm0.weight",
        image="model_down.patch_embed.proj1.conv1.weight",
        head="final.0.up.weight",
        head_axis=1,
        coarse_head="final.1.up.weight",
    ),
    "unetr++": Marks(
        "unetr_pp_encoder.stages.0.0.gamma",
        image="encoder1.conv1.conv.weight",
        head="out1.conv.conv.weight",
        coarse_head="out2.conv.conv.weight",
    ),
    "transbts": Marks(
        "pre_head_ln.weight", image="Unet.InitConv.conv.weight", head="endconv.weight"
    ),
    "nnunet_resenc": Marks(
        "encoder.stem.convs.0.conv.weight",
        image="encoder.stem.convs.0.conv.weight",
        head="decoder.seg_layers.4.weight",
    ),
    "nnunet_plain": Marks(
        "encoder.stages.0.0.convs.0.conv.weight",
        image="encoder.stages.0.0.convs.0.conv.weight",
        head="decoder.seg_layers.4.weight",
    ),
    "segresnet": Marks(
        "convInit.conv.weight", image="convInit.conv.weight", head="conv_final.2.conv.weight"
    ),
    "segresnet_ds": Marks(
        "encoder.conv_init.weight",
        image="encoder.conv_init.weight",
        head="up_layers.3.head.weight",
        coarse_head="up_layers.0.head.weight",
    ),
    "mednext": Marks(
        "enc_stages.0.0.conv1.weight",
        image="stem.weight",
        head="out_0.conv_out.weight",
        head_axis=1,
        coarse_head="out_blocks.0.conv_out.weight",
    ),
}
# Blocks of the first stage, and how much wider those of the second are inside (arXiv:2303.09975).
MEDNEXT_SIZES = {(2, 2): "mednext_s", (2, 3): "mednext_b", (3, 3): "mednext_m", (3, 4): "mednext_l"}


def recognise_baseline(shapes: Shapes) -> tuple[str | None, dict[str, Any]] | None:
    """Tell a network that takes no prompts from the names and shapes of its weights.

    Args:
        shapes: Shape of every weight, under the network's names.

    Returns:
        Its name, or None for an unknown size of it, and what the weights say of its overrides,
        among which the size of the crop is not; None if it is none of them.
    """
    name = next((name for name, marks in MARKS.items() if marks.sign in shapes), None)
    if name is None:
        return None
    marks, options = MARKS[name], {}
    if marks.image in shapes:
        options["in_channels"] = shapes[marks.image][1]
    if marks.head in shapes:
        options["num_classes"] = shapes[marks.head][marks.head_axis]
    if marks.coarse_head:
        options["deep_supervision"] = marks.coarse_head in shapes
    if name.startswith("swin_unetr"):
        options["feature_size"] = shapes["swinViT.patch_embed.proj.weight"][0]
    if name == "3d_uxnet":
        options["published_quirks"] = shapes["uxnet_3d.stages.0.0.pwconv1.weight"][1] == 1
    if name == "transbts":
        options["published_quirks"] = "linear_encoding.weight" in shapes
    return (_mednext_size(shapes), options) if name == "mednext" else (name, options)


def _mednext_size(shapes: Shapes) -> str | None:
    """Tell the sizes of MedNeXt apart."""
    depth = sum(bool(re.fullmatch(r"enc_stages\.0\.\d+\.conv1\.weight", name)) for name in shapes)
    wide, narrow = shapes.get("enc_stages.1.0.conv2.weight", (0, 1))[:2]
    return MEDNEXT_SIZES.get((depth, wide // narrow))
