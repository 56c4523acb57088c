"""The files of SAMed's own programs: what SAM's checkpoint lacks, under names of their own.

All other files of 2-D networks have the network's names. Here the two factors of every low-rank
addition are numbered, those of queries even, those of values odd; where the network keeps both in
one tensor, the file has two. Beside them are the prompt encoder and the mask decoder, of SAMed_s
without the two-way transformer, whose attentions have additions likewise.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neurosam3d.checkpoint_io import METADATA, Content

MARK = "w_a_000"  # an entry of every such file
QKV = "image_encoder.blocks.{}.attn.qkv"
TRANSFORMER = "mask_decoder.transformer."
FINAL = f"{TRANSFORMER}final_attn_token_to_image"
ATTENTIONS = {  # of each layer of the two-way transformer, by what the files call it
    "sa": "self_attn",
    "cti": "cross_attn_token_to_image",
    "cit": "cross_attn_image_to_token",
}
_NUMBERED = re.compile(r"(w|sa|cti|cit)_([ab])_(\d+)")
_FINAL = re.compile(r"fati_([qv])([ab])")
_IN_ENCODER = re.compile(r"image_encoder\.blocks\.(\d+)\.attn\.qkv\.lora_([ab])")
_IN_LAYER = re.compile(rf"{re.escape(TRANSFORMER)}layers\.(\d+)\.(\w+)\.([qv])_proj\.lora_([ab])")
_IN_FINAL = re.compile(rf"{re.escape(FINAL)}\.([qv])_proj\.lora_([ab])")
_KINDS = {attention: kind for kind, attention in ATTENTIONS.items()}


def network_entries(content: Content) -> dict[str, Any]:
    """Return the entries of a file under the network's names.

    Args:
        content: All that the file holds.

    Returns:
        Factors stacked as the network has them, (parts, r, in) and (parts, out, r), and the other
        entries as they are. Of factors that do not form a pair, each keeps the file's name.
    """
    entries: dict[str, Any] = {}
    factors: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in content.items():
        if name := _network_name(key):
            factors[name][key] = value
        elif key != METADATA:
            entries[key] = value
    for name, parts in factors.items():
        num_parts = 2 if _IN_ENCODER.fullmatch(name) else 1
        ordered = [parts[key] for key in sorted(parts)]
        if len(ordered) == num_parts and len({part.shape for part in ordered}) == 1:
            entries[name] = torch.stack(ordered)
        else:
            entries |= parts
    return entries


def published_part(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose of a network's weights, under its names, those that such a file holds."""
    adapted = any(_IN_LAYER.fullmatch(name) for name in weights)
    ends = (TRANSFORMER,) if adapted else ()
    return {
        name: value
        for name, value in weights.items()
        if _file_names(name)
        or (name.startswith(("prompt_encoder.", "mask_decoder.")) and not name.startswith(ends))
    }


def published_content(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name and arrange weights of a network as SAMed's programs load them.

    Args:
        weights: Under the network's names; what is SAM's may be among them.

    Raises:
        ValueError: If they are not those of SAMed.
    """
    factors: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    for name, value in published_part(weights).items():
        keys = _file_names(name)
        if not keys:
            others[name] = value
        elif len(keys) == len(value):
            factors |= zip(keys, value.unbind(), strict=True)
        else:
            raise ValueError(
                f"{name} must hold {len(keys)} additions as in SAMed, got {len(value)}"
            )
    if MARK not in factors or "mask_decoder.mask_tokens.weight" not in others:
        raise ValueError(
            "the format samed holds networks of SAMed, got weights without "
            f"{QKV.format(0)}.lora_a or mask_decoder.mask_tokens.weight"
        )
    return factors | others


def _network_name(key: str) -> str | None:
    """Return the name of the network's tensor that a file's factor is part of, if it is one."""
    if found := _FINAL.fullmatch(key):
        letter, factor = found.groups()
        return f"{FINAL}.{letter}_proj.lora_{factor}"
    if not (found := _NUMBERED.fullmatch(key)):
        return None
    kind, factor, number = found.groups()
    layer, part = divmod(int(number), 2)
    if kind == "w":
        return f"{QKV.format(layer)}.lora_{factor}"
    return f"{TRANSFORMER}layers.{layer}.{ATTENTIONS[kind]}.{'qv'[part]}_proj.lora_{factor}"


def _file_names(name: str) -> list[str]:
    """Return the file's names of the parts of a network's factor; none for other weights."""
    if found := _IN_ENCODER.fullmatch(name):
        layer, factor = found.groups()
        return [f"w_{factor}_{2 * int(layer) + part:03}" for part in (0, 1)]
    if found := _IN_FINAL.fullmatch(name):
        letter, factor = found.groups()
        return [f"fati_{letter}{factor}"]
    if found := _IN_LAYER.fullmatch(name):
        layer, attention, letter, factor = found.groups()
        return [f"{_KINDS[attention]}_{factor}_{2 * int(layer) + 'qv'.index(letter):03}"]
    return []
