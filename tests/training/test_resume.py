"""Interrupted and resumed runs of a toy network against uninterrupted ones, loss by loss."""

import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from torch.utils.data import Dataset

from neurosam3d.data.sampler import LazyLoader, ResumableSampler, SampleKey
from neurosam3d.training.callbacks import LastCheckpoint
from neurosam3d.training.resume import ResumeState, random_state, restore_random_state

NUM_SAMPLES, BATCH_SIZE = 13, 2  # 7 batches, the last of one sample
Record = tuple[Any, ...]


class Numbers(Dataset[dict[str, Tensor]]):
    """Samples that follow from the sampler's key alone."""

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(key.seed)
        return {"x": torch.randn(8, generator=generator), "index": torch.tensor(key.index)}

    def __len__(self) -> int:
        return NUM_SAMPLES


class NumberData(pl.LightningDataModule):
    def __init__(
        self, *, num_workers: int, batch_size: int, num_samples: int, data_seed: int
    ) -> None:
        super().__init__()
        self.num_workers, self.batch_size = num_workers, batch_size
        self.num_samples, self.data_seed = num_samples, data_seed

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.train_sampler = ResumableSampler(
                self.num_samples, shuffle=True, seed=self.data_seed
            )

    def train_dataloader(self) -> LazyLoader:
        return LazyLoader(
            Numbers(),
            batch_size=self.batch_size,
            sampler=self.train_sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),
        )

    def val_dataloader(self) -> LazyLoader:
        sampler = ResumableSampler(4, shuffle=False, seed=3)
        return LazyLoader(Numbers(), sampler=sampler, generator=torch.Generator())


class Toy(pl.LightningModule):
    """Draws from every global generator in each step and writes down what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 1))
        self.records: list[Record] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        noise = 0.01 * (random.random() + float(np.random.rand()))
        loss = self.network(batch["x"]).square().mean() + noise
        place = (self.current_epoch, batch_idx, self.global_step)
        self.records.append((*place, batch["index"].tolist(), loss.item()))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.network(batch["x"]).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.7)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class SaveAt(Callback):
    """Writes a checkpoint at the n-th call of a hook."""

    def __init__(self, hook: str, number: int, path: Path) -> None:
        self.number, self.path = number, path
        setattr(self, hook, self._count)

    def _count(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        self.number -= 1
        if self.number == 0:
            trainer.save_checkpoint(self.path)


class KillAt(Callback):
    """Kills the process in the middle of a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_before_zero_grad(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(
    *callbacks: Callback,
    resume: Path | None = None,
    seed: int = 1,
    num_workers: int = 0,
    batch_size: int = BATCH_SIZE,
    num_samples: int = NUM_SAMPLES,
    data_seed: int = 3,
    trainer_options: dict[str, Any] | None = None,
) -> tuple[list[Record], pl.Trainer]:
    """Run the toy; return its records and the trainer."""
    pl.seed_everything(seed, verbose=False)
    options: dict[str, Any] = {
        "max_epochs": 3,
        "val_check_interval": 0.5,
        **(trainer_options or {}),
    }
    trainer = pl.Trainer(
        callbacks=[*callbacks, ResumeState()],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
    toy = Toy()
    data = NumberData(
        num_workers=num_workers,
        batch_size=batch_size,
        num_samples=num_samples,
        data_seed=data_seed,
    )
    trainer.fit(toy, datamodule=data, ckpt_path=resume)
    return toy.records, trainer


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def assert_repeats(resumed: Sequence[Record], whole: Sequence[Record], *, num_left: int) -> None:
    assert list(resumed) == list(whole[len(whole) - num_left :])


PLACES = [  # hook, call of the hook, batches that are left of 21
    ("on_train_batch_end", 1, 20),
    ("on_train_batch_end", 6, 15),
    ("on_train_batch_end", 7, 14),  # the last of an epoch
    ("on_train_batch_end", 10, 11),
    ("on_validation_end", 1, 21),  # the check before training; then after batches 3, 6, 10 ...
    ("on_validation_end", 2, 18),
    ("on_validation_end", 3, 15),
    ("on_validation_end", 5, 8),
    ("on_train_epoch_end", 2, 7),
]


@pytest.mark.parametrize(("hook", "number", "left"), PLACES)
@pytest.mark.parametrize(
    "limit", [{"max_epochs": 3}, {"max_epochs": None, "max_steps": 21}], ids=str
)
def test_resumed_losses_equal_uninterrupted_ones(
    tmp_path: Path, hook: str, number: int, left: int, limit: dict[str, Any]
) -> None:
    whole, _ = fit(trainer_options=limit)
    fit(SaveAt(hook, number, tmp_path / "a.ckpt"), trainer_options=limit)
    resumed, trainer = fit(resume=tmp_path / "a.ckpt", seed=99, trainer_options=limit)
    assert_repeats(resumed, whole, num_left=left)
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == trainer.global_step == 21


@pytest.mark.parametrize(("hook", "number", "left"), PLACES)
def test_interrupted_accumulation_is_computed_again(
    tmp_path: Path, hook: str, number: int, left: int
) -> None:
    options = {"accumulate_grad_batches": 3}
    steps = (0, 3, 6, 7, 10, 13, 14, 17, 20)  # batches after which the optimizer has just stepped
    whole, _ = fit(trainer_options=options)
    fit(SaveAt(hook, number, tmp_path / "a.ckpt"), trainer_options=options)
    resumed, _ = fit(resume=tmp_path / "a.ckpt", seed=99, trainer_options=options)
    assert_repeats(resumed, whole, num_left=21 - max(step for step in steps if step <= 21 - left))


@pytest.mark.parametrize(
    ("second", "most"),
    [("on_train_batch_end", 17), ("on_validation_end", 18), ("on_train_epoch_end", 14)],
)
@pytest.mark.parametrize(("hook", "number", "left"), [PLACES[2], PLACES[5], PLACES[6]])
@pytest.mark.parametrize(
    "limit", [{"max_epochs": 3}, {"max_epochs": None, "max_steps": 21}], ids=str
)
def test_resumed_run_can_be_resumed(
    tmp_path: Path, hook: str, number: int, left: int, second: str, most: int, limit: dict[str, Any]
) -> None:
    whole, _ = fit(trainer_options=limit)
    fit(SaveAt(hook, number, tmp_path / "a.ckpt"), trainer_options=limit)
    fit(
        SaveAt(second, 1, tmp_path / "b.ckpt"),
        resume=tmp_path / "a.ckpt",
        seed=98,
        trainer_options=limit,
    )
    resumed, _ = fit(resume=tmp_path / "b.ckpt", seed=99, trainer_options=limit)
    assert 7 <= len(resumed) <= most
    assert_repeats(resumed, whole, num_left=len(resumed))


@pytest.mark.parametrize(("hook", "number", "left"), [PLACES[1], PLACES[6], PLACES[8]])
def test_workers_make_no_difference(tmp_path: Path, hook: str, number: int, left: int) -> None:
    whole, _ = fit()
    fit(SaveAt(hook, number, tmp_path / "a.ckpt"), num_workers=2)
    resumed, _ = fit(resume=tmp_path / "a.ckpt", seed=99, num_workers=2)
    assert_repeats(resumed, whole, num_left=left)


def test_epoch_cut_short_by_max_steps_is_finished_later(tmp_path: Path) -> None:
    whole, _ = fit()
    save = SaveAt("on_train_end", 1, tmp_path / "a.ckpt")
    fit(save, trainer_options={"max_epochs": None, "max_steps": 10})
    resumed, _ = fit(resume=tmp_path / "a.ckpt", seed=99)
    assert_repeats(resumed, whole, num_left=11)


def test_termination_signal_then_resume(tmp_path: Path) -> None:
    class Terminate(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.fit_loop.total_batch_idx == 8:
                os.kill(os.getpid(), signal.SIGTERM)

    whole, _ = fit()
    with pytest.raises(SIGTERMException):
        fit(Terminate(), SaveAt("on_exception", 1, tmp_path / "a.ckpt"))
    resumed, _ = fit(resume=tmp_path / "a.ckpt", seed=99)
    assert_repeats(resumed, whole, num_left=12)  # the batch was finished before the run stopped


def test_error_inside_a_step_repeats_the_step(tmp_path: Path) -> None:
    class Fail(Callback):
        def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.fit_loop.total_batch_idx == 8:
                raise RuntimeError("out of memory")

    whole, _ = fit()
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(Fail(), SaveAt("on_exception", 1, tmp_path / "a.ckpt"))
    resumed, _ = fit(resume=tmp_path / "a.ckpt", seed=99)
    assert_repeats(resumed, whole, num_left=13)


def run_until_killed(folder: str) -> None:
    """Be the child process of the next test."""
    save = ModelCheckpoint(folder, "{step}", every_n_train_steps=4, save_top_k=-1)
    fit(save, KillAt(10), num_workers=2)


def test_killed_process_then_resume(tmp_path: Path) -> None:
    script = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('child', sys.argv[1])\n"
        "child = importlib.util.module_from_spec(spec)\n"
        "sys.modules['child'] = child\n"
        "spec.loader.exec_module(child)\n"
        "child.run_until_killed(sys.argv[2])\n"
    )
    command = [sys.executable, "-c", script, __file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step=4.ckpt", "step=8.ckpt"]
    whole, _ = fit()
    resumed, _ = fit(resume=tmp_path / "step=8.ckpt", seed=99)
    assert_repeats(resumed, whole, num_left=13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, "batch size 2, now 3"),
        ({"num_samples": 11}, "samples per process 13, now 11"),
        ({"data_seed": 4}, "data seed 3, now 4"),
    ],
)
def test_changed_run_starts_its_epoch_again(
    tmp_path: Path, change: dict[str, int], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    fit(SaveAt("on_train_batch_end", 10, tmp_path / "a.ckpt"))
    resumed, trainer = fit(resume=tmp_path / "a.ckpt", **change)
    assert f"was written with {message}: epoch 1 starts again from its beginning" in caplog.text
    num_samples = change.get("num_samples", NUM_SAMPLES)
    for epoch in (1, 2):
        seen = [index for e, _, _, indices, _ in resumed if e == epoch for index in indices]
        assert sorted(seen) == list(range(num_samples))
    assert trainer.global_step == 10 + len(resumed)
    assert trainer.fit_loop.total_batch_idx == 7 + len(resumed) - 1


def test_checkpoint_without_state_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(SaveAt("on_train_epoch_end", 1, tmp_path / "a.ckpt"))
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    del content["neurosam3d_resume"]
    torch.save(content, tmp_path / "a.ckpt")
    resumed, _ = fit(resume=tmp_path / "a.ckpt")
    assert "the checkpoint was written without ResumeState" in caplog.text
    assert len(resumed) == 14


def test_validation_of_a_checkpoint_needs_no_training_data(tmp_path: Path) -> None:
    fit(SaveAt("on_train_batch_end", 10, tmp_path / "a.ckpt"))
    trainer = pl.Trainer(callbacks=[ResumeState()], accelerator="cpu", logger=False)
    data = NumberData(num_workers=0, batch_size=2, num_samples=NUM_SAMPLES, data_seed=3)
    scores = trainer.validate(Toy(), datamodule=data, ckpt_path=tmp_path / "a.ckpt", verbose=False)
    assert scores[0]["val/loss"] > 0


def test_data_without_a_place_is_refused() -> None:
    loader = torch.utils.data.DataLoader(Numbers())
    trainer = pl.Trainer(callbacks=[ResumeState()], accelerator="cpu", logger=False)
    with pytest.raises(
        ValueError, match="ResumeState needs a DataModule with a train_sampler, got none"
    ):
        trainer.fit(Toy(), loader)


def test_random_state_round_trip() -> None:
    def draw() -> list[float]:
        return [torch.rand(1).item(), float(np.random.randn()), random.gauss(0, 1)]

    draw()  # leaves numpy and Python with the second half of a pair of normal numbers
    state = random_state()
    first = [draw(), draw()]
    restore_random_state(state)
    assert [draw(), draw()] == first


@pytest.mark.parametrize(
    ("every", "options", "steps"),
    [
        (2, {"max_steps": 5}, [2, 4, 5]),
        (100, {"max_steps": 5, "check_val_every_n_epoch": None, "val_check_interval": 3}, [3, 5]),
        (100, {"max_steps": 5, "val_check_interval": 1.0}, [5]),
    ],
)
def test_last_checkpoint_holds_the_last_step(
    tmp_path: Path, every: int, options: dict[str, Any], steps: list[int]
) -> None:
    whole, _ = fit(trainer_options={**options, "max_steps": 9})
    last, saved = LastCheckpoint(str(tmp_path), every), []
    write = last._save

    def note(trainer: pl.Trainer) -> None:
        saved.append(trainer.global_step)
        write(trainer)

    last._save = note  # type: ignore[method-assign]
    begun, _ = fit(last, trainer_options={"limit_val_batches": 0 if every == 2 else 1.0, **options})
    assert saved == steps
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    rest, _ = fit(resume=tmp_path / "last.ckpt", seed=9, trainer_options=options | {"max_steps": 9})
    assert begun + rest == whole
