"""Runs of networks that learn label maps, with and without clicks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import Dataset

from neurosam3d.checkpoint_formats import read_checkpoint
from neurosam3d.checkpoints import load_model
from neurosam3d.data.sampler import LazyLoader, ResumableSampler, SampleKey
from neurosam3d.models import BASELINES, MODELS
from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.recognise import identify
from neurosam3d.sliding_window import slide
from neurosam3d.training import SupervisedModel
from neurosam3d.training.resume import ResumeState

CROP, SCAN = (16, 24, 8), (20, 24, 17)
CLASSES = ("ball", "rod")
Build = Callable[..., Any]


class Patches(Dataset[dict[str, Any]]):
    """Patches whose classes are bright, and whose every voxel follows from the index."""

    def __init__(self, number: int, shape: Sequence[int], *, num_classes: int = 2) -> None:
        self.number, self.shape, self.num_classes = number, tuple(shape), num_classes

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(key.index)
        label = torch.zeros(1, *self.shape, dtype=torch.uint8)
        label[0, 2 : 8 + key.index % 3, 4:14, 1:6] = 1
        if key.index != 1:  # a scan without the second class
            label[0, -5:-1, -8:-2, 2:7] = 2
        return {
            "image": 2.0 * label + 0.3 * torch.randn(label.shape, generator=generator),
            "label": label.clamp(max=self.num_classes),
            "affine": torch.diag(torch.tensor([1.5, 2, 1, 1], dtype=torch.float64)),
            "dataset": "Toy_Tr",
            "case": f"scan{key.index}",
            "index": key.index,
        }


class PatchData(pl.LightningDataModule):
    """Shuffled patches for training, and whole scans or patches for validation."""

    def __init__(
        self,
        number: int = 4,
        *,
        crop: Sequence[int] = CROP,
        scan: Sequence[int] = SCAN,
        num_classes: int = 2,
    ) -> None:
        super().__init__()
        self.batch_size = 2
        self.training = Patches(number, crop, num_classes=num_classes)
        self.validation = Patches(number, scan, num_classes=num_classes)
        self.train_sampler = ResumableSampler(number, shuffle=True, seed=3)

    def train_dataloader(self) -> LazyLoader:
        return self._loader(self.training, self.train_sampler, self.batch_size)

    def val_dataloader(self) -> LazyLoader:
        return self._loader(
            self.validation, ResumableSampler(len(self.validation), shuffle=False, seed=3), 1
        )

    def _loader(self, data: Patches, sampler: ResumableSampler, batch_size: int) -> LazyLoader:
        return LazyLoader(data, batch_size=batch_size, sampler=sampler, generator=torch.Generator())


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., SupervisedModel]:
    """Return a function that builds a small module; its arguments are the module's."""

    def make(**options: Any) -> SupervisedModel:
        pl.seed_everything(7, verbose=False)
        defaults = {
            "model_type": "toy",
            "crop_size": CROP,
            "classes": CLASSES,
            "work_dir": str(tmp_path),
            "logging_batches_idx": [],
        }
        if options.get("model_type", "").startswith("adapter3d"):
            defaults |= {"crop_size": (32, 32, 32), "classes": ("ball",)}
        return SupervisedModel(**{**defaults, **options})

    return make


def build_toy(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP,
    deep_supervision: bool = False,
) -> nn.Module:
    """Build two convolutions."""
    return Toy(in_channels, num_classes, deep_supervision)


class Toy(nn.Module):
    """Two convolutions, and a coarse head that only deep supervision teaches."""

    def __init__(self, in_channels: int, num_classes: int, deep_supervision: bool) -> None:
        super().__init__()
        self.first = nn.Conv3d(in_channels, 8, 3, padding=1)
        self.head = nn.Conv3d(8, num_classes, 1)
        self.coarse = nn.Conv3d(8, num_classes, 2, stride=2)
        self.coarsest = nn.Conv3d(8, num_classes, 4, stride=4)
        self.deep_supervision = deep_supervision

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        x = self.first(image).relu()
        heads = [self.head, self.coarse, self.coarsest]
        if self.deep_supervision and self.training:
            return [head(x) for head in heads]
        return self.head(x)


@pytest.fixture(autouse=True)
def _toy_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in (MODELS, BASELINES):
        monkeypatch.setitem(names, "toy", build_toy)


def adapter_data(number: int = 2) -> PatchData:
    return PatchData(number, crop=(32, 32, 32), scan=(32, 32, 32), num_classes=1)


def test_fit_logs_what_was_promised_and_learns(
    build: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(logging_batches_idx=[1], lr=0.02)
    untrained = make_trainer()
    untrained.validate(module, datamodule=PatchData(), verbose=False)
    before = untrained.callback_metrics["val/loss"].item()
    log = CSVLogger(tmp_path, name="log", version="")
    trainer = make_trainer(logger=log, max_epochs=8, check_val_every_n_epoch=8)
    trainer.fit(module, datamodule=PatchData())
    after = {name: value.item() for name, value in trainer.callback_metrics.items()}
    names = [f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "dice")]
    assert {*names, "train/loss_step", "val/dice_ball", "val/dice_rod"} <= set(after)
    assert after["val/loss"] < 0.8 * before
    assert after["val/dice"] == pytest.approx(
        (4 * after["val/dice_ball"] + 3 * after["val/dice_rod"]) / 7, abs=1e-5
    )
    pictures = [path.name for path in (Path(log.log_dir) / "pictures").iterdir()]
    assert pictures == ["val_1_step0000016.png"]


def test_validation_slides_over_whole_scans(build: Build, make_trainer: Build) -> None:
    module = build(overlap=0.25, weighting="constant").eval()
    trainer = make_trainer()
    trainer.validate(module, datamodule=PatchData(2), verbose=False)
    losses = []
    with torch.no_grad():
        for index in range(2):
            item = Patches(2, SCAN)[SampleKey(index, seed=0)]
            logits = slide(
                module.model,
                item["image"][None],
                crop_size=CROP,
                overlap=0.25,
                weighting="constant",
            )
            losses.append(module.loss(logits, item["label"][None]).item())
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(sum(losses) / 2, rel=1e-4)


class Record(pl.Callback):
    """Writes down rate and loss of every step, and saves a checkpoint after one of them."""

    def __init__(self, save_after: int, path: Path) -> None:
        self.save_after, self.path = save_after, path
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.losses.append(outputs["loss"].item())
        if trainer.global_step == self.save_after:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("save_after", [3, 4])  # in the middle of the second epoch, at its end
@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({}, [1, 0.67, 0.34]),
        ({"schedule_epochs": 300}, [1, 1 - 0.99 / 300, 1 - 0.99 / 150]),
        ({"lr_scheduler": "poly", "optimizer": "sgd"}, [1, (2 / 3) ** 0.9, (1 / 3) ** 0.9]),
    ],
)
def test_the_rate_follows_the_epoch_and_a_resumed_run_repeats_the_whole_one(
    build: Build,
    make_trainer: Build,
    tmp_path: Path,
    options: dict[str, Any],
    factors: Sequence[float],
    save_after: int,
) -> None:
    def fit(resume: Path | None) -> Record:
        record = Record(save_after, tmp_path / "a.ckpt")
        trainer = make_trainer(max_epochs=3, limit_val_batches=0, callbacks=[record, ResumeState()])
        trainer.fit(build(lr=0.01, **options), datamodule=PatchData(4), ckpt_path=resume)
        return record

    whole = fit(None)
    assert whole.rates == pytest.approx([0.01 * factor for factor in factors for _ in range(2)])
    resumed = fit(tmp_path / "a.ckpt")
    assert resumed.rates == whole.rates[save_after:]
    assert resumed.losses == whole.losses[save_after:]


def test_deep_supervision_teaches_the_coarser_levels(build: Build, make_trainer: Build) -> None:
    module = build(deep_supervision=True)
    before = {name: value.clone() for name, value in module.model.named_parameters()}
    trainer = make_trainer(max_steps=1)
    trainer.fit(module, datamodule=PatchData(2))
    after = dict(module.model.named_parameters())
    learned = [name for name in before if not before[name].equal(after[name])]
    assert {"head.weight", "coarse.weight"} <= set(learned)
    assert trainer.callback_metrics["val/dice"].item() >= 0


def clicks_of(module: SupervisedModel, stage: str, batch_idx: int = 3) -> tuple[Tensor, Tensor]:
    label = torch.zeros(2, 1, 8, 9, 10, dtype=torch.uint8)
    label[0, 0, 2:5, 3:6, 4:7] = 1
    return module._click(stage, label, batch_idx)


def test_published_clicks_are_one_set(build: Build, make_trainer: Build) -> None:
    module = build(model_type="adapter3d_vit_tiny")
    module.trainer = make_trainer()
    points, labels = clicks_of(module, "train")
    assert points.shape == (2, 30, 3)
    assert labels.tolist() == [[1] * 30, [-1] * 10 + [1] * 20]
    points, labels = clicks_of(module, "val")
    assert labels.tolist() == [[1] * 10] * 2
    assert (points[0] >= torch.tensor([2, 3, 4])).all()


def test_corrected_clicks_are_the_same_in_training_and_validation(
    build: Build, make_trainer: Build
) -> None:
    numbers = {"num_positive": 4, "num_negative": 6}
    module = build(
        model_type="adapter3d_vit_tiny", click_recipe="corrected", labelled_clicks=True, **numbers
    )
    module.trainer = make_trainer()
    for stage in ("train", "val"):
        assert clicks_of(module, stage)[1].tolist() == [[1] * 4 + [0] * 6, [-1] * 4 + [0] * 6]
    first = clicks_of(module, "val")[0]
    module.trainer.fit_loop.epoch_progress.current.completed = 5
    assert clicks_of(module, "val")[0].equal(first)
    assert not clicks_of(module, "val", batch_idx=4)[0].equal(first)
    train = clicks_of(module, "train")[0]
    module.trainer.fit_loop.epoch_progress.current.completed = 6
    assert not clicks_of(module, "train")[0].equal(train)


@pytest.mark.parametrize("options", [{}, {"prompt_free": True}], ids=["prompts", "prompt_free"])
def test_a_small_adapter_trains_validates_and_is_recognised(
    build: Build, make_trainer: Build, tmp_path: Path, options: dict[str, bool]
) -> None:
    module = build(model_type="adapter3d_vit_tiny", clip_per_part=1.0, **options)
    trainer = make_trainer(max_steps=1)
    trainer.fit(module, datamodule=adapter_data())
    assert 0 <= trainer.callback_metrics["val/dice"].item() <= 1
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    network = load_model(tmp_path / "run.ckpt")
    assert isinstance(network, Adapter3D)
    assert (network.crop_size, network.prompt_encoder is None) == (32, bool(options))
    for name, value in network.state_dict().items():
        assert value.equal(module.model.state_dict()[name]), name
    assert identify(read_checkpoint(tmp_path / "run.ckpt")).classes == ("ball",)


def test_labelled_clicks_survive_a_checkpoint(
    build: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(model_type="adapter3d_vit_tiny", labelled_clicks=True, num_negative=0)
    trainer = make_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    network = load_model(tmp_path / "run.ckpt")
    assert isinstance(network, Adapter3D)
    assert network.labelled_clicks


def test_a_checkpoint_says_how_to_build_and_feed_a_baseline(
    build: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(model_type="transbts", spacing=(1.0, 2.0, 1.5), intensity="baseline_kits")
    trainer = make_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    identity = identify(read_checkpoint(tmp_path / "run.ckpt"))
    assert identity.classes == CLASSES
    assert identity.feeding == {"intensity": "baseline_kits", "spacing": (1.0, 2.0, 1.5)}
    network = load_model(tmp_path / "run.ckpt")  # its positions fit this crop alone
    image = torch.randn(1, 1, *CROP, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert network(image).equal(module.model.eval()(image))


def test_each_part_is_clipped_on_its_own(build: Build, make_trainer: Build) -> None:
    module = build(model_type="adapter3d_vit_tiny", clip_per_part=0.5)
    module.trainer = make_trainer()
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters(), 0.1))
    for part in module.model.children():
        norms = torch.stack([parameter.grad.norm() for parameter in part.parameters()])
        assert norms.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_prompts_are_validated_on_crops(build: Build, make_trainer: Build) -> None:
    data = PatchData(2, crop=(32, 32, 32), scan=(40, 32, 32), num_classes=1)
    with pytest.raises(ValueError, match=r"needs data\.validation crops, got an image of \(40, 32"):
        make_trainer().validate(build(model_type="adapter3d_vit_tiny"), data, verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model_type": "vit_b"},
            "model_type must be one of swin_unetr, .*, got 'vit_b'; other ne",
        ),
        ({"classes": ()}, "classes names what the network segments, got none"),
        (
            {"model_type": "transbts", "deep_supervision": True},
            "unknown override 'deep_supervision' for model 'transbts'",
        ),
        ({"prompt_free": True}, "unknown override 'prompt_free' for model 'toy'"),
        ({"clip_per_part": 1.0}, "clip_per_part needs the parts of adapter3d, got 'toy'"),
        (
            {"model_type": "adapter3d_vit_tiny", "classes": CLASSES},
            "adapter3d_vit_tiny segments one class, got ball, rod",
        ),
        (
            {"model_type": "adapter3d_vit_tiny", "crop_size": (32, 64, 32)},
            r"the crops of adapter3d_vit_tiny are cubes, got \(32, 64, 32\)",
        ),
        (
            {"model_type": "adapter3d_vit_tiny", "click_recipe": "corrected"},
            "clicks on the background need labelled_clicks=True, got num_negative 20",
        ),
        ({"num_positive": 0}, "num_positive must be at least 1"),
    ],
)
def test_wrong_options_are_refused(build: Build, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_schedule_needs_its_length(build: Build, make_trainer: Build) -> None:
    trainer = make_trainer(max_epochs=-1, max_steps=1)
    with pytest.raises(ValueError, match=r"without trainer\.max_epochs schedule_epochs must be"):
        trainer.fit(build(), datamodule=PatchData(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_takes_a_step(build: Build, make_trainer: Build, name: str) -> None:
    if name.startswith("nnunet"):
        pytest.importorskip("dynamic_network_architectures")
    crop = (64, 64, 64) if name.startswith("nnunet") else (64, 32, 32)
    module = build(model_type=name, crop_size=crop)
    before = [p.clone() for p in module.parameters() if p.requires_grad]
    trainer = make_trainer(max_steps=1)
    trainer.fit(module, datamodule=PatchData(2, crop=crop, scan=crop))
    after = [p for p in module.parameters() if p.requires_grad]
    changed = [not old.equal(new) for old, new in zip(before, after, strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    assert 0 <= trainer.callback_metrics["val/dice"].item() <= 1
