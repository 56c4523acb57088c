"""Low-rank additions: they start at nothing, touch what they should, merge and come apart."""

import pytest
import torch
from torch import nn

from neurosam3d.models import build_model
from neurosam3d.models.lora import (
    LoraConfig,
    LoraLinear,
    add_lora,
    lora_layers,
    lora_state,
    merge_lora,
    remove_lora,
    unmerge_lora,
)


def fill(layer: LoraLinear, seed: int = 0) -> None:
    """Give an adapted layer an addition that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.lora_a.copy_(torch.randn(layer.lora_a.shape, generator=generator))
        layer.lora_b.copy_(torch.randn(layer.lora_b.shape, generator=generator))


@pytest.fixture
def qkv() -> LoraLinear:
    """Queries and values of a fused layer of 4 inputs and 3 x 6 outputs, rank 2."""
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(4, 18), rank=2, scale=0.5, parts=(0, 2), num_parts=3)
    fill(layer)
    return layer


def test_a_fresh_addition_changes_nothing() -> None:
    base = nn.Linear(5, 7)
    x = torch.randn(2, 3, 5)
    expected = base(x)
    assert torch.equal(LoraLinear(base, rank=3)(x), expected)


def test_addition_is_scaled_product_of_factors_in_the_chosen_parts_only(qkv: LoraLinear) -> None:
    x = torch.randn(3, 4)
    plain = nn.functional.linear(x, qkv.weight, qkv.bias)
    change = (qkv(x) - plain).unflatten(-1, (3, 6))
    q = 0.5 * x @ qkv.lora_a[0].T @ qkv.lora_b[0].T
    v = 0.5 * x @ qkv.lora_a[1].T @ qkv.lora_b[1].T
    torch.testing.assert_close(change[:, 0], q, rtol=1e-4, atol=1e-5)
    assert torch.all(change[:, 1] == 0)
    torch.testing.assert_close(change[:, 2], v, rtol=1e-4, atol=1e-5)


def test_merged_layer_gives_the_same_and_comes_apart_again(qkv: LoraLinear) -> None:
    x, before = torch.randn(3, 4), qkv.weight.clone()
    expected = qkv(x)
    qkv.merge()
    qkv.merge()  # twice is once
    torch.testing.assert_close(qkv(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(qkv.weight, before + qkv.addition())
    qkv.unmerge()
    torch.testing.assert_close(qkv.weight, before, rtol=1e-6, atol=1e-6)


def test_state_dict_of_a_merged_layer_is_that_of_the_unmerged_one(qkv: LoraLinear) -> None:
    before = {name: value.clone() for name, value in qkv.state_dict().items()}
    qkv.merge()
    for name, value in qkv.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-6, atol=1e-6)


def test_training_unmerges(qkv: LoraLinear) -> None:
    qkv.eval().merge()
    qkv.train()
    assert not qkv.merged
    qkv(torch.randn(2, 4)).sum().backward()
    assert qkv.lora_b.grad is not None
    assert torch.count_nonzero(qkv.lora_b.grad)


def test_outputs_must_divide_into_the_parts() -> None:
    with pytest.raises(ValueError, match="20 outputs must divide into 3"):
        LoraLinear(nn.Linear(4, 20), rank=2, num_parts=3)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    return build_model("vit_tiny", image_size=32, published_quirks=False).eval()


def test_network_keeps_its_names_and_its_answer(network: nn.Module) -> None:
    image = torch.randn(1, 1, 32, 32, 32)
    expected, names = network.image_encoder(image), set(network.state_dict())
    adapted = add_lora(network.image_encoder, LoraConfig(rank=2))
    assert adapted == [f"blocks.{i}.attn.qkv" for i in range(4)]
    assert names < set(network.state_dict())
    torch.testing.assert_close(network.image_encoder(image), expected)


def test_any_linear_layer_can_be_a_target(network: nn.Module) -> None:
    config = LoraConfig(targets=("q_proj", "mlp.lin1"))
    names = add_lora(network, config)
    assert any(name.endswith("q_proj") for name in names)
    assert sum(name.endswith("mlp.lin1") for name in names) == 4 + 2  # encoder, transformer
    assert all(len(layer.parts) == layer.num_parts == 1 for _, layer in lora_layers(network))


@pytest.mark.parametrize("undo", [False, True])
def test_whole_network_merges_unmerges_and_becomes_plain(network: nn.Module, undo: bool) -> None:
    names = list(network.state_dict())
    add_lora(network.image_encoder, LoraConfig(rank=2, alpha=1.0))
    for index, (_, layer) in enumerate(lora_layers(network)):
        fill(layer, index)
        layer.lora_b.data *= 0.01
    image = torch.randn(1, 1, 32, 32, 32)
    expected = network.image_encoder(image)
    merge_lora(network)
    if undo:
        unmerge_lora(network)
    remove_lora(network)
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network.image_encoder(image), expected, rtol=1e-4, atol=1e-4)


def test_state_of_the_additions_alone(network: nn.Module) -> None:
    add_lora(network.image_encoder, LoraConfig(rank=3, parts="q"))
    state = lora_state(network)
    assert set(state) == {
        f"image_encoder.blocks.{i}.attn.qkv.{factor}"
        for i in range(4)
        for factor in ("lora_a", "lora_b")
    }
    assert state["image_encoder.blocks.0.attn.qkv.lora_a"].shape == (1, 3, 192)
    assert state["image_encoder.blocks.0.attn.qkv.lora_b"].shape == (1, 192, 3)


def test_adapting_twice_is_refused(network: nn.Module) -> None:
    add_lora(network, LoraConfig())
    with pytest.raises(ValueError, match="LoRA layers already"):
        add_lora(network, LoraConfig())


def test_a_target_that_is_not_there_is_named_with_those_that_are(network: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"no linear layer is named 'kv'; there are .*attn\.qkv"):
        add_lora(network, LoraConfig(targets=("attn.qkv", "kv")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "at least 1, got 0"),
        ({"alpha": -1.0}, "positive, got -1"),
        ({"targets": ()}, "at least one layer name"),
        ({"parts": "vq"}, "got 'vq'"),
        ({"parts": ""}, "got ''"),
    ],
)
def test_unfit_values_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**values)


def test_scale_is_alpha_over_rank() -> None:
    assert LoraConfig(rank=8, alpha=4.0).scale == 0.5
    assert LoraConfig(rank=8).scale == 1.0
