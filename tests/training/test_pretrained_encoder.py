"""Training around an encoder that self-supervision has trained: its settings and its weights."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from neurosam3d.checkpoints import load_model
from neurosam3d.training import NeuroSamModel
from neurosam3d.training.optim import parameter_groups

Build = Callable[..., Any]
TRUNK = "image_encoder.model."


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Write a small network's settings and return their file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "student: {arch: vit_tiny_3d, num_register_tokens: 2}\ncrops: {global_crops_size: 48}",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def build(tmp_path: Path, settings: Path) -> Callable[..., NeuroSamModel]:
    """Return a function that builds a small module; its arguments are the module's."""

    def make(**options: Any) -> NeuroSamModel:
        pl.seed_everything(7, verbose=False)
        defaults = {
            "model_type": "dinov2",
            "model_cfg": str(settings.with_suffix("")),
            "img_size": 32,
            "num_clicks": 1,
            "work_dir": str(tmp_path),
        }
        return NeuroSamModel(**{**defaults, **options})

    return make


@pytest.fixture
def teacher(build: Build, tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """Write a teacher's weights; return the file and what they are, under the network's names."""
    state = build().model.state_dict()
    state = {name: value + 0.01 for name, value in state.items() if name.startswith(TRUNK)}
    weights = {f"backbone.{name.removeprefix(TRUNK)}": value for name, value in state.items()}
    path = tmp_path / "teacher.pth"
    torch.save({"teacher": {**weights, "dino_head.last_layer.weight": torch.zeros(2)}}, path)
    return path, state


def test_training_starts_from_the_teacher(
    build: Build,
    crop_data: Build,
    make_trainer: Build,
    teacher: tuple[Path, dict[str, Tensor]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, state = teacher
    module = build(pretrained_weights=str(path), lr=0.0)
    trainer = make_trainer(max_steps=1)
    with caplog.at_level(logging.INFO, logger="neurosam3d"):
        trainer.fit(module, datamodule=crop_data(2))
    for name, value in state.items():
        torch.testing.assert_close(module.model.state_dict()[name], value, msg=name)
    (report,) = [text for text in caplog.messages if text.startswith(f"{path}: ")]
    assert f"3DINO teacher: {len(state)} tensors loaded" in report
    assert "missing (image_encoder.neck.0.weight, " in report
    assert "1 unexpected (dino_head.last_layer.weight)" in report
    assert not any("random weights" in text for text in caplog.messages)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    again = load_model(tmp_path / "run.ckpt")
    torch.testing.assert_close(again.state_dict(), module.model.state_dict(), rtol=0, atol=0)


def test_weights_that_are_missing_or_do_not_fit_stop_the_run(
    build: Build,
    crop_data: Build,
    make_trainer: Build,
    teacher: tuple[Path, dict[str, Tensor]],
    tmp_path: Path,
) -> None:
    for name, message in ((str(tmp_path / "gone.pth"), "there is no .*gone"), ("", "be a file")):
        with pytest.raises(ValueError, match=message):
            make_trainer(max_steps=1).fit(build(pretrained_weights=name), datamodule=crop_data(2))
    other = build(model_cfg=None, model_type="vit_tiny", pretrained_weights=str(teacher[0]))
    with pytest.raises(ValueError, match="at least half of the image encoder's"):
        make_trainer(max_steps=1).fit(other, datamodule=crop_data(2))


def test_missing_settings_stop_before_anything_is_built(build: Build) -> None:
    with pytest.raises(ValueError, match=r"model_cfg must name a YAML file, got '\.\./train/gone'"):
        build(model_cfg="../train/gone")


def test_every_parameter_that_learns_is_reached(
    build: Build, batch: dict[str, Any], make_trainer: Build
) -> None:
    module = build(mask_stride=1, num_clicks=3)
    module.trainer = make_trainer()
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    module.training_step(batch, 0).backward()
    idle = [n for n, p in module.model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert f"{TRUNK}mask_token" in module.frozen


def test_tokens_and_tables_do_not_decay(build: Build) -> None:
    model = build().model
    decays = {
        id(parameter): group["weight_decay"]
        for group in parameter_groups(model, lr=0.1, weight_decay=0.25)
        for parameter in group["params"]
    }
    named = {name.removeprefix(TRUNK): parameter for name, parameter in model.named_parameters()}
    for name in ("cls_token", "pos_embed", "register_tokens", "blocks.0.0.ls1.gamma"):
        assert decays[id(named[name])] == 0, name
    assert decays[id(named["blocks.0.0.mlp.fc1.weight"])] == 0.25
