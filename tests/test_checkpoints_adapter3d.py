"""Weights of 3DSAM-adapter: its published files read and written, and those of 2-D SAM taken in."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosam3d.__main__ as program
from neurosam3d.checkpoint_adapter3d import published_content
from neurosam3d.checkpoint_formats import read_checkpoint
from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.commands.inspect import describe_file
from neurosam3d.models import MODELS, build_model
from neurosam3d.models.adapter3d import Adapter3D, build_adapter3d
from neurosam3d.models.adapter3d_encoder import ADAPTER3D_CONFIGS
from neurosam3d.recognise import recognise_network
from tests.models.adapter3d_small import CONFIG
from tests.published import assert_equal, save
from tests.reference.golden import Golden

NAME = "adapter3d_small"
SPARE = ["encoder_dict.*.attn_mask", "feature_dict.[0-2].*"]


@pytest.fixture(autouse=True)
def _small_network_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTER3D_CONFIGS, NAME, CONFIG)
    monkeypatch.setitem(MODELS, NAME, partial(build_adapter3d, NAME))


def network(seed: int = 1, **options: Any) -> Adapter3D:
    model = build_model(NAME, **options)
    assert isinstance(model, Adapter3D)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


def published(model: Adapter3D) -> dict[str, Any]:
    """Return what the published training leaves in a file."""
    masks = {f"blocks.{index}.attn_mask": torch.zeros(8, 64, 64) for index in (0, 2, 4)}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}
    content = {
        "epoch": 12,
        "best_val_loss": np.float64(0.25),
        "encoder_dict": {**masks, **model.image_encoder.state_dict()},
        "decoder_dict": model.mask_decoder.state_dict(),
        "encoder_opt": optimizer,
        "decoder_opt": optimizer,
    }
    if model.prompt_encoder is not None:
        idle = [{n: torch.full_like(w, 7) for n, w in model.prompt_encoder.state_dict().items()}]
        content["feature_dict"] = [*idle * 3, model.prompt_encoder.state_dict()]
        content["feature_opt"] = optimizer
    return content


def test_a_published_file_gives_the_network(tmp_path: Path) -> None:
    source = network()
    path = save(published(source), tmp_path / "last.pth.tar")
    model = load_model(path)
    assert isinstance(model, Adapter3D)
    assert_equal(model, source)
    assert model.crop_size == 128
    report = load_weights(network(2), path)
    assert report.format == "3DSAM-adapter checkpoint"
    assert report.loaded == list(source.state_dict())
    assert not report.missing + report.unexpected + report.mismatched + report.derived
    beside = read_checkpoint(path).beside
    assert beside == [
        "epoch",
        "best_val_loss",
        "encoder_opt",
        "decoder_opt",
        "feature_opt",
        *SPARE,
    ]


def test_a_published_file_without_prompts(tmp_path: Path) -> None:
    source = network(prompt_free=True)
    path = save(published(source), tmp_path / "best.pth.tar")
    model = load_model(path)
    assert isinstance(model, Adapter3D)
    assert_equal(model, source)
    assert model.prompt_encoder is None
    assert model.crop_size == 256  # of the published program
    assert read_checkpoint(path).beside[-1] == SPARE[0]


@pytest.mark.parametrize("damage", ["feature_dict", "decoder_dict"])
def test_a_file_without_a_part_is_of_no_known_kind(tmp_path: Path, damage: str) -> None:
    content = {**published(network()), damage: {"note": "lost"}}
    with pytest.raises(ValueError, match="is of no known kind"):
        read_checkpoint(save(content, tmp_path / "last.pth.tar"))


@pytest.mark.parametrize("size", ["b", "l", "h"])
def test_the_three_sizes_are_recognised(size: str) -> None:
    name = f"adapter3d_vit_{size}"
    with torch.device("meta"):
        model = build_model(name)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert recognise_network(shapes) == (name, {"prompt_free": False})
    encoder = {key: shape for key, shape in shapes.items() if not key.startswith("prompt_encoder")}
    assert recognise_network(encoder) == (name, {"prompt_free": True})


def test_inspect_tells_what_is_in_the_file(tmp_path: Path) -> None:
    path = save(published(network()), tmp_path / "last.pth.tar")
    facts = describe_file(path)
    assert facts["network"]["name"] == NAME
    assert facts["network"]["options"] == {"prompt_free": False}
    assert set(facts["parts"]) == {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert facts["fit"]["problem"] is None
    assert facts["beside"][-2:] == SPARE


def convert(*paths: Path) -> None:
    with pytest.raises(SystemExit) as end:
        program.main(["convert", *map(str, paths)])
    assert not end.value.code


@pytest.mark.parametrize("prompt_free", [False, True])
def test_files_go_there_and_back_unchanged(tmp_path: Path, prompt_free: bool) -> None:
    source = network(prompt_free=prompt_free)
    first = save(published(source), tmp_path / "last.pth.tar")
    between, last = tmp_path / "weights.safetensors", tmp_path / "again.pth.tar"
    convert(first, between)
    convert(between, last)
    model = load_model(last)
    assert isinstance(model, Adapter3D)
    assert_equal(model, source)
    assert model.crop_size == (256 if prompt_free else 128)
    written = torch.load(last, weights_only=True)
    original = torch.load(first, weights_only=False)
    for part in ("encoder_dict", "decoder_dict"):
        assert written[part].keys() == original[part].keys()
    assert ("feature_dict" in written) != prompt_free
    for prompts in written.get("feature_dict", []):
        torch.testing.assert_close(prompts, original["feature_dict"][3], rtol=0, atol=0)


def test_what_the_published_programs_want_takes_room_once(tmp_path: Path) -> None:
    source = network()
    first, written = tmp_path / "weights.pt", tmp_path / "weights.pth.tar"
    convert(save(source.state_dict(), first), written)
    content = torch.load(written, weights_only=True)
    assert len(content["feature_dict"]) == 4
    masks = [name for name in content["encoder_dict"] if name.endswith("attn_mask")]
    assert masks == ["blocks.0.attn_mask", "blocks.2.attn_mask", "blocks.4.attn_mask"]
    mask_bytes = 512**2 * 4  # of the only window of 8^3 tokens
    assert written.stat().st_size - first.stat().st_size < mask_bytes + 100_000


def test_masks_of_shifted_windows_are_the_published_ones() -> None:
    names = [f"image_encoder.blocks.{index}.norm1.weight" for index in range(3)]
    weights = dict.fromkeys(["mask_decoder.cls.0.weight", *names], torch.zeros(1))
    weights |= {
        "image_encoder.slice_embed.weight": torch.zeros(1),
        "image_encoder.depth_embed": torch.zeros(1, 32, 1),
    }
    encoder = published_content(weights)["encoder_dict"]
    assert "blocks.1.attn_mask" not in encoder
    for index in (0, 2):
        mask = encoder[f"blocks.{index}.attn_mask"]
        Golden("golden_adapter3d.npz", "adapter3d.128").check("shift_mask", mask)


def test_other_networks_have_no_such_layout() -> None:
    weights = build_model("vit_tiny", image_size=32).state_dict()
    with pytest.raises(ValueError, match="holds networks of 3DSAM-adapter, got weights without"):
        published_content(weights)


def test_a_run_says_which_crops_it_was_trained_on(tmp_path: Path) -> None:
    source = network(prompt_free=True, crop_size=32)
    content = {
        "state_dict": {f"model.{name}": value for name, value in source.state_dict().items()},
        "hyper_parameters": {"model_type": NAME, "crop_size": 32, "prompt_free": True},
    }
    first, second = save(content, tmp_path / "last.ckpt"), tmp_path / "last.pth.tar"
    convert(first, second)
    for path in (first, second):
        model = load_model(path)
        assert isinstance(model, Adapter3D)
        assert model.crop_size == 32
        assert_equal(model, source)


def names_of_sam(model: Adapter3D) -> list[str]:
    """Return the names of the weights that 2-D SAM has, too."""
    new = ("depth_embed", "slice_embed.", "neck_3d.", ".adapter.", ".rel_pos_d", ".lr")
    names = [f"image_encoder.{name}" for name in model.image_encoder.state_dict()]
    return [name for name in names if not any(part in name for part in new)]


def sam_weights(model: Adapter3D) -> dict[str, Tensor]:
    """Return a checkpoint of 2-D SAM in the size of a network."""
    generator, state = torch.Generator().manual_seed(9), model.state_dict()
    names = names_of_sam(model)
    weights = {name: torch.randn(state[name].shape, generator=generator) for name in names}
    rest = ("image_encoder.neck.0.weight", "mask_decoder.iou_token.weight")
    return {**weights, **dict.fromkeys(rest, torch.ones(4, 4))}


def test_sam_fills_the_encoder_and_the_tables_of_the_slice_axis(tmp_path: Path) -> None:
    model = network(prompt_free=True)  # SAM is more than half of it, as of the large ones
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = sam_weights(model)
    report = load_weights(model, save(weights, tmp_path / "sam_vit_b.pth"))
    after = model.state_dict()
    assert report.unexpected == ["image_encoder.neck.0.weight", "mask_decoder.iou_token.weight"]
    assert not report.mismatched + report.resized
    assert report.derived == [
        f"image_encoder.blocks.{index}.attn.rel_pos_d" for index in range(CONFIG.depth)
    ]
    assert set(report.loaded) == {name for name in weights if name in after} | set(report.derived)
    assert set(report.missing) == set(after) - set(report.loaded)
    for name, value in after.items():
        if name in report.derived:
            h, w = (weights[name.replace("pos_d", f"pos_{axis}")] for axis in "hw")
            torch.testing.assert_close(value, 0.5 * (h + w))
        else:
            assert torch.equal(value, weights.get(name, before[name])), name
    assert f"{CONFIG.depth} derived (image_encoder.blocks.0.attn.rel_pos_d" in str(report)


def test_most_of_every_network_comes_from_sam() -> None:
    for size in "blh":
        with torch.device("meta"):
            model = build_model(f"adapter3d_vit_{size}")
        state = model.state_dict()
        share = sum(state[name].numel() for name in names_of_sam(model))
        assert share > 0.7 * sum(parameter.numel() for parameter in model.parameters())


def test_a_trained_table_of_the_slice_axis_is_never_replaced(tmp_path: Path) -> None:
    source = network(3)
    model = network()
    report = load_weights(model, save(source.state_dict(), tmp_path / "weights.pt"))
    assert not report.derived
    assert_equal(model, source)
