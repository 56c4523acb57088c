"""`neurosam3d convert`: there and back with the same bits, and nothing lost without a word."""

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import Tensor

import neurosam3d.__main__ as program
from neurosam3d.checkpoint_formats import read_checkpoint
from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.models import Sam3D
from neurosam3d.models.lora import LoraConfig, lora_state, remove_lora
from neurosam3d.recognise import identify
from tests.published import (
    DINOV2,
    DINOV2_SETTINGS,
    assert_equal,
    lightning_content,
    lora_content,
    lora_network,
    sam_med3d_content,
    save,
    small_network,
    teacher_content,
)

LORA = LoraConfig(rank=2, alpha=1.0)
REFERENCE = Path(__file__).parent.parent / "reference"


def main(arguments: Sequence[str]) -> int:
    """Run the verb as a user does; return the exit code."""
    with pytest.raises(SystemExit) as end:
        program.main(["convert", *arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def source() -> Sam3D:
    return small_network(seed=2, published_quirks=False)


@pytest.fixture(scope="module")
def adapted() -> Sam3D:
    return lora_network(seed=2, config=LORA)


@pytest.fixture
def published(tmp_path: Path, source: Sam3D) -> Path:
    """Write a SAM-Med3D checkpoint and return its path."""
    return save(sam_med3d_content(source), tmp_path / "sam_med3d.pth")


@pytest.fixture
def last(tmp_path: Path, adapted: Sam3D) -> Path:
    """Write a checkpoint of training with LoRA and return its path."""
    return save(lora_content(adapted, LORA), tmp_path / "last.ckpt")


def _convert(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run with a mistake; return its sentence."""
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def _same(path: Path, expected: dict[str, Tensor]) -> bool:
    weights = read_checkpoint(path).weights
    return weights.keys() == expected.keys() and all(
        torch.equal(weights[name], value) and weights[name].dtype == value.dtype
        for name, value in expected.items()
    )


def test_a_round_trip_through_every_kind_gives_the_same_bits(
    published: Path, source: Sam3D, tmp_path: Path
) -> None:
    names = ("1.safetensors", "2.pt", "3.safetensors", "4.pth")
    steps = [published, *(tmp_path / name for name in names)]
    for before, after in pairwise(steps):
        _convert(before, after)
        assert _same(after, source.state_dict())
    assert_equal(load_model(steps[-1]), source)


def test_half_precision_stays_half(tmp_path: Path, source: Sam3D) -> None:
    weights = {name: value.bfloat16() for name, value in source.state_dict().items()}
    _convert(save(weights, tmp_path / "half.pt"), tmp_path / "half.safetensors")
    assert _same(tmp_path / "half.safetensors", weights)


@pytest.mark.parametrize("stride", [4, 1])
def test_a_pth_file_has_the_names_that_the_published_programs_ask_for(
    tmp_path: Path, stride: int
) -> None:
    model = small_network(mask_stride=stride)
    content = lightning_content(model, work_dir="./work_dir", lr=1e-3)
    _convert(save(content, tmp_path / "last.ckpt"), tmp_path / "out.pth")
    state = torch.load(tmp_path / "out.pth", weights_only=True)["model_state_dict"]
    file = "upstream_vit_b_ori" if stride == 4 else "vit_b_ori"
    keys = json.loads((REFERENCE / f"keys_{file}.json").read_text(encoding="utf-8"))["state_dict"]
    beyond = tuple(f"image_encoder.blocks.{index}." for index in range(4, 12))
    assert set(state) == {name for name in keys if not name.startswith(beyond)}


def test_metadata_say_how_to_build_and_feed_the_network(tmp_path: Path, source: Sam3D) -> None:
    content = lightning_content(
        source, published_quirks=False, intensity="neurosam3d", spacing=(1.5, 1.25, 2.0)
    )
    path, out = save(content, tmp_path / "last.ckpt"), tmp_path / "liver.safetensors"
    _convert(path, out, "--licence", "CC BY 4.0")
    with safetensors.safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert metadata == {
        "format": "pt",
        "neurosam3d_format": "1",
        "model_type": "vit_tiny",
        "img_size": "32",
        "mask_stride": "4",
        "box_prompts": "false",
        "published_quirks": "false",
        "intensity": "neurosam3d",
        "spacing": "[1.5, 1.25, 2.0]",
        "licence": "CC BY 4.0",
        "source": "last.ckpt",
    }
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = source.eval().image_encoder(image)
        torch.testing.assert_close(load_model(out).image_encoder(image), expected)


def test_the_licence_goes_along(published: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.safetensors", "b.pth", "c.safetensors"))
    _convert(published, first, "--licence", "Apache-2.0")
    _convert(first, second)
    _convert(second, third)
    with safetensors.safe_open(third, framework="pt") as file:
        assert file.metadata()["licence"] == "Apache-2.0"
        assert file.metadata()["source"] == "b.pth"


def test_what_is_left_out_is_said(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _convert(published, tmp_path / "out.safetensors")
    text = capsys.readouterr().out
    assert "out.safetensors: safetensors of vit_tiny, 204 tensors, 14,214,256 parameters, " in text
    assert "left out: epoch, optimizer_state_dict, lr_scheduler_state_dict, losses, " in text
    assert "not in IN" not in text
    _convert(tmp_path / "out.safetensors", tmp_path / "out.pt")
    text = capsys.readouterr().out
    assert "no place in a state dict for: model_type vit_tiny, img_size 32, " in text
    assert "left out" not in text


def test_weights_that_are_not_there_are_counted(
    tmp_path: Path, source: Sam3D, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {n: v for n, v in source.state_dict().items() if not n.startswith("prompt_encoder.")}
    _convert(
        save(weights, tmp_path / "part.pt"), tmp_path / "part.safetensors", "--model", "vit_tiny"
    )
    assert "not in IN: 15 tensors, prompt_encoder.pe_layer." in capsys.readouterr().out


def test_lora_alone_and_back_into_the_published_weights(
    last: Path, adapted: Sam3D, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lora.safetensors"
    _convert(last, out, "--lora")
    assert _same(out, lora_state(adapted))
    assert "the weights that LoRA adds to" in capsys.readouterr().out
    assert out.stat().st_size < 40_000
    plain = {name: v for name, v in adapted.state_dict().items() if ".lora_" not in name}
    model = small_network()
    load_weights(model, save(plain, tmp_path / "plain.pt"))
    load_weights(model, out)
    assert_equal(model, adapted)
    assert identify(read_checkpoint(out)).lora == LORA


def test_lora_merges_into_a_plain_network(last: Path, tmp_path: Path) -> None:
    _convert(last, tmp_path / "merged.pth", "--merge")
    assert "lora_rank" not in torch.load(tmp_path / "merged.pth", weights_only=True)["args"]
    expected = load_model(last)
    remove_lora(expected)
    assert_equal(load_model(tmp_path / "merged.pth"), expected)


def test_safetensors_keep_a_network_and_its_lora(
    last: Path, adapted: Sam3D, tmp_path: Path
) -> None:
    _convert(last, tmp_path / "whole.safetensors")
    model = load_model(tmp_path / "whole.safetensors")
    assert_equal(model, adapted)
    assert model.image_encoder.blocks[0].attn.qkv.scale == 0.5


def test_a_teacher_stays_one_and_loses_the_heads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_network(name="dinov2", model_cfg=DINOV2_SETTINGS)
    path = save(teacher_content(model), tmp_path / "teacher.pth")
    expected = {
        name.removeprefix(DINOV2): value
        for name, value in model.state_dict().items()
        if name.startswith(DINOV2)
    }
    for out in (tmp_path / "teacher.safetensors", tmp_path / "teacher.pt"):
        _convert(path, out)
        assert _same(out, expected)
        assert read_checkpoint(out).format.name == "3DINO teacher"
    text = capsys.readouterr().out
    assert "left out: dino_head.mlp.0.weight, ibot_head.last_layer.v, iteration, optim" in text
    assert "whole networks, got the image encoder alone" in _fails(capsys, path, tmp_path / "a.pth")


def test_nothing_is_overwritten_without_force(
    published: Path, source: Sam3D, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pt"
    out.write_text("precious", encoding="utf-8")
    assert f"unless --force is given, got {out}" in _fails(capsys, published, out)
    assert out.read_text(encoding="utf-8") == "precious"
    _convert(published, out, "--force")
    assert _same(out, source.state_dict())
    _convert(out, out, "--force")  # onto itself
    assert _same(out, source.state_dict())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["last.ckpt", "out.pth"], "only safetensors say how LoRA is scaled, got the format sam_"),
        (["last.ckpt", "out.pt", "--lora"], "got the format bare; --merge makes a plain network"),
        (["sam_med3d.pth", "out.pth", "--lora"], "--lora needs a file with LoRA, got "),
        (["sam_med3d.pth", "out.pth", "--merge"], "--merge needs a file with LoRA, got "),
        (["sam_med3d.pth", "out.ckpt"], "one of .pth, .pt, .safetensors, .tar, got 'out.ckpt'"),
        (["sam_med3d.pth", "out.pt", "--licence", "MIT"], "has no place for a licence"),
        (["sam_med3d.pth", ".", "--format", "bare"], "OUT must be a file, got the folder"),
        (["none.pth", "out.pt"], "there is no checkpoint "),
        (["sam_med3d.pth", "out.pt", "--model", "vit_b"], "must fill at least half"),
        (["sam_med3d.pth", "out.pt", "--model", "vit_x"], "argument --model: invalid choice"),
        (["sam_med3d.pth", "out.pt", "--lora", "--merge"], "not allowed with argument --lora"),
        (["sam_med3d.pth"], "the following arguments are required: OUT"),
    ],
)
@pytest.mark.usefixtures("published", "last")
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    paths = [str(tmp_path / name) if "." in name else name for name in arguments]
    before = sorted(tmp_path.iterdir())
    assert sentence in _fails(capsys, *paths)
    assert sorted(tmp_path.iterdir()) == before


def test_lora_alone_has_nothing_to_merge_into(
    last: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _convert(last, tmp_path / "lora.safetensors", "--lora")
    out = tmp_path / "merged.safetensors"
    sentence = _fails(capsys, tmp_path / "lora.safetensors", out, "--merge")
    assert "LoRA merges into weights of the same file, got none for " in sentence


def test_weights_of_other_shapes_are_not_converted(
    tmp_path: Path, source: Sam3D, capsys: pytest.CaptureFixture[str]
) -> None:
    weights: dict[str, Any] = dict(source.state_dict())
    weights["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    sentence = _fails(capsys, save(weights, tmp_path / "in.pt"), tmp_path / "out.pth")
    assert "must fit vit_tiny as it is to be converted, got other shapes for mask_dec" in sentence


def test_an_unknown_network_must_be_named(
    tmp_path: Path, source: Sam3D, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {n: v for n, v in source.state_dict().items() if ".blocks.3." not in n}
    path = save(weights, tmp_path / "in.pt")
    sentence = _fails(capsys, path, tmp_path / "out.pth")
    assert "cannot tell which network " in sentence
    assert "name one of vit_tiny, " in sentence


def test_nothing_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'trap'}",)

    path = save({"state_dict": {"w": torch.ones(1)}, "x": Trap()}, tmp_path / "evil.ckpt")
    assert "posix.system, which is not loaded" in _fails(capsys, path, tmp_path / "out.pt")
    assert not (tmp_path / "trap").exists()
