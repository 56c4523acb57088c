"""`neurosam3d inspect`: what a file is and what would load, with nothing run or built."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import neurosam3d.__main__ as program
from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.commands.inspect import describe_file
from neurosam3d.models import build_model
from neurosam3d.models.lora import LoraConfig
from tests.published import (
    DINOV2_SETTINGS,
    lightning_content,
    lora_content,
    lora_network,
    sam_med3d_content,
    save,
    small_network,
    teacher_content,
)

FATES = ("loaded", "resized", "missing", "unexpected", "mismatched")


def main(arguments: Sequence[str]) -> int:
    """Run the verb as a user does; return the exit code."""
    with pytest.raises(SystemExit) as end:
        program.main(["inspect", *arguments])
    return int(end.value.code or 0)


def _counts(facts: dict[str, Any]) -> list[int]:
    return [len(facts["fit"][fate]) for fate in FATES]


def test_a_published_file(tmp_path: Path) -> None:
    path = save(sam_med3d_content(small_network()), tmp_path / "sam_med3d.pth")
    facts = describe_file(path)
    assert (facts["file"], facts["format"]) == (str(path), "SAM-Med3D checkpoint")
    assert facts["network"] == {
        "name": "vit_tiny",
        "options": {"image_size": 32, "mask_stride": 4, "box_prompts": False},
        "lora": None,
        "feeding": {},
        "classes": [],
    }
    assert facts["parts"]["prompt_encoder"] == {
        "tensors": 15,
        "elements": 9052,
        "types": ["float32"],
    }
    assert facts["says"] == {"task_name": "union", "model_type": "vit_tiny", "gpu_ids": [0, 1]}
    assert facts["beside"][:2] == ["epoch", "optimizer_state_dict"]
    assert _counts(facts) == [204, 0, 0, 0, 0]
    assert facts["fit"]["problem"] is None


def test_a_run_with_lora(tmp_path: Path) -> None:
    config = LoraConfig(rank=2, alpha=1.0)
    content = lora_content(lora_network(config=config), config)
    content["state_dict"]["mask_loss.weight"] = torch.ones(3, dtype=torch.float16)
    facts = describe_file(save(content, tmp_path / "last.ckpt"))
    assert facts["network"]["lora"] == {
        "rank": 2,
        "alpha": 1.0,
        "targets": ["attn.qkv"],
        "parts": "qv",
    }
    assert facts["network"]["feeding"] == {"intensity": "sam_med3d", "spacing": [1.5, 1.5, 2.0]}
    assert facts["parts"]["LoRA"] == {"tensors": 8, "elements": 6144, "types": ["float32"]}
    assert facts["parts"]["other"] == {"tensors": 1, "elements": 3, "types": ["float16"]}
    assert facts["fit"]["unexpected"] == ["mask_loss.weight"]
    assert _counts(facts) == [212, 0, 0, 1, 0]


def test_a_teacher(tmp_path: Path) -> None:
    model = small_network(name="dinov2", model_cfg=DINOV2_SETTINGS)
    facts = describe_file(save(teacher_content(model), tmp_path / "teacher.pth"))
    assert facts["network"]["name"] == "dinov2"
    assert facts["parts"].keys() == {"image_encoder", "other"}
    assert facts["fit"]["about"] == "the image encoder"
    assert facts["fit"]["unexpected"] == ["dino_head.mlp.0.weight", "ibot_head.last_layer.v"]


@pytest.mark.parametrize("name", [None, "vit_tiny"])
def test_what_is_said_would_load_is_what_loads(tmp_path: Path, name: str | None) -> None:
    content = lightning_content(small_network(mask_stride=1))
    del content["state_dict"]["model.mask_decoder.iou_token.weight"]
    content["state_dict"]["model.mask_decoder.mask_tokens.weight"] = torch.zeros(3, 384)
    path = save(content, tmp_path / "last.ckpt")
    facts, report = describe_file(path, name), load_weights(load_model(path), path)
    for fate in FATES:
        assert facts["fit"][fate] == getattr(report, fate)
    assert _counts(facts)[2:] == [1, 0, 1]


def test_another_network_does_not_fit(tmp_path: Path) -> None:
    path = save(small_network().state_dict(), tmp_path / "weights.pt")
    facts = describe_file(path, "vit_b")
    assert "must fill at least half of the network's parameter elements" in facts["fit"]["problem"]
    assert len(facts["fit"]["mismatched"]) > 10


def test_weights_of_an_unknown_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save({"features.0.weight": torch.zeros(2, 3), "n": 4}, tmp_path / "weights.pt")
    facts = describe_file(path)
    assert (facts["network"]["name"], facts["fit"]) == (None, None)
    assert facts["parts"] == {"other": {"tensors": 1, "elements": 6, "types": ["float32"]}}
    assert main([str(path)]) == 0
    assert "unknown; --model compares with one of vit_tiny" in capsys.readouterr().out


def test_metadata_of_others_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"author": "someone"})
    assert describe_file(path)["says"] == {"author": "someone"}


def test_json_is_json_whatever_a_file_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = lightning_content(
        small_network(), folder=Path("work_dir/x"), best=float("inf"), sizes=(1, 2)
    )
    assert main([str(save(content, tmp_path / "last.ckpt")), "--json"]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    facts = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert facts["says"]["folder"] == "work_dir/x"
    assert facts["says"]["best"] == "inf"
    assert facts["says"]["sizes"] == [1, 2]
    assert len(facts["fit"]["loaded"]) == 204


@pytest.mark.parametrize("width", [80, 120])
def test_tables_keep_to_the_width_and_say_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    save(lightning_content(small_network(), notes="[bold]" * 40), Path("[a]last.ckpt"))
    assert main(["[a]last.ckpt"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert "[a]last.ckpt (56." in text
    assert "[bold]" in text
    assert text.endswith("It loads into vit_tiny, to fill the network.\n")
    assert main(["[a]last.ckpt", "--model", "vit_b"]) == 0
    assert "It does not load: [a]last.ckpt must fill at least" in capsys.readouterr().out


def test_the_largest_network_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[nn.Module] = []

    def build(name: str, **overrides: Any) -> nn.Module:
        built.append(build_model(name, **overrides))
        return built[-1]

    monkeypatch.setattr("neurosam3d.checkpoints.build_model", build)
    describe_file(save({"w": torch.zeros(1)}, tmp_path / "weights.pt"), "vit_h")
    (model,) = built
    assert all(value.is_meta for value in model.state_dict().values())


def test_nothing_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'trap'}",)

    path = save({"model_state_dict": {"w": torch.ones(1)}, "args": Trap()}, tmp_path / "evil.pth")
    assert main([str(path)]) == 2
    assert "posix.system, which is not loaded" in capsys.readouterr().err
    assert not (tmp_path / "trap").exists()
