"""Weights of DINOv2 in 3-D: teachers as 3DINO publishes them, and files of the whole network."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.models import Sam3D, build_model
from neurosam3d.recognise import recognise_network

REFERENCE = Path(__file__).parent / "reference"
TRUNK = "image_encoder.model."


def _network(seed: int = 1, crop: int = 48, **student: Any) -> Sam3D:
    """Build a small network whose every weight is random."""
    settings = {
        "student": {"arch": "vit_tiny_3d", "block_chunks": 2, **student},
        "crops": {"global_crops_size": crop},
    }
    model = build_model("dinov2", image_size=32, model_cfg=settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    assert isinstance(model, Sam3D)
    return model


def _trunk(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    return {name.removeprefix(TRUNK): state[name] for name in state if name.startswith(TRUNK)}


def _teacher(model: nn.Module, wrapper: str = "backbone.") -> dict[str, Any]:
    """Return a file's content in the published layout: the backbone beside the training's heads."""
    heads = {"dino_head.mlp.0.weight": torch.zeros(3, 3), "ibot_head.last_layer.v": torch.zeros(2)}
    weights = {wrapper + name: value for name, value in _trunk(model).items()}
    return {"teacher": {**weights, **heads}, "iteration": 125, "optimizer": {"state": {}}}


def _save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrapper", ["backbone.", "module.backbone.", "backbone.module.", ""])
def test_a_teacher_fills_the_transformer_and_nothing_else(tmp_path: Path, wrapper: str) -> None:
    source, model = _network(seed=2), _network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_weights(model, _save(_teacher(source, wrapper), tmp_path / "teacher.pth"))
    assert report.format == "3DINO teacher"
    assert report.loaded == [TRUNK + name for name in _trunk(source)]
    assert report.unexpected == ["dino_head.mlp.0.weight", "ibot_head.last_layer.v"]
    assert report.missing == [name for name in before if not name.startswith(TRUNK)]
    assert not report.mismatched + report.resized
    for name, value in model.state_dict().items():
        expected = source.state_dict()[name] if name in report.loaded else before[name]
        assert torch.equal(value, expected), name


def test_a_backbone_saved_on_its_own_is_a_teacher(tmp_path: Path) -> None:
    source, model = _network(seed=2), _network()
    report = load_weights(model, _save(_trunk(source), tmp_path / "backbone.pth"))
    assert report.format == "3DINO teacher"
    torch.testing.assert_close(_trunk(model), _trunk(source), rtol=0, atol=0)


@pytest.mark.parametrize(("chunks", "wanted"), [(2, 0), (0, 2), (4, 2)])
@pytest.mark.parametrize("whole", [True, False])
def test_blocks_are_found_however_their_names_are_grouped(
    tmp_path: Path, chunks: int, wanted: int, whole: bool
) -> None:
    source, model = _network(seed=2, block_chunks=chunks), _network(block_chunks=wanted)
    content = source.state_dict() if whole else _teacher(source)
    report = load_weights(model, _save(content, tmp_path / "weights.pth"))
    assert set(_trunk(source)) != set(_trunk(model))
    assert [name for name in report.loaded if name.startswith(TRUNK)] == [
        TRUNK + name for name in _trunk(model)
    ]
    assert not report.mismatched + report.resized
    assert not [name for name in report.unexpected if "blocks" in name]
    for loaded, expected in zip(_trunk(model).values(), _trunk(source).values(), strict=True):
        assert torch.equal(loaded, expected)


def test_the_position_table_is_resized(tmp_path: Path) -> None:
    source, model = _network(seed=2, crop=48), _network(crop=80)
    d, h, w = np.random.default_rng(0).normal(size=(3, 3))
    channels = torch.linspace(1, 2, 96)
    table = torch.from_numpy(d[:, None, None] + 3 * h[:, None] + 9 * w).float()
    positions = source.get_parameter(f"{TRUNK}pos_embed")
    with torch.no_grad():
        positions[0, 1:] = table.flatten()[:, None] * channels
    report = load_weights(model, _save(_teacher(source), tmp_path / "teacher.pth"))
    assert report.resized == [f"{TRUNK}pos_embed"]
    assert set(report.resized) < set(report.loaded)
    at = (np.arange(5) + 0.5) * 3 / 5 - 0.5
    d, h, w = (np.interp(at, np.arange(3), values) for values in (d, h, w))
    expected = torch.from_numpy(d[:, None, None] + 3 * h[:, None] + 9 * w).float()
    loaded = model.get_parameter(f"{TRUNK}pos_embed")
    torch.testing.assert_close(loaded[:, 0], positions[:, 0])
    torch.testing.assert_close(loaded[0, 1:], expected.flatten()[:, None] * channels)


def test_a_table_of_a_plane_is_not_taken_for_a_cubes(tmp_path: Path) -> None:
    content, model = _teacher(_network(seed=2)), _network()
    content["teacher"]["backbone.pos_embed"] = torch.zeros(1, 1 + 6**2, 96)
    report = load_weights(model, _save(content, tmp_path / "teacher.pth"))
    assert report.mismatched == [f"{TRUNK}pos_embed"]


def test_half_of_the_encoder_is_asked_for(tmp_path: Path) -> None:
    source, model = _network(seed=2), _network()
    encoder = sum(parameter.numel() for parameter in model.image_encoder.parameters())
    content, covered = _teacher(source), 0
    assert encoder < 0.5 * sum(parameter.numel() for parameter in model.parameters())
    for name in reversed(list(content["teacher"])):
        value = content["teacher"][name]
        if name.startswith("backbone."):
            if covered + value.numel() > 0.5 * encoder:
                del content["teacher"][name]
            else:
                covered += value.numel()
    content["teacher"]["backbone.cls_token"] = torch.zeros(1, 1, 96)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"at least half of the image encoder's .* got 4\d\.\d%"):
        load_weights(model, _save(content, tmp_path / "teacher.pth"))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_a_teacher_does_not_fit_another_network(tmp_path: Path) -> None:
    path = _save(_teacher(_network()), tmp_path / "teacher.pth")
    with pytest.raises(ValueError, match=r"half of the image encoder's .* got 0\.0%"):
        load_weights(build_model("vit_tiny", image_size=32), path)
    with pytest.raises(ValueError, match=r"half of the image encoder's .* got 0\.0%"):
        load_model(path, "vit_tiny")


@pytest.mark.parametrize(
    "student",
    [{}, {"block_chunks": 0, "num_register_tokens": 2}, {"ffn_layer": "swiglu", "layerscale": 0}],
    ids=str,
)
def test_a_whole_network_is_recognised_and_rebuilt(tmp_path: Path, student: dict[str, Any]) -> None:
    source = _network(seed=2, **student)
    content = {
        "state_dict": {f"model.{name}": value for name, value in source.state_dict().items()},
        "hyper_parameters": {"model_type": "dinov2", "img_size": 32, "model_cfg": "gone/by/now"},
    }
    model = load_model(_save(content, tmp_path / "last.ckpt"))
    torch.testing.assert_close(model.state_dict(), source.state_dict(), rtol=0, atol=0)
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    points = (torch.tensor([[[3.0, 9, 20]]]), torch.tensor([[1]]))
    with torch.no_grad():
        torch.testing.assert_close(model(image, points=points), source.eval()(image, points=points))


def test_a_teacher_alone_makes_a_network_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = _network(seed=2)
    with caplog.at_level(logging.WARNING):
        model = load_model(_save(_teacher(source), tmp_path / "teacher.pth"))
    torch.testing.assert_close(_trunk(model), _trunk(source), rtol=0, atol=0)
    assert "fills only image_encoder.* of dinov2; the rest is random" in caplog.text


@pytest.mark.parametrize("image_size", [112, 128])
def test_the_published_network_is_recognised_by_its_shapes(image_size: int) -> None:
    text = (REFERENCE / f"keys_dinov2_{image_size}.json").read_text(encoding="utf-8")
    shapes = {key: tuple(shape) for key, shape in json.loads(text)["state_dict"].items()}
    name, options = recognise_network(shapes)
    assert name == "dinov2"
    assert (options["mask_stride"], options["box_prompts"]) == (1, True)
    with torch.device("meta"):
        model = build_model(name, image_size=image_size, **options)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes


def test_a_transformer_of_another_size_is_not_recognised() -> None:
    shapes = {name: tuple(value.shape) for name, value in _network().state_dict().items()}
    cut = {name: shape for name, shape in shapes.items() if ".blocks.1.3." not in name}
    assert recognise_network(cut)[0] is None
