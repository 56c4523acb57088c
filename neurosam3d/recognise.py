"""Which network a file's weights belong to, how to build it and how to feed it.

A file may say so itself: Lightning's hyper-parameters, the arguments of a training script, the
metadata of safetensors. All of them speak in the arguments of our LightningModule (`model_type`,
`img_size` and so on). What the names and shapes of the weights show comes before what is said.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neurosam3d.checkpoint_formats import DINOV2, Checkpoint, Shapes
from neurosam3d.checkpoint_io import METADATA, Content
from neurosam3d.documents import parse_json
from neurosam3d.models import MODELS, list_models, list_overrides
from neurosam3d.models.adapter3d import PROMPT_FREE_CROP
from neurosam3d.models.adapter3d_encoder import ADAPTER3D_CONFIGS
from neurosam3d.models.baselines.recognise import recognise_baseline
from neurosam3d.models.dinov2_config import recognise_settings
from neurosam3d.models.hiera3d import HIERA3D_CONFIGS
from neurosam3d.models.lora import LoraConfig
from neurosam3d.models.sam2d_recognise import recognise_sam2d
from neurosam3d.models.vit3d import VIT3D_CONFIGS

FORMAT_VERSION = "1"  # of our metadata
VERSION_KEY = "neurosam3d_format"
# All other values of our metadata are JSON.
TEXTS = ("model_type", "intensity", "axis", "feeding", "licence", "source", VERSION_KEY)

HIERA = "image_encoder.trunk."
_IN_BLOCK = re.compile(r"image_encoder\.(?:trunk\.)?blocks\.(\d+)\.")
# Arguments of `build_model`, and what the LightningModule calls them.
OPTIONS = {
    "image_size": "img_size",
    "mask_stride": "mask_stride",
    "box_prompts": "box_prompts",
    "published_quirks": "published_quirks",
    "in_channels": "in_channels",
    "num_classes": "num_classes",
    "crop_size": "crop_size",
    "feature_size": "feature_size",
    "deep_supervision": "deep_supervision",
    "prompt_free": "prompt_free",
    "labelled_clicks": "labelled_clicks",
    "rank": "rank",
}


def _plain_option(value: Any) -> Any:
    """Return a whole number, or sides of a crop, as `build_model` takes them; None for the rest."""
    if isinstance(value, int):
        return value
    is_sides = isinstance(value, list | tuple) and len(value) == 3
    return tuple(value) if is_sides and all(isinstance(side, int) for side in value) else None


def _names(value: Any) -> tuple[str, ...]:
    """Return a list of names, or none of what other programs may call so."""
    is_list = isinstance(value, list | tuple)
    return tuple(value) if is_list and all(isinstance(name, str) for name in value) else ()


def _is_spacing(value: Any) -> bool:
    """Tell a voxel size, or None for the image's own, from what other programs may call so."""
    if value is None:
        return True
    is_triple = isinstance(value, Sequence) and len(value) == 3
    return is_triple and all(isinstance(side, int | float) for side in value)


def _lora_config(values: Mapping[str, Any]) -> LoraConfig | None:
    """Return what a file says of its low-rank additions, if it has any.

    Raises:
        ValueError: If that is unfit.
    """
    if values.get("finetune") != "lora" or "lora_rank" not in values:
        return None
    rank, alpha = values["lora_rank"], values.get("lora_alpha")
    targets = values.get("lora_targets", LoraConfig.targets)
    parts = values.get("lora_parts", LoraConfig.parts)
    is_scaled = isinstance(rank, int) and (alpha is None or isinstance(alpha, int | float))
    if not (is_scaled and _names(targets) and isinstance(parts, str)):
        raise ValueError(
            "LoRA has a whole rank, a number alpha, names of targets and a text of parts, "
            f"got {rank!r}, {alpha!r}, {targets!r} and {parts!r}"
        )
    return LoraConfig(rank=rank, alpha=alpha, targets=tuple(targets), parts=parts)


# How the network was fed: arguments of ours, and what they must be.
FEEDING: dict[str, Callable[[Any], bool]] = {
    "intensity": lambda value: isinstance(value, str),
    "spacing": _is_spacing,
    "axis": lambda value: isinstance(value, str),
    "feeding": lambda value: isinstance(value, str),
    "detail": lambda value: value is None or isinstance(value, int),
}


@dataclass(frozen=True)
class Identity:
    """What is known of the network that weights belong to.

    Args:
        name: Its name in `list_models()`, or None.
        options: Arguments to build it with.
        lora: The low-rank additions to its layers, if it has any.
        feeding: What it was trained with, as far as known: intensity preset and voxel size in mm;
            of a network of slices their axis, the `detail` that they were reduced to, and the name
            of their `feeding`.
        classes: Names of what it was trained to find, in the order of its logits behind the
            background; empty if that is not known or it finds what prompts point at.
    """

    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    lora: LoraConfig | None = None
    feeding: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "Identity":
        """Read it from values under the names of the LightningModule's arguments.

        Raises:
            ValueError: If the low-rank additions are unfit.
        """
        said = values.get("model_type")
        name = said if isinstance(said, str) else None
        stored = {option: _plain_option(values.get(key)) for option, key in OPTIONS.items()}
        if name in ADAPTER3D_CONFIGS and isinstance(stored["crop_size"], tuple):
            stored["crop_size"] = stored["crop_size"][0]  # its crops are cubes, built by their side
        return cls(
            name=name if name in list_models() else None,
            options={option: v for option, v in stored.items() if v is not None},
            lora=_lora_config(values),
            feeding={
                key: values[key]
                for key, is_sound in FEEDING.items()
                if key in values and is_sound(values[key])
            },
            classes=_names(values.get("classes")),
        )

    def to_values(self) -> dict[str, Any]:
        """Return plain values from which `from_values` reads it back.

        Settings that the shapes of the weights tell, as those of DINOv2, are not among them.
        """
        options = {key: self.options[o] for o, key in OPTIONS.items() if o in self.options}
        values = {"model_type": self.name, **options, **self.feeding}
        if self.classes:
            values["classes"] = self.classes
        if self.lora is not None:
            lora = {f"lora_{key}": value for key, value in self.lora.to_dict().items()}
            values |= {"finetune": "lora", **lora}
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        }


def identify(checkpoint: Checkpoint, name: str | None = None) -> Identity:
    """Tell which network a file's weights belong to.

    Args:
        checkpoint: The file.
        name: The network, if it is known; otherwise the file says so or the shapes of its weights.

    Raises:
        ValueError: If the metadata of the file are damaged or of a later version.
    """
    stored = Identity.from_values(stored_values(checkpoint.content))
    recognised, options = recognise_network(checkpoint.shapes)
    name = name or stored.name or recognised
    if name != recognised:
        options.pop("model_cfg", None)
    options = {**stored.options, **options}
    if options.get("prompt_free"):  # weights fit crops of every size; this is the published one
        options.setdefault("crop_size", PROMPT_FREE_CROP)
    if name in MODELS:  # others get their error when they are built
        options = {option: options[option] for option in options if option in list_overrides(name)}
    lora = stored.lora if checkpoint.lora_names else None
    return replace(stored, name=name, options=options, lora=lora)


def require_name(identity: Identity, checkpoint: Checkpoint) -> str:
    """Return the network's name.

    Raises:
        ValueError: If it is not known; the message lists the candidates.
    """
    if identity.name is None:
        raise ValueError(
            f"cannot tell which network {checkpoint.path} belongs to; "
            f"name one of {', '.join(list_models())}"
        )
    return identity.name


def recognise_network(shapes: Shapes) -> tuple[str | None, dict[str, Any]]:
    """Tell a network from the names and shapes of its weights.

    Args:
        shapes: Shape of every weight, under the network's names.

    Returns:
        Its name in `list_models()`, or None if it is none of them, and what the weights say of its
        options: `image_size`, `mask_stride`, `box_prompts`, `model_cfg`, `prompt_free`,
        `labelled_clicks`; for baselines see `recognise_baseline`, for networks of slices
        `recognise_sam2d`.
    """
    try:
        return _recognise(shapes)
    except (ArithmeticError, LookupError, ValueError):  # names of a network, shapes of none
        return None, {}


def _recognise(shapes: Shapes) -> tuple[str | None, dict[str, Any]]:
    """Tell a network whose weights have as many axes, and beside them the weights, as it has."""
    if baseline := recognise_baseline(shapes):
        return baseline
    if "image_encoder.slice_embed.weight" in shapes:
        return _recognise_adapter3d(shapes)
    if sam2d := recognise_sam2d(shapes):
        return sam2d
    options: dict[str, Any] = {}
    if "prompt_encoder.point_embeddings.0.weight" in shapes:
        options["box_prompts"] = "prompt_encoder.point_embeddings.2.weight" in shapes
    if "mask_decoder.output_upscaling.0.weight" in shapes:
        options["mask_stride"] = 1 if "mask_decoder.output_upscaling.9.weight" in shapes else 4
    if f"{DINOV2}cls_token" in shapes:
        settings = recognise_settings(
            {name.removeprefix(DINOV2): shapes[name] for name in shapes if DINOV2 in name}
        )
        return ("dinov2", {**options, "model_cfg": settings}) if settings else (None, options)
    if f"{HIERA}pos_embed_window" in shapes:
        return _recognise_hiera(shapes), options
    name, side = _recognise_vit(shapes)
    return name, options if side is None else {**options, "image_size": side}


def stored_values(content: Content) -> dict[str, Any]:
    """Return what a file says of its network: hyper-parameters, arguments or our metadata.

    Raises:
        ValueError: If our metadata are damaged or of a later version.
    """
    if VERSION_KEY in content.get(METADATA, {}):
        return decode_metadata(content[METADATA])
    stored = content.get("hyper_parameters", content.get("args", {}))
    if isinstance(stored, argparse.Namespace):
        return vars(stored)
    return dict(stored) if isinstance(stored, Mapping) else {}


def encode_metadata(values: Mapping[str, Any]) -> dict[str, str]:
    """Turn plain values into the texts that a safetensors file can hold."""
    texts = {key: v if key in TEXTS else json.dumps(v) for key, v in values.items()}
    return {"format": "pt", VERSION_KEY: FORMAT_VERSION, **texts}


def decode_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Undo `encode_metadata`.

    Raises:
        ValueError: If a value is damaged or the version is a later one.
    """
    if metadata[VERSION_KEY] != FORMAT_VERSION:
        raise ValueError(
            f"metadata must be of {VERSION_KEY} {FORMAT_VERSION}, got {metadata[VERSION_KEY]!r}"
        )
    # In a file they have no order.
    texts = {key: metadata[key] for key in sorted(metadata) if key not in ("format", VERSION_KEY)}
    try:
        return {key: text if key in TEXTS else parse_json(text) for key, text in texts.items()}
    except json.JSONDecodeError as error:
        raise ValueError(f"metadata must be JSON, got {error.doc!r}") from error


def _recognise_vit(shapes: Shapes) -> tuple[str | None, int | None]:
    """Return name and image size of a 3-D ViT, as far as they are known."""
    positions = shapes.get("image_encoder.pos_embed", ())
    patches = shapes.get("image_encoder.patch_embed.proj.weight", ())
    if len(positions) != 5 or len(patches) != 5:
        return None, None
    head_dim = shapes.get("image_encoder.blocks.0.attn.rel_pos_d", (0,))[-1]
    for name, config in VIT3D_CONFIGS.items():
        size = (config.dim, config.depth, config.dim // config.num_heads)
        if size == (positions[4], _count_blocks(shapes), head_dim):
            return name, positions[1] * patches[2]
    return None, positions[1] * patches[2]


def _recognise_adapter3d(shapes: Shapes) -> tuple[str | None, dict[str, Any]]:
    """Return name and options of a 3DSAM-adapter."""
    options = {"prompt_free": not any(name.startswith("prompt_encoder.") for name in shapes)}
    if "prompt_encoder.label_embedding" in shapes:
        options["labelled_clicks"] = True
    width = shapes["image_encoder.slice_embed.weight"][0]
    for name, config in ADAPTER3D_CONFIGS.items():
        if (config.dim, config.depth) == (width, _count_blocks(shapes)):
            return name, options
    return None, options


def _recognise_hiera(shapes: Shapes) -> str | None:
    """Return the name of a 3-D Hiera; its weights are the same for every image size."""
    width = shapes.get(f"{HIERA}pos_embed", (0, 0))[1]
    for name, config in HIERA3D_CONFIGS.items():
        size = (config.dim, sum(config.depths))
        if name in list_models() and size == (width, _count_blocks(shapes)):
            return name
    return None


def _count_blocks(shapes: Shapes) -> int:
    return len({found[1] for found in map(_IN_BLOCK.match, shapes) if found})
