"""From settings to DINOv2's configuration, and from weights back to settings."""

from typing import Any

import pytest
import torch

from neurosam3d.models.dinov2_3d import DinoV2Trunk
from neurosam3d.models.dinov2_config import DinoV2Config, parse_settings, recognise_settings
from neurosam3d.network_config import read_network_config


def test_the_shipped_settings_are_3dinos_teacher() -> None:
    assert parse_settings(read_network_config("train/vit3d_highres")) == DinoV2Config(
        dim=1024,
        depth=24,
        num_heads=16,
        patch_size=16,
        position_side=7,
        block_chunks=4,
        layer_scale=1e-5,
        ffn="mlp",
        num_registers=0,
        qkv_bias=True,
        proj_bias=True,
        ffn_bias=True,
        out_dim=384,
    )


def test_every_field_is_heard() -> None:
    student = {
        "arch": "vit_tiny_3d",
        "layerscale": 0,
        "ffn_layer": "swiglufused",
        "block_chunks": 2,
        "qkv_bias": False,
        "proj_bias": False,
        "ffn_bias": False,
        "num_register_tokens": 4,
        "drop_path_rate": 0.3,  # the student's alone
    }
    settings = read_network_config({"student": student, "crops": {"global_crops_size": 80}})
    assert parse_settings(settings) == DinoV2Config(
        dim=96,
        depth=4,
        num_heads=3,
        position_side=5,
        block_chunks=2,
        layer_scale=0.0,
        ffn="swiglu",
        num_registers=4,
        qkv_bias=False,
        proj_bias=False,
        ffn_bias=False,
    )


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"layer_scale": 1}, r"unknown field student\.layer_scale; known: arch, patch_size, layer"),
        ({"arch": "vit_large"}, r"student\.arch must be one of .*vit_large_3d.*, got 'vit_large'"),
        ({"arch": ["vit_large_3d"]}, r"student\.arch must be one of"),
        ({"patch_size": 8}, r"student\.patch_size must be 16, got 8"),
        ({"layerscale": -1}, r"student\.layerscale must be a number >= 0, got -1"),
        ({"layerscale": "small"}, r"student\.layerscale must be a number >= 0, got 'small'"),
        ({"ffn_layer": "moe"}, r"student\.ffn_layer must be one of mlp, swiglu, .* got 'moe'"),
        ({"block_chunks": 2.5}, r"student\.block_chunks must be a whole number >= 0, got 2\.5"),
        ({"block_chunks": 5}, "block_chunks must be 0 or divide the 24 blocks, got 5"),
        ({"qkv_bias": 1}, r"student\.qkv_bias must be true or false, got 1"),
        ({"num_register_tokens": True}, r"num_register_tokens must be a whole number >= 0, got T"),
        ({"num_register_tokens": None}, r"num_register_tokens must be a whole number >= 0, got N"),
    ],
)
def test_unfit_settings_are_refused(student: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_settings(read_network_config({"student": student}))


@pytest.mark.parametrize("size", [100, 0, 112.0, "112", None])
def test_crops_must_be_whole_patches(size: Any) -> None:
    settings = read_network_config({"crops": {"global_crops_size": size}})
    with pytest.raises(ValueError, match=r"global_crops_size must be a positive multiple of 16"):
        parse_settings(settings)


@pytest.mark.parametrize(
    "student",
    [
        {"arch": "vit_large_3d"},
        {"arch": "vit_tiny_3d", "block_chunks": 0, "ffn_layer": "swiglu", "ffn_bias": False},
        {"arch": "vit_small_3d", "block_chunks": 3, "num_register_tokens": 4, "qkv_bias": False},
        {"arch": "vit_base_3d", "layerscale": 0, "proj_bias": False},
        {"arch": "vit_giant2_3d", "block_chunks": 1, "ffn_layer": "swiglu"},
    ],
    ids=str,
)
def test_weights_tell_their_settings(student: dict[str, Any]) -> None:
    given = {"student": student, "crops": {"global_crops_size": 48}}
    config = parse_settings(read_network_config(given))
    with torch.device("meta"):
        state = DinoV2Trunk(config).state_dict()
    found = recognise_settings({name: tuple(value.shape) for name, value in state.items()})
    assert found is not None
    assert parse_settings(read_network_config(found)) == config


def test_weights_of_another_size_tell_nothing() -> None:
    config = DinoV2Config(dim=24, depth=2, num_heads=2, block_chunks=0)
    shapes = {name: tuple(v.shape) for name, v in DinoV2Trunk(config).state_dict().items()}
    assert recognise_settings(shapes) is None
    assert recognise_settings({}) is None
