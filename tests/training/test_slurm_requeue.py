"""Runs that SLURM signals: saved at the end of a batch, queued again, and gone on with."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from neurosam3d.training import NeuroSamModel
from neurosam3d.training.slurm import (
    SIGNAL,
    SlurmRequeue,
    check_allocation,
    job_id,
    next_path,
    requeue,
)

Build = Callable[..., Any]


class SignalDuring(Callback):
    """Sends this process the signal in the middle of a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, _: Any) -> None:
        if trainer.global_step == self.batch:
            os.kill(os.getpid(), SIGNAL)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `scontrol` on the path that writes down what it is asked, and be its job 42."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program, asked = folder / "scontrol", folder / "asked"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {asked}\nif [ "$2" = 13 ]; then echo no >&2; exit 1; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    return asked


def test_a_signalled_run_is_saved_after_the_batch_and_queued_again(
    queue: Path, crop_data: Build, make_trainer: Build, tmp_path: Path
) -> None:
    earlier = signal.getsignal(SIGNAL)
    module = NeuroSamModel("vit_tiny", 32, num_clicks=1, work_dir=str(tmp_path))
    trainer = make_trainer(
        callbacks=[SlurmRequeue(), SignalDuring(1)], limit_val_batches=0, max_steps=3
    )
    trainer.fit(module, datamodule=crop_data(8))
    assert queue.read_text().split("\n") == ["requeue 42", ""]
    (saved,) = tmp_path.glob("hpc_ckpt_*.ckpt")
    content = torch.load(saved, weights_only=True)
    assert (saved.name, content["global_step"]) == ("hpc_ckpt_1.ckpt", 2)
    assert signal.getsignal(SIGNAL) == earlier

    again = make_trainer(callbacks=[SlurmRequeue()], limit_val_batches=0, max_steps=4)
    again.fit(module, datamodule=crop_data(8))
    assert again.global_step == 4
    assert queue.read_text().count("requeue") == 1


def test_a_run_that_nobody_signals_leaves_nothing(
    queue: Path, crop_data: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = NeuroSamModel("vit_tiny", 32, num_clicks=1, work_dir=str(tmp_path))
    trainer = make_trainer(callbacks=[SlurmRequeue()], limit_val_batches=0, max_steps=1)
    trainer.fit(module, datamodule=crop_data(2))
    assert not queue.exists()
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_refusal_is_told(queue: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        requeue("13")
        requeue("14")
    assert [record.getMessage() for record in caplog.records] == [
        "job 13 could not be queued again: no",
        "job 14 is queued again",
    ]


def test_a_task_of_an_array_is_named_by_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "44")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    assert job_id() == "44"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "42")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert job_id() == "42_1"


def test_files_are_counted_as_numbers(tmp_path: Path) -> None:
    assert next_path(tmp_path).name == "hpc_ckpt_1.ckpt"
    for number in (2, 10):
        (tmp_path / f"hpc_ckpt_{number}.ckpt").touch()
    assert next_path(tmp_path).name == "hpc_ckpt_11.ckpt"


@pytest.mark.parametrize(
    ("nodes", "tasks", "got"), [("1", "2", "2 tasks on 1 node"), ("2", "3", "3 tasks on 2 nodes")]
)
def test_an_allocation_must_have_a_task_per_device(
    nodes: str, tasks: str, got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NNODES", nodes)
    monkeypatch.setenv("SLURM_NTASKS", tasks)
    with pytest.raises(ValueError, match=f"--nodes=2 --ntasks-per-node=4, got {got}"):
        check_allocation(4, 2)
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    check_allocation(4, 2)


def test_a_number_of_batches_is_positive() -> None:
    with pytest.raises(ValueError, match="every_n_batches is at least 1, got 0"):
        SlurmRequeue(0)
