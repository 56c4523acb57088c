"""Callbacks: the last checkpoint, speed and memory, a progress bar that does not wait, masks."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    Callback,
    Checkpoint,
    TQDMProgressBar,
)
from lightning.pytorch.trainer.states import TrainerFn

from neurosam3d.volume import Volume, read_grid, restore, write_volume


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, from which `--ckpt_path last` goes on.

    It is written after every validation, every so many optimizer steps, and when training ends, in
    mid-epoch too; not in a trial run (`fast_dev_run`), whose folder may hold a real one.

    Args:
        dirpath: Folder of the checkpoints.
        every_n_train_steps: Optimizer steps from one writing to the next.

    Raises:
        ValueError: If the number of steps is not positive.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps is at least 1, got {every_n_train_steps}")
        self.dirpath = dirpath
        self.every_n_train_steps = every_n_train_steps
        self._saved_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the weights at the start, which need no file, as saved."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if enough steps have been taken."""
        if trainer.global_step >= self._saved_step + self.every_n_train_steps:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation within training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the steps since the last writing."""
        if trainer.global_step > self._saved_step:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved_step = trainer.global_step
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt", weights_only=False)


class ThroughputMonitor(Callback):
    """Logs `speed/samples_per_second` of all processes and `memory/peak_gib` of this one.

    Speed is counted over the batches between two log lines, validation left out, by the host's
    clock alone: it never waits for the device. Memory is the peak of CUDA's allocator, or of the
    process without a CUDA device.
    """

    def __init__(self) -> None:
        self._batches = self._samples = 0
        self._seconds = 0.0
        self._last: float | None = None  # when the last batch ended

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._last = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a batch and log as often as the trainer does."""
        now = time.monotonic()
        if self._last is not None:
            self._batches += 1
            self._samples += len(batch["image"])
            self._seconds += now - self._last
        self._last = now
        if self._batches < trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        metrics = {
            "speed/samples_per_second": self._samples * trainer.world_size / self._seconds,
            "memory/peak_gib": peak_memory_gib(pl_module.device),
        }
        for one in trainer.loggers:
            one.log_metrics(metrics, step=trainer.global_step)
        self._batches = self._samples = 0
        self._seconds = 0.0


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory in use so far: of the CUDA device, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class ProgressBar(TQDMProgressBar):
    """A progress bar with the training loss, read from the device only when the bar is redrawn.

    A metric logged with ``prog_bar=True`` would be read in every step, and the host wait for it.

    Args:
        refresh_rate: Batches from one redrawing to the next.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Add the loss of the latest batch to what Lightning shows."""
        metrics = super().get_metrics(trainer, pl_module)
        loss = trainer.callback_metrics.get("train/loss_step")
        return metrics if loss is None else {"loss": round(loss.item(), 4), **metrics}


class PredictionWriter(BasePredictionWriter):
    """Writes the masks of `train.py predict` on the grids of the images they belong to.

    Files are `<run folder>/predict/<dataset>/<class>/<case>.nii.gz`, of 0 and 1, as soon as a scan
    is done.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Put the boxes around the objects of a scan back into its grid and write them."""
        module: Any = pl_module
        for found in prediction:
            image = Path(found["image"])
            mask = restore(Volume(found["mask"], found["affine"].numpy()), read_grid(image))
            folder = module.run_dir / "predict" / found["dataset"] / found["class"]
            like = image if image.is_file() else None
            write_volume(mask, folder / f"{found['case']}.nii.gz", like=like)
