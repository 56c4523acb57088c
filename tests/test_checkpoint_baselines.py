"""Weights of networks without prompts: told by their names, loaded, converted there and back."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neurosam3d.__main__ as program
from neurosam3d.checkpoint_formats import formats_of, read_checkpoint
from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.commands.inspect import describe_file
from neurosam3d.models import BASELINES, MODELS, build_model, list_overrides
from neurosam3d.models.baselines.inputs import CROP_SIZE, InputRule, rule_inputs, to_sides
from neurosam3d.models.baselines.transbts import TransBts, TransBtsConfig
from neurosam3d.recognise import identify, recognise_network
from tests.published import (
    SWIN,
    assert_equal,
    baseline_content,
    lightning_content,
    save,
    swin_encoder_content,
)

REFERENCE = Path(__file__).parent / "reference"
COMPARED = ["swin_unetr", "unetr", "3d_uxnet", "nnformer", "unetr++", "transbts"]


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def swin(seed: int = 1, **overrides: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("swin_unetr", feature_size=12, **overrides)


def build_small_transbts(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: tuple[int, ...] = CROP_SIZE,
    published_quirks: bool = True,
) -> nn.Module:
    sides = to_sides(crop_size)
    network = TransBts(
        TransBtsConfig(base=8, dim=12, num_heads=3, depth=2, mlp_dim=20),
        in_channels=in_channels,
        num_classes=num_classes,
        crop_size=sides,
        published_quirks=published_quirks,
    )
    return rule_inputs(network, InputRule(in_channels, sides, (8, 8, 8), is_fixed=True))


@pytest.fixture
def transbts(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Return a TransBTS of random weights for small crops, and let its name stand for its size."""
    monkeypatch.setitem(MODELS, "transbts", build_small_transbts)
    torch.manual_seed(1)
    return build_model("transbts", crop_size=(8, 16, 24), num_classes=3)


@pytest.mark.parametrize("name", COMPARED)
def test_published_networks_are_recognised_by_their_shapes(name: str) -> None:
    keys = json.loads((REFERENCE / f"keys_{name}.json").read_text(encoding="utf-8"))
    shapes = {key: tuple(shape) for key, shape in keys["state_dict"].items()}
    recognised, options = recognise_network(shapes)
    assert recognised == name
    assert (options["in_channels"], options["num_classes"]) == (1, 2)
    with torch.device("meta"):
        assert shapes_of(build_model(name, **options)) == shapes


@pytest.mark.parametrize("name", BASELINES)
def test_overrides_are_recognised_by_names_and_shapes(name: str) -> None:
    asked = {
        "in_channels": 3,
        "num_classes": 5,
        "feature_size": 24,
        "deep_supervision": True,
        "published_quirks": False,
    }
    # The same weights belong to either form of these.
    unsaid = {"nnformer": "published_quirks", "unetr++": "published_quirks"}
    unsaid |= dict.fromkeys(("nnunet_resenc", "nnunet_plain"), "deep_supervision")
    known = {key: asked[key] for key in asked if key in list_overrides(name)}
    with torch.device("meta"):
        shapes = shapes_of(build_model(name, **known))
    known.pop(unsaid.get(name, ""), None)
    assert recognise_network(shapes) == (name, known)


def test_a_mednext_of_another_size_is_not_taken_for_one() -> None:
    with torch.device("meta"):
        shapes = shapes_of(build_model("mednext_s"))
    name, options = recognise_network({n: s for n, s in shapes.items() if ".0.1." not in n})
    assert (name, options["num_classes"]) == (None, 2)


def test_the_swin_encoder_fills_what_monai_fills(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, model, other = swin(), swin(seed=2), swin(seed=2)
    content = swin_encoder_content(source)
    path = save(content, tmp_path / "model_swinvit.pt")
    report = load_weights(model, path)
    encoder = [name for name in model.state_dict() if name.startswith(SWIN)]
    assert (report.format, report.loaded) == ("Swin encoder", encoder)
    assert report.unexpected == ["module.norm.weight", "module.rotation_head.bias"]
    other.load_from(content)
    assert_equal(model, other)
    assert_equal(model.swinViT, source.swinViT)
    with caplog.at_level(logging.WARNING):
        made = load_model(path)
    assert_equal(made.swinViT, source.swinViT)
    assert "fills only swinViT.* of swin_unetr; the rest is random" in caplog.text


def test_the_swin_encoder_does_not_fit_another_network(tmp_path: Path) -> None:
    path = save(swin_encoder_content(swin()), tmp_path / "model_swinvit.pt")
    with pytest.raises(ValueError, match=r"half of the Swin encoder's .* got 0\.0%"):
        load_weights(build_model("mednext_s"), path)


def test_a_whole_swin_unetr_is_not_taken_for_an_encoder(tmp_path: Path) -> None:
    source = swin()
    for content in (source.state_dict(), {"state_dict": source.state_dict()}):
        path = save(content, tmp_path / "whole.pt")
        assert not read_checkpoint(path).format.is_partial
        assert_equal(load_model(path), source)


def test_what_comes_in_which_format() -> None:
    assert {"baseline checkpoint", "Swin encoder"} <= {*formats_of("swin_unetr")}
    assert "baseline checkpoint" in formats_of("unetr++")
    assert "Swin encoder" not in formats_of("unetr++")
    assert not {"baseline checkpoint", "Swin encoder"} & {*formats_of("vit_b")}
    assert "baseline checkpoint" not in formats_of("segresnet")


def test_a_published_checkpoint_is_loaded_and_described(
    tmp_path: Path, transbts: nn.Module
) -> None:
    path = save(baseline_content(transbts), tmp_path / "best.pth.tar")
    twin = build_model("transbts", crop_size=(8, 16, 24), num_classes=3)
    report = load_weights(twin, path)
    assert (report.format, report.missing, report.unexpected) == ("baseline checkpoint", [], [])
    assert_equal(twin, transbts)
    facts = describe_file(path)
    assert facts["network"]["name"] == "transbts"
    options = {"in_channels": 1, "num_classes": 3, "published_quirks": True}
    assert facts["network"]["options"] == options
    assert facts["beside"] == ["epoch", "best_val_loss", "opt_dict", "lr_scheduler_dict"]
    assert list(facts["parts"]) == ["network"]
    assert facts["fit"]["mismatched"] == ["position_encoding.position_embeddings"]


def test_crops_that_a_file_does_not_name_are_asked_for(tmp_path: Path, transbts: nn.Module) -> None:
    path = save(baseline_content(transbts), tmp_path / "best.pth.tar")
    with pytest.raises(
        ValueError,
        match=r"for crops of the default size .* position_encoding\.position_embeddings; "
        "build_model with crop_size and load_weights",
    ):
        load_model(path)
    default = build_model("transbts", in_channels=2)
    assert_equal(load_model(save(baseline_content(default), tmp_path / "b.pth")), default)


def test_what_a_run_says_of_its_network_builds_it(tmp_path: Path, transbts: nn.Module) -> None:
    content = lightning_content(
        transbts, model_type="transbts", crop_size=[8, 16, 24], deep_supervision=True
    )
    identity = identify(read_checkpoint(save(content, tmp_path / "last.ckpt")))
    assert identity.options == {
        "in_channels": 1,
        "num_classes": 3,
        "crop_size": (8, 16, 24),
        "published_quirks": True,
    }
    model = load_model(tmp_path / "last.ckpt")
    assert_equal(model, transbts)
    assert model.crop_size == (8, 16, 24)
    assert not model.training


def test_a_round_trip_gives_the_same_bits(tmp_path: Path, transbts: nn.Module) -> None:
    content = lightning_content(transbts, model_type="transbts", crop_size=(8, 16, 24))
    steps = [save(content, tmp_path / "last.ckpt")]
    for name in ("1.pth", "2.safetensors", "3.pth"):
        steps.append(tmp_path / name)
        with pytest.raises(SystemExit) as end:
            program.main(["convert", *map(str, steps[-2:])])
        assert not end.value.code
        assert_equal(load_model(steps[-1]), transbts)
    written = torch.load(steps[1], weights_only=True)
    assert list(written) == ["epoch", "network_dict", "args"]
    assert read_checkpoint(steps[3]).format.name == "baseline checkpoint"


def test_the_encoder_alone_goes_there_and_back(tmp_path: Path) -> None:
    source = swin()
    steps = [save(swin_encoder_content(source), tmp_path / "model_swinvit.pt")]
    for name in ("1.safetensors", "2.pt"):
        steps.append(tmp_path / name)
        with pytest.raises(SystemExit) as end:
            program.main(["convert", *map(str, steps[-2:])])
        assert not end.value.code
        checkpoint = read_checkpoint(steps[-1])
        assert checkpoint.format.name == "Swin encoder"
        assert len(checkpoint.weights) == len(source.swinViT.state_dict())
    assert_equal(load_model(steps[-1]).swinViT, source.swinViT)


def test_no_layout_for_whole_networks_takes_an_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(swin_encoder_content(swin()), tmp_path / "model_swinvit.pt")
    with pytest.raises(SystemExit) as end:
        program.main(["convert", str(path), str(tmp_path / "out.pth")])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: the format baseline holds whole networks, got the Swin encoder alone\n"
    )
