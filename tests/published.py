"""Small networks with random weights, and files that hold them in the published layouts."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neurosam3d.models import Sam3D, build_model
from neurosam3d.models.lora import LoraConfig, add_lora

DINOV2 = "image_encoder.model."
SWIN = "swinViT."
DINOV2_SETTINGS = {"student": {"arch": "vit_tiny_3d"}, "crops": {"global_crops_size": 48}}


def small_network(seed: int = 1, name: str = "vit_tiny", **overrides: Any) -> Sam3D:
    """Build a small network whose every weight is random, tables included."""
    model = build_model(name, **{"image_size": 32, "mask_stride": 4, **overrides})
    assert isinstance(model, Sam3D)
    return randomise(model, seed)


def lora_network(seed: int = 1, config: LoraConfig | None = None, **overrides: Any) -> Sam3D:
    """Build a small network whose image encoder has low-rank additions, all random."""
    model = small_network(seed, **overrides)
    add_lora(model.image_encoder, config or LoraConfig(rank=2, alpha=1.0))
    return randomise(model, seed)


def randomise(model: Sam3D, seed: int) -> Sam3D:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


def sam_med3d_content(model: nn.Module) -> dict[str, Any]:
    """Return what SAM-Med3D's training leaves in a `.pth` file."""
    return {
        "epoch": 200,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        "lr_scheduler_state_dict": {"milestones": {120: 1}},
        "losses": [np.float64(0.25), np.float64(0.125)],
        "dices": [np.float32(0.5)],
        "best_loss": np.float64(0.125),
        "best_dice": np.float64(0.5),
        "args": argparse.Namespace(task_name="union", model_type="vit_tiny", gpu_ids=[0, 1]),
        "used_datas": ["data/train/a"],
    }


def lightning_content(model: nn.Module, **hyper_parameters: Any) -> dict[str, Any]:
    """Return what Lightning leaves in a `.ckpt` file of NeuroSAM3D's training or of ours."""
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "loops": {},
        "callbacks": {},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"model_type": "vit_tiny", "img_size": 32, **hyper_parameters},
    }


def lora_content(model: nn.Module, config: LoraConfig) -> dict[str, Any]:
    """Return what our training with LoRA leaves."""
    return lightning_content(
        model,
        mask_stride=4,
        box_prompts=False,
        published_quirks=True,
        finetune="lora",
        lora_rank=config.rank,
        lora_alpha=config.alpha,
        lora_targets=list(config.targets),
        intensity="sam_med3d",
        spacing=(1.5, 1.5, 2.0),
    )


def teacher_content(model: nn.Module) -> dict[str, Any]:
    """Return 3DINO's teacher: the backbone beside the heads of its training."""
    weights = {
        f"backbone.{name.removeprefix(DINOV2)}": value
        for name, value in model.state_dict().items()
        if name.startswith(DINOV2)
    }
    heads = {"dino_head.mlp.0.weight": torch.zeros(3, 3), "ibot_head.last_layer.v": torch.zeros(2)}
    return {"teacher": {**weights, **heads}, "iteration": 125, "optimizer": {"state": {}}}


def baseline_content(model: nn.Module) -> dict[str, Any]:
    """Return what the training of the networks leaves that 3DSAM-adapter is compared with."""
    return {
        "epoch": 396,
        "best_val_loss": np.float64(0.25),
        "network_dict": model.state_dict(),
        "opt_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        "lr_scheduler_dict": {"last_epoch": 396},
    }


def swin_encoder_content(model: nn.Module) -> dict[str, Any]:
    """Return Swin UNETR's self-supervised encoder (`model_swinvit.pt`), and heads beside it."""
    weights = {
        f"module.{name.removeprefix(SWIN).replace('mlp.linear', 'mlp.fc')}": value
        for name, value in model.state_dict().items()
        if name.startswith(SWIN)
    }
    heads = {"module.norm.weight": torch.zeros(3), "module.rotation_head.bias": torch.zeros(4)}
    return {"epoch": 7, "state_dict": {**weights, **heads}, "optimizer": {"state": {}}}


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def assert_equal(model: nn.Module, source: nn.Module) -> None:
    """Check that two networks have the same names and bits."""
    torch.testing.assert_close(model.state_dict(), source.state_dict(), rtol=0, atol=0)
