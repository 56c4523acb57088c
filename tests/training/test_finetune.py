"""What learns under each way of fine-tuning, and how fast each layer does."""

import pytest
import torch
from torch import nn

from neurosam3d.models import build_model
from neurosam3d.models.lora import LoraConfig
from neurosam3d.training.finetune import block_index, count_blocks, limit_learning
from neurosam3d.training.optim import parameter_groups


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_model("vit_tiny", image_size=32, published_quirks=False)


def learning(encoder: nn.Module) -> set[str]:
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("blocks.3.attn.qkv.weight", 3),
        ("model.blocks.1.6.attn.qkv.weight", 6),
        ("trunk.blocks.12.mlp.layers.0.bias", 12),
        ("blocks.0.mlp.lin1.weight", 0),
        ("neck.0.weight", None),
        ("pos_embed", None),
    ],
)
def test_block_of_a_parameter(name: str, index: int | None) -> None:
    assert block_index(name) == index


def test_full_freezes_nothing(network: nn.Module) -> None:
    before = learning(network.image_encoder)
    assert limit_learning(network.image_encoder, "full") == []
    assert learning(network.image_encoder) == before


def test_last_blocks_and_neck_learn(network: nn.Module) -> None:
    encoder = network.image_encoder
    every = learning(encoder)
    frozen = limit_learning(encoder, "last", last_blocks=1)
    assert learning(encoder) == {n for n in every if n.startswith(("blocks.3.", "neck."))}
    assert set(frozen) == every - learning(encoder)
    assert "pos_embed" in frozen


def test_frozen_leaves_the_neck(network: nn.Module) -> None:
    limit_learning(network.image_encoder, "frozen")
    assert {name.split(".")[0] for name in learning(network.image_encoder)} == {"neck"}


def test_lora_leaves_the_additions_and_the_neck(network: nn.Module) -> None:
    limit_learning(network.image_encoder, "lora", lora=LoraConfig(rank=2))
    names = {n for n in learning(network.image_encoder) if not n.startswith("neck.")}
    assert len(names) == 2 * 4
    assert all(name.endswith((".lora_a", ".lora_b")) for name in names)


def test_gradients_reach_what_learns_and_nothing_else(network: nn.Module) -> None:
    encoder = network.image_encoder
    limit_learning(encoder, "lora")
    encoder(torch.randn(1, 1, 32, 32, 32)).square().sum().backward()
    reached = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert reached == learning(encoder)


def test_what_was_frozen_before_stays_frozen(network: nn.Module) -> None:
    network.image_encoder.neck[0].weight.requires_grad_(False)
    limit_learning(network.image_encoder, "last", last_blocks=4)
    assert "neck.0.weight" not in learning(network.image_encoder)


@pytest.mark.parametrize("number", [0, 5])
def test_number_of_blocks_must_be_there(network: nn.Module, number: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 4 can learn, got {number}"):
        limit_learning(network.image_encoder, "last", last_blocks=number)


def test_unknown_mode_is_refused(network: nn.Module) -> None:
    with pytest.raises(
        ValueError, match="unknown finetune 'head'; known: full, last, lora, frozen"
    ):
        limit_learning(network.image_encoder, "head")  # type: ignore[arg-type]


def test_rates_fall_from_block_to_block(network: nn.Module) -> None:
    assert count_blocks(network.image_encoder) == 4
    groups = parameter_groups(network, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    rates = {group["name"]: group["lr"] for group in groups}
    expected = {f"image_encoder_layer{layer}": 0.5 ** (5 - layer) for layer in range(6)}
    expected |= {f"{name}_tables": rate for name, rate in expected.items()}
    assert {n: r for n, r in rates.items() if n.startswith("image")} == pytest.approx(expected)
    assert rates["mask_decoder"] == pytest.approx(0.1)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


def test_layers_hold_what_belongs_to_them(network: nn.Module) -> None:
    groups = {
        group["name"]: {id(p) for p in group["params"]}
        for group in parameter_groups(network, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    }
    encoder = network.image_encoder
    assert id(encoder.pos_embed) in groups["image_encoder_layer0_tables"]
    assert id(encoder.patch_embed.proj.weight) in groups["image_encoder_layer0"]
    assert id(encoder.blocks[2].attn.qkv.weight) in groups["image_encoder_layer3"]
    assert id(encoder.blocks[2].attn.rel_pos_d) in groups["image_encoder_layer3_tables"]
    assert id(encoder.neck[0].weight) in groups["image_encoder_layer5"]


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_layer_decay_has_a_range(network: nn.Module, value: float) -> None:
    with pytest.raises(ValueError, match=f"got {value}"):
        parameter_groups(network, lr=1.0, weight_decay=0.1, layer_decay=value)
