"""Each published layout is told by its content, and its weights get the network's names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from neurosam3d.checkpoint_formats import formats_of, read_checkpoint, shorten, without_chunk
from neurosam3d.models.lora import lora_state
from tests.published import (
    DINOV2,
    DINOV2_SETTINGS,
    lightning_content,
    lora_network,
    sam_med3d_content,
    save,
    small_network,
    teacher_content,
)

HEADS = ["dino_head.mlp.0.weight", "ibot_head.last_layer.v"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return lora_network()


@pytest.mark.parametrize(
    ("make", "format_", "beside"),
    [
        (
            sam_med3d_content,
            "SAM-Med3D checkpoint",
            "epoch optimizer_state_dict lr_scheduler_state_dict losses dices best_loss best_dice "
            "args used_datas",
        ),
        (
            lightning_content,
            "Lightning checkpoint",
            "epoch global_step pytorch-lightning_version loops callbacks optimizer_states "
            "lr_schedulers hparams_name hyper_parameters",
        ),
        (lambda model: {**model.state_dict(), "note": "mine"}, "state dict", "note"),
        (lora_state, "LoRA alone", ""),
    ],
)
def test_pickled_layouts(
    tmp_path: Path, network: nn.Module, make: Any, format_: str, beside: str
) -> None:
    checkpoint = read_checkpoint(save(make(network), tmp_path / "file"))
    assert (checkpoint.format.name, " ".join(checkpoint.beside)) == (format_, beside)
    expected = lora_state(network) if format_ == "LoRA alone" else network.state_dict()
    assert list(checkpoint.names.values()) == list(expected)
    for key, name in checkpoint.names.items():
        assert torch.equal(checkpoint.weights[key], expected[name])
    assert checkpoint.shapes == {name: tuple(value.shape) for name, value in expected.items()}
    assert checkpoint.lora_names == list(lora_state(network))


def test_the_teachers_heads_are_not_taken_for_the_encoder(tmp_path: Path) -> None:
    content = teacher_content(small_network(name="dinov2", model_cfg=DINOV2_SETTINGS))
    checkpoint = read_checkpoint(save(content, tmp_path / "teacher.pth"))
    assert (checkpoint.format.name, checkpoint.beside) == (
        "3DINO teacher",
        ["iteration", "optimizer"],
    )
    assert [n for n in checkpoint.names.values() if not n.startswith(DINOV2)] == HEADS
    assert checkpoint.format.is_partial
    assert checkpoint.format.covers(f"{DINOV2}cls_token")
    assert not checkpoint.format.covers("mask_decoder.iou_token.weight")


@pytest.mark.parametrize(
    ("part", "format_"), [("", "safetensors"), (".lora_", "LoRA alone"), (DINOV2, "3DINO teacher")]
)
def test_safetensors_with_and_without_metadata(tmp_path: Path, part: str, format_: str) -> None:
    model = lora_network()
    if part == DINOV2:
        model = small_network(name="dinov2", model_cfg=DINOV2_SETTINGS)
    path = tmp_path / "file.safetensors"
    weights = {
        name.removeprefix(DINOV2): value
        for name, value in model.state_dict().items()
        if part in name
    }
    for metadata in (None, {"author": "someone"}):
        save_file(weights, path, metadata=metadata)
        checkpoint = read_checkpoint(path)
        assert (checkpoint.format.name, checkpoint.beside) == (format_, [])
        assert set(checkpoint.weights) == set(weights)


def test_every_network_reads_what_is_for_all_and_its_own() -> None:
    assert "3DINO teacher" in formats_of("dinov2")
    assert set(formats_of("dinov2")) - set(formats_of("vit_b")) == {"3DINO teacher"}
    assert len(formats_of("vit_b")) == 5


def test_groups_of_blocks_are_dropped_from_names() -> None:
    assert without_chunk(f"{DINOV2}blocks.1.6.ls1.gamma") == f"{DINOV2}blocks.6.ls1.gamma"
    for name in (f"{DINOV2}blocks.6.ls1.gamma", "image_encoder.blocks.1.6.x"):
        assert without_chunk(name) == name


def test_names_are_shortened() -> None:
    assert shorten("abc") == "a, b, c"
    assert shorten("abc", most=2) == "a, b and 1 more"
    assert shorten([]) == ""
