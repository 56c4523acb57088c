"""Runs of networks of slices: what they log, what learns, at which rate, and their checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from neurosam3d.checkpoint_formats import read_checkpoint
from neurosam3d.checkpoint_writing import write_checkpoint
from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.data.slice_datamodule import SliceDataModule
from neurosam3d.models import build_model
from neurosam3d.recognise import identify
from neurosam3d.training import SliceModel
from neurosam3d.training.resume import ResumeState

Build = Callable[..., Any]

S = 32
CLASSES = ("rod", "ball")
pytestmark = pytest.mark.usefixtures("small_vit_b")


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., SliceModel]:
    """Return a function that builds a small module; its arguments are the module's."""

    def make(**options: Any) -> SliceModel:
        pl.seed_everything(7, verbose=False)
        defaults = {
            "img_size": S,
            "classes": CLASSES,
            "work_dir": str(tmp_path),
            "warmup_steps": 2,
            "intensity": "clip 60 260",
            "freeze_sam": False,  # there are no weights of SAM
        }
        return SliceModel(**{**defaults, **options})

    return make


@pytest.fixture
def data(prepared_tree: Path) -> Callable[..., SliceDataModule]:
    """Return a function that makes the slices of the toy sets; its arguments are the module's."""

    def make(**options: Any) -> SliceDataModule:
        defaults = {
            "data_dir": str(prepared_tree),
            "img_size": S,
            "classes": CLASSES,
            "batch_size": 8,
            "num_workers": 0,
            "training_sets": ["Toy_Tr"],
            "validation_sets": ["Toy_Val"],
            "cache_dir": str(prepared_tree / "cache"),
            "intensity": "clip 60 260",
            "transform": "none",
            "slices": "labelled",
        }
        return SliceDataModule(**{**defaults, **options})

    return make


def test_fit_logs_what_was_promised_and_learns(
    build: Build, data: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(lr=0.01)
    untrained = make_trainer()
    untrained.validate(module, datamodule=data(), verbose=False)
    before = untrained.callback_metrics["val/loss"].item()
    log = CSVLogger(tmp_path, name="log", version="")
    trainer = make_trainer(max_epochs=6, check_val_every_n_epoch=6, logger=log)
    trainer.fit(module, datamodule=data())
    after = {name: value.item() for name, value in trainer.callback_metrics.items()}
    names = [f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "dice")]
    assert {*names, "train/loss_step", "val/dice_ball", "val/dice_rod"} <= set(after)
    assert after["val/loss"] < 0.7 * before
    assert after["val/dice"] > 0.15
    assert after["val/dice"] == pytest.approx(
        (after["val/dice_ball"] + after["val/dice_rod"]) / 2, abs=1e-5
    )
    pictures = [path.name for path in (Path(log.log_dir) / "pictures").iterdir()]
    assert pictures == [f"val_1_step{trainer.global_step:07d}.png"]


def test_validation_scores_whole_scans(build: Build, data: Build, make_trainer: Build) -> None:
    module = build().eval()
    trainer = make_trainer()
    trainer.validate(module, datamodule=data(), verbose=False)
    dices, losses = [], []
    slices = data(validation="scans")
    slices.setup("validate")
    for scan in slices.val_dataloader():
        with torch.no_grad():
            outputs = module.model(scan["image"][0].transpose(0, 1).expand(-1, 3, -1, -1))
        found, truth = outputs["masks"].argmax(1), scan["label"][0, 0]
        losses.append(
            module.recipe.loss(outputs["low_res_logits"], scan["label"][0].transpose(0, 1))
        )
        for value in (1, 2):  # over the scan, not over its slices
            one, other = found == value, truth == value
            dices.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    logged = trainer.callback_metrics
    assert logged["val/dice"].item() == pytest.approx(torch.stack(dices).mean().item(), abs=1e-5)
    assert logged["val/loss"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


@pytest.mark.parametrize("model_type", ["samed_vit_b", "samed_s_vit_b"])
def test_only_what_is_sameds_learns(
    build: Build, data: Build, make_trainer: Build, model_type: str
) -> None:
    module = build(model_type=model_type, freeze_sam=None, weight_decay=0.0)
    before = {name: value.clone() for name, value in module.model.named_parameters()}
    make_trainer(max_steps=3, limit_val_batches=0).fit(module, datamodule=data())
    changed = {n for n, value in module.model.named_parameters() if not value.equal(before[n])}
    learning = {n for n, value in module.model.named_parameters() if value.requires_grad}
    assert changed == learning
    of_encoder = {name for name in learning if name.startswith("image_encoder.")}
    assert of_encoder
    assert all(".lora_" in name for name in of_encoder)
    of_transformer = {n for n in learning if n.startswith("mask_decoder.transformer.")}
    is_adapted = model_type == "samed_s_vit_b"
    assert all(".lora_" in name for name in of_transformer) == is_adapted


def test_without_sams_weights_all_of_the_encoder_learns(build: Build) -> None:
    learning = build(freeze_sam=False).model.image_encoder.parameters()
    assert all(parameter.requires_grad for parameter in learning)


class Record(pl.Callback):
    """Writes down rate and loss of every step, and saves a checkpoint after one of them."""

    def __init__(self, save_after: int, path: Path) -> None:
        self.save_after, self.path = save_after, path
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(outputs["loss"].item())
        if trainer.global_step == self.save_after:
            trainer.save_checkpoint(self.path)


def test_the_rate_follows_the_step_and_a_resumed_run_repeats_the_whole_one(
    build: Build, data: Build, make_trainer: Build, tmp_path: Path
) -> None:
    def fit(resume: Path | None) -> Record:
        record = Record(4, tmp_path / "a.ckpt")
        trainer = make_trainer(max_epochs=2, limit_val_batches=0, callbacks=[record, ResumeState()])
        module = build(lr=0.01, schedule_epochs=5)
        trainer.fit(module, datamodule=data(transform="samed"), ckpt_path=resume)
        return record

    whole = fit(None)
    per_epoch = len(whole.rates) // 2
    assert per_epoch > 4  # so that the checkpoint is of the middle of an epoch
    falling = [(1 - step / (5 * per_epoch)) ** 0.9 for step in range(2 * per_epoch - 2)]
    assert whole.rates == pytest.approx([0.01 * factor for factor in (0.5, 1, *falling)])
    resumed = fit(tmp_path / "a.ckpt")
    assert resumed.rates == whole.rates[4:]
    assert resumed.losses == whole.losses[4:]


def save(module: SliceModel, make_trainer: Build, path: Path) -> None:
    trainer = make_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)


def perturb(model: nn.Module) -> None:
    """Give every weight a value of its own; those of LoRA begin at zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def answer(model: nn.Module) -> Tensor:
    image = torch.rand(2, 3, S, S, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.eval()(image)["masks"]


def test_a_checkpoint_says_how_to_build_and_feed_the_network(
    build: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(rank=3, axis="coronal", detail=24, spacing=(1.0, 2.0, 3.0))
    perturb(module.model)
    save(module, make_trainer, tmp_path / "run.ckpt")
    identity = identify(read_checkpoint(tmp_path / "run.ckpt"))
    assert (identity.name, identity.classes) == ("samed_vit_b", CLASSES)
    assert identity.feeding == {
        "intensity": "clip 60 260",
        "spacing": (1.0, 2.0, 3.0),
        "axis": "coronal",
        "feeding": "samed",
        "detail": 24,
    }
    assert answer(load_model(tmp_path / "run.ckpt")).equal(answer(module.model))


@pytest.mark.parametrize("model_type", ["samed_vit_b", "samed_s_vit_b"])
def test_a_checkpoint_becomes_sams_and_sameds_files_and_comes_back(
    build: Build, make_trainer: Build, tmp_path: Path, model_type: str
) -> None:
    module = build(model_type=model_type, freeze_sam=None)
    sam = build_model("sam_vit_b", image_size=S)
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    load_weights(module.model, tmp_path / "sam.pth")
    learning = {n: p for n, p in module.model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in learning.values():
            parameter += 0.1
    save(module, make_trainer, tmp_path / "run.ckpt")
    weights = read_checkpoint(tmp_path / "run.ckpt")
    named = {name: weights.weights[key] for key, name in weights.names.items()}
    write_checkpoint(tmp_path / "lora.pth", named, layout="samed", values={})
    assert read_checkpoint(tmp_path / "lora.pth").format.name == "SAMed LoRA"

    start = build(
        model_type=model_type,
        freeze_sam=None,
        pretrained_weights=str(tmp_path / "sam.pth"),
        checkpoint=str(tmp_path / "lora.pth"),
    )
    start.trainer = make_trainer()
    start.on_fit_start()
    assert answer(start.model).equal(answer(module.model))
    assert {n for n, p in start.model.named_parameters() if p.requires_grad} == set(learning)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "unetr"}, "model_type must be one of samed_vit_b, .* got 'unetr'"),
        ({"classes": ()}, "classes names what is segmented, got none"),
        ({"recipe": "sam"}, "unknown recipe 'sam'; known: samed, sam_med2d, medsam"),
        ({"recipe": "medsam"}, "recipe medsam needs data.feeding sam, .* got 'samed'"),
        ({"recipe": "medsam", "feeding": "medsam"}, "need one of sam_vit_b, .* got a Samed"),
        ({"model_type": "sam_vit_b", "freeze_sam": None, "recipe": "samed"}, "got a Sam2D"),
        ({"dice_weight": -0.1}, "dice_weight and ce_weight must be at least 0"),
    ],
)
def test_mistakes_are_told(build: Build, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_run_without_end_needs_a_schedule(build: Build, data: Build, make_trainer: Build) -> None:
    trainer = make_trainer(max_epochs=-1, max_steps=2, limit_val_batches=0)
    with pytest.raises(ValueError, match="schedule_epochs must be given, got none"):
        trainer.fit(build(), datamodule=data())
