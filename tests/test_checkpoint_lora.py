"""Low-rank additions in files: they come with what scales them, or not at all."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from neurosam3d.checkpoint_formats import read_checkpoint
from neurosam3d.checkpoint_lora import merged_weights
from neurosam3d.checkpoints import load_model, load_weights, match_weights, outline_network
from neurosam3d.models import Sam3D
from neurosam3d.models.lora import LoraConfig, add_lora, lora_layers, lora_state, remove_lora
from neurosam3d.recognise import Identity, encode_metadata, identify
from tests.published import (
    DINOV2_SETTINGS,
    assert_equal,
    lightning_content,
    lora_content,
    lora_network,
    save,
    small_network,
)

CONFIG = LoraConfig(rank=2, alpha=1.0, targets=("attn.qkv", "mlp.lin1"), parts="qv")


@pytest.fixture(scope="module")
def source() -> Sam3D:
    """Return a network whose encoder has additions; the decoder has layers of the same names."""
    return lora_network(seed=2, config=CONFIG)


def _save_lora(model: nn.Module, path: Path, config: LoraConfig = CONFIG) -> Path:
    values = Identity("vit_tiny", {"image_size": 32, "mask_stride": 4}, config).to_values()
    save_file(lora_state(model), path, metadata=encode_metadata(values))
    return path


def _scales(model: nn.Module) -> set[float]:
    return {layer.scale for _, layer in lora_layers(model)}


def test_a_checkpoint_of_training_with_lora_makes_the_same_network(
    tmp_path: Path, source: Sam3D
) -> None:
    path = save(lora_content(source, CONFIG), tmp_path / "last.ckpt")
    model = load_model(path)
    assert_equal(model, source)
    assert _scales(model) == {0.5}
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = source.eval().image_encoder(image)
        torch.testing.assert_close(model.image_encoder(image), expected)
        remove_lora(model)  # only with the right scale and parts do the weights become the same
        torch.testing.assert_close(model.image_encoder(image), expected, rtol=1e-3, atol=1e-3)


def test_additions_alone_go_into_a_plain_network_and_leave_its_weights(
    tmp_path: Path, source: Sam3D
) -> None:
    model = small_network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_weights(model, _save_lora(source, tmp_path / "lora.safetensors"))
    assert report.format == "LoRA alone"
    assert report.loaded == list(lora_state(source))
    assert report.missing == list(before)
    assert not report.unexpected + report.mismatched
    state = model.state_dict()
    for name, value in {**before, **lora_state(source)}.items():
        assert torch.equal(state[name], value), name
    assert _scales(model) == {0.5}


def test_additions_alone_replace_the_same_ones_and_merged_weights_come_apart(
    tmp_path: Path, source: Sam3D
) -> None:
    model = lora_network(seed=3, config=CONFIG)
    weight = model.image_encoder.blocks[0].attn.qkv.weight.clone()
    for _, layer in lora_layers(model):
        layer.merge()
    load_weights(model, _save_lora(source, tmp_path / "lora.safetensors"))
    torch.testing.assert_close(model.image_encoder.blocks[0].attn.qkv.weight, weight)
    for name, value in lora_state(source).items():
        assert torch.equal(model.state_dict()[name], value)


def test_a_network_from_additions_alone_comes_with_a_warning(
    tmp_path: Path, source: Sam3D, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(_save_lora(source, tmp_path / "lora.safetensors"))
    assert isinstance(model, Sam3D)
    assert model.image_size == 32
    assert set(lora_state(model)) == set(lora_state(source))
    assert "fills only *.lora_[ab] of vit_tiny; the rest is random" in caplog.text


@pytest.mark.parametrize(
    ("change", "mine"),
    [
        ({"rank": 3, "alpha": 1.5}, "rank 3, scale 0.5, parts qv, on 8 layers"),
        ({"alpha": None}, "rank 2, scale 1, parts qv, on 8 layers"),
        ({"parts": "qk"}, "rank 2, scale 0.5, parts qk, on 8 layers"),
        ({"parts": "v"}, "rank 2, scale 0.5, parts v, on 8 layers"),
        ({"targets": ("attn.qkv",)}, "rank 2, scale 0.5, parts qv, on 4 layers"),
    ],
    ids=str,
)
def test_other_additions_are_refused_in_a_sentence(
    tmp_path: Path, source: Sam3D, change: dict[str, Any], mine: str
) -> None:
    config = LoraConfig(**{**CONFIG.to_dict(), "targets": CONFIG.targets, **change})
    model = lora_network(config=config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = _save_lora(source, tmp_path / "lora.safetensors")
    theirs = "rank 2, scale 0.5, parts qv, on 8 layers"
    message = re.escape(f"{path} must be the network's ({mine}), got {theirs}")
    with pytest.raises(ValueError, match=message):
        load_weights(model, path)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_additions_to_layers_that_are_not_there_are_refused(tmp_path: Path, source: Sam3D) -> None:
    state = {name.replace("blocks.3", "blocks.9"): v for name, v in lora_state(source).items()}
    path = tmp_path / "lora.safetensors"
    save_file(state, path, metadata=encode_metadata(Identity("vit_tiny", {}, CONFIG).to_values()))
    model = small_network()
    with pytest.raises(
        ValueError, match=r"fit the network's .* got image_encoder\.blocks\.9\.attn"
    ):
        load_weights(model, path)
    assert not list(lora_layers(model))


def test_additions_without_a_scale_are_refused_but_fit_a_network_that_has_one(
    tmp_path: Path, source: Sam3D
) -> None:
    path, plain = save(source.state_dict(), tmp_path / "weights.pt"), small_network()
    for load in (lambda: load_weights(plain, path), lambda: load_model(path)):
        with pytest.raises(ValueError, match="must say how its LoRA is scaled"):
            load()
    assert not list(lora_layers(plain))
    model = lora_network(config=CONFIG)
    load_weights(model, path)
    assert_equal(model, source)


def test_factors_of_another_rank_than_is_said_are_refused_and_nothing_is_added(
    tmp_path: Path, source: Sam3D
) -> None:
    wrong = LoraConfig(rank=4, alpha=2.0, targets=CONFIG.targets)
    model = small_network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="must have the shapes that it says it has"):
        load_weights(model, save(lora_content(source, wrong), tmp_path / "last.ckpt"))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_layers_are_found_however_blocks_are_grouped(tmp_path: Path) -> None:
    def network(chunks: int) -> Sam3D:
        student = {**DINOV2_SETTINGS["student"], "block_chunks": chunks}
        settings = {**DINOV2_SETTINGS, "student": student}
        return small_network(name="dinov2", model_cfg=settings)

    source, config = network(2), LoraConfig(rank=2)
    add_lora(source.image_encoder, config)
    content = lora_content(source, config)
    model = network(0)
    report = load_weights(model, save(content, tmp_path / "last.ckpt"))
    assert not report.missing + report.unexpected + report.mismatched
    pairs = zip(lora_state(model).items(), lora_state(source).values(), strict=True)
    for (name, value), expected in pairs:
        assert torch.equal(value, expected), name


def test_files_without_additions_fit_an_adapted_network(tmp_path: Path) -> None:
    source, model = small_network(seed=2), lora_network()
    report = load_weights(model, save(lightning_content(source), tmp_path / "last.ckpt"))
    assert report.missing == list(lora_state(model))


def test_merged_weights_are_those_of_the_plain_network(tmp_path: Path, source: Sam3D) -> None:
    checkpoint = read_checkpoint(save(lora_content(source, CONFIG), tmp_path / "last.ckpt"))
    model = outline_network(checkpoint, identify(checkpoint))
    _, weights = match_weights(model, checkpoint)
    merged = merged_weights(model, weights)
    expected = load_model(checkpoint.path)
    remove_lora(expected)
    torch.testing.assert_close(merged, dict(expected.state_dict()), rtol=0, atol=0)
    original = source.image_encoder.blocks[0].attn.qkv.weight
    assert torch.equal(weights["image_encoder.blocks.0.attn.qkv.weight"], original)
