"""What a DINOv2 encoder (arXiv:2304.07193) in 3-D is made of, from the settings of a YAML file or
from the shapes of its weights.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Settings = Mapping[str, Mapping[str, Any]]

# Channels, blocks and heads by `student.arch`.
SIZES = {
    "vit_tiny_3d": (96, 4, 3),  # for tests and for a demonstration; no published weights
    "vit_small_3d": (384, 12, 6),
    "vit_base_3d": (768, 12, 12),
    "vit_large_3d": (1024, 24, 16),
    "vit_giant2_3d": (1536, 40, 24),
}
FEED_FORWARDS: dict[str, Literal["mlp", "swiglu"]] = {
    "mlp": "mlp",
    "swiglu": "swiglu",
    "swiglufused": "swiglu",  # the same weights in another layout of the work
}
PATCH_SIZE = 16  # the mask decoder doubles the grid's side four times


@dataclass(frozen=True)
class DinoV2Config:
    """Size and make of the encoder.

    Attributes:
        dim: Channels of a token.
        depth: Number of blocks.
        num_heads: Attention heads per block.
        patch_size: Side of a patch in voxels.
        position_side: Side of the learned position table in tokens.
        block_chunks: Groups that the blocks' names are divided into, a divisor of the depth; 0:
            flat names.
        layer_scale: Initial factor on residual branches (arXiv:2103.17239); 0: none is learned.
        ffn: Feed-forward part of a block: two layers, or a gated unit.
        num_registers: Tokens without a place in the image (arXiv:2309.16588).
        qkv_bias: Whether queries, keys and values have a bias.
        proj_bias: Whether the attention's output has one.
        ffn_bias: Whether the feed-forward layers have one.
        out_dim: Channels of the embedding that the mask decoder reads.

    Raises:
        ValueError: If ``block_chunks`` does not divide the depth.
    """

    dim: int
    depth: int
    num_heads: int
    patch_size: int = 16
    position_side: int = 7
    block_chunks: int = 4
    layer_scale: float = 1e-5
    ffn: Literal["mlp", "swiglu"] = "mlp"
    num_registers: int = 0
    qkv_bias: bool = True
    proj_bias: bool = True
    ffn_bias: bool = True
    out_dim: int = 384

    def __post_init__(self) -> None:
        if self.block_chunks and self.depth % self.block_chunks:
            raise ValueError(
                f"block_chunks must be 0 or divide the {self.depth} blocks, got {self.block_chunks}"
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


# The fields of `student` that make the encoder: what each must be.
FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "arch": (f"one of {', '.join(SIZES)}", lambda value: value in list(SIZES)),
    "patch_size": (f"{PATCH_SIZE}", lambda value: value == PATCH_SIZE),
    "layerscale": ("a number >= 0", _is_number),
    "ffn_layer": (f"one of {', '.join(FEED_FORWARDS)}", lambda v: v in list(FEED_FORWARDS)),
    "block_chunks": ("a whole number >= 0", _is_count),
    "qkv_bias": ("true or false", _is_flag),
    "proj_bias": ("true or false", _is_flag),
    "ffn_bias": ("true or false", _is_flag),
    "num_register_tokens": ("a whole number >= 0", _is_count),
}
# Fields that concern the student's training, not the teacher that becomes the encoder.
TRAINING_FIELDS = ("drop_path_rate", "drop_path_uniform", "pretrained_weights")


def parse_settings(settings: Settings) -> DinoV2Config:
    """Turn settings, the defaults included, into the encoder's configuration.

    Args:
        settings: The blocks `student` and `crops` as `neurosam3d.network_config` returns them.

    Raises:
        ValueError: If a field of `student` is unknown or a value does not fit.
    """
    student, crop = settings["student"], settings["crops"]["global_crops_size"]
    if unknown := [name for name in student if name not in (*FIELDS, *TRAINING_FIELDS)]:
        raise ValueError(f"unknown field student.{unknown[0]}; known: {', '.join(FIELDS)}")
    for name, (rule, is_allowed) in FIELDS.items():
        if not is_allowed(student[name]):
            raise ValueError(f"student.{name} must be {rule}, got {student[name]!r}")
    if not _is_count(crop) or crop < PATCH_SIZE or crop % PATCH_SIZE:
        raise ValueError(
            f"crops.global_crops_size must be a positive multiple of {PATCH_SIZE}, got {crop!r}"
        )
    dim, depth, num_heads = SIZES[student["arch"]]
    return DinoV2Config(
        dim=dim,
        depth=depth,
        num_heads=num_heads,
        patch_size=PATCH_SIZE,
        position_side=crop // PATCH_SIZE,
        block_chunks=student["block_chunks"],
        layer_scale=student["layerscale"],
        ffn=FEED_FORWARDS[student["ffn_layer"]],
        num_registers=student["num_register_tokens"],
        qkv_bias=student["qkv_bias"],
        proj_bias=student["proj_bias"],
        ffn_bias=student["ffn_bias"],
    )


def recognise_settings(shapes: Mapping[str, tuple[int, ...]]) -> Settings | None:
    """Tell settings from the names and shapes of a transformer's weights, the neck left aside.

    Returns:
        Settings that build it, or None if the weights are of no known size.
    """
    found = [re.match(r"(blocks\.(?:(\d+)\.)?(\d+)\.)norm1\.weight$", name) for name in shapes]
    blocks = [match for match in found if match]
    positions = shapes.get("pos_embed", ())
    if not blocks or len(positions) != 3:
        return None
    archs = {(dim, depth): arch for arch, (dim, depth, _) in SIZES.items()}
    arch = archs.get((positions[2], len(blocks)))
    if arch is None:
        return None
    first = blocks[0][1]
    side = round((positions[1] - 1) ** (1 / 3))
    return {
        "student": {
            "arch": arch,
            "block_chunks": len({block[2] for block in blocks} - {None}),
            "ffn_layer": "swiglu" if f"{first}mlp.w12.weight" in shapes else "mlp",
            **({} if f"{first}ls1.gamma" in shapes else {"layerscale": 0}),
            "qkv_bias": f"{first}attn.qkv.bias" in shapes,
            "proj_bias": f"{first}attn.proj.bias" in shapes,
            "ffn_bias": any(f"{first}mlp.{name}.bias" in shapes for name in ("fc1", "w12")),
            "num_register_tokens": shapes.get("register_tokens", (1, 0))[1],
        },
        "crops": {"global_crops_size": side * PATCH_SIZE},
    }
