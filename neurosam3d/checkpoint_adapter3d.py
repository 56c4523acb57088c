"""The files of 3DSAM-adapter's own programs (`.pth.tar`): state dicts, one for each part of the
network.

There are four prompt encoders in a file, one per level of features, of which only the last one ever
ran. The masks of shifted windows are in it, too, the same for every second block.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from neurosam3d.checkpoint_io import Content
from neurosam3d.models.adapter3d_block import shift_mask
from neurosam3d.models.adapter3d_encoder import Adapter3DConfig

NUM_PROMPT_ENCODERS = 4
# Where the parts of the network are, and what of the file no network needs.
PARTS = {
    "encoder_dict.": "image_encoder.",
    f"feature_dict.{NUM_PROMPT_ENCODERS - 1}.": "prompt_encoder.",
    "decoder_dict.": "mask_decoder.",
}
SPARE = ("encoder_dict.*.attn_mask", f"feature_dict.[0-{NUM_PROMPT_ENCODERS - 2}].*")


def published_entries(content: Content) -> dict[str, Any]:
    """Return all entries of the parts, each under `<dict>.<name>` or `<list>.<index>.<name>`."""
    parts = {key: content[key] for key in ("encoder_dict", "decoder_dict")}
    for index, part in enumerate(content.get("feature_dict", [])):
        parts[f"feature_dict.{index}"] = part
    return {f"{key}.{name}": value for key, part in parts.items() for name, value in part.items()}


def network_name(entry: str) -> str:
    """Turn the name of an entry into the network's, if it is of a part that the network has."""
    for of_file, of_network in PARTS.items():
        if entry.startswith(of_file):
            return of_network + entry.removeprefix(of_file)
    return entry


def published_content(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arrange weights of a network as the published programs load them.

    These want every entry to be there. So the one prompt encoder stands for all four, and masks are
    added; neither takes more room in a file than once.

    Args:
        weights: Under the network's names.

    Raises:
        ValueError: If they are not those of a network of 3DSAM-adapter, or of one with labelled
            clicks, which the published programs do not know.
    """
    encoder, prompts, decoder = (
        {name.removeprefix(part): w for name, w in weights.items() if name.startswith(part)}
        for part in PARTS.values()
    )
    if "slice_embed.weight" not in encoder or "cls.0.weight" not in decoder:
        raise ValueError(
            "the format adapter3d holds networks of 3DSAM-adapter, got weights without "
            "image_encoder.slice_embed.weight or mask_decoder.cls.0.weight"
        )
    if "label_embedding" in prompts:
        raise ValueError(
            "the format adapter3d holds networks whose clicks have no labels, "
            "got prompt_encoder.label_embedding"
        )
    window = Adapter3DConfig.window
    num_windows = encoder["depth_embed"].shape[1] // window
    mask = shift_mask((num_windows,) * 3, window)
    shifted = [name for name in encoder if name.endswith(".norm1.weight")][::2]
    encoder |= {name.replace("norm1.weight", "attn_mask"): mask for name in shifted}
    content: dict[str, Any] = {"encoder_dict": encoder, "decoder_dict": decoder}
    if prompts:
        content["feature_dict"] = [prompts] * NUM_PROMPT_ENCODERS
    return content
