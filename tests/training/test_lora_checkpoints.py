"""Training that starts from a file with low-rank additions, and files that such training leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from neurosam3d.checkpoints import load_model
from neurosam3d.models.lora import lora_layers, lora_state, remove_lora
from neurosam3d.training import NeuroSamModel

Build = Callable[..., Any]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., NeuroSamModel]:
    """Return a function that builds a small module; its arguments are the module's."""

    def make(**options: Any) -> NeuroSamModel:
        pl.seed_everything(7, verbose=False)
        defaults = {"model_type": "vit_tiny", "img_size": 32, "num_clicks": 1}
        return NeuroSamModel(**{**defaults, "work_dir": str(tmp_path), **options})

    return make


@pytest.fixture
def run(build: Build, crop_data: Build, make_trainer: Build, tmp_path: Path) -> Path:
    """Train a step with LoRA and return the checkpoint."""
    module = build(finetune="lora", lora_rank=2, lora_alpha=1.0, lora_targets=["attn.qkv", "lin1"])
    trainer = make_trainer(max_steps=1)
    trainer.fit(module, datamodule=crop_data(2))
    for _, layer in lora_layers(module.model):  # one step leaves them too small to matter
        torch.nn.init.normal_(layer.lora_b, std=0.1)
    trainer.save_checkpoint(tmp_path / "lora.ckpt")
    return tmp_path / "lora.ckpt"


def test_the_file_of_a_run_gives_its_network(run: Path) -> None:
    model = load_model(run)
    state = torch.load(run, weights_only=True)["state_dict"]
    assert len(lora_state(model)) == 2 * 8
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[f"model.{name}"]), name
    assert {layer.scale for _, layer in lora_layers(model)} == {0.5}


def test_full_training_goes_on_with_the_additions_in_the_weights(
    run: Path, build: Build, crop_data: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(checkpoint=str(run), lr=0.0)
    names = list(module.model.state_dict())
    trainer = make_trainer(max_steps=1)
    trainer.fit(module, datamodule=crop_data(2))
    assert list(module.model.state_dict()) == names
    (optimizer,) = trainer.optimizers
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert known == {id(p) for p in module.model.parameters() if p.requires_grad}
    expected = load_model(run)
    remove_lora(expected)
    for name, value in module.model.image_encoder.state_dict().items():
        assert torch.equal(value, expected.image_encoder.state_dict()[name]), name
    trainer.save_checkpoint(tmp_path / "full.ckpt")
    resumed = build()
    make_trainer(max_steps=1).fit(
        resumed, datamodule=crop_data(2), ckpt_path=tmp_path / "full.ckpt"
    )


def test_training_with_lora_goes_on_with_the_same_additions_only(
    run: Path, build: Build, crop_data: Build, make_trainer: Build
) -> None:
    same = {"finetune": "lora", "lora_rank": 2, "lora_alpha": 1.0, "lora_targets": ["qkv", "lin1"]}
    module = build(**same, checkpoint=str(run), lr=0.0)
    make_trainer(max_steps=1).fit(module, datamodule=crop_data(2))
    expected = lora_state(load_model(run))
    for name, value in lora_state(module.model).items():
        assert torch.equal(value, expected[name])
    with pytest.raises(ValueError, match=r"network's \(rank 3, .*got rank 2, scale 0\.5"):
        make_trainer(max_steps=1).fit(
            build(**{**same, "lora_rank": 3, "checkpoint": str(run)}), datamodule=crop_data(2)
        )
