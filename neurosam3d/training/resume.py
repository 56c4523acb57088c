"""Go on exactly where a killed run was saved, in the middle of a shuffled epoch too.

Lightning restores weights, optimizer, schedulers and counters. It restores neither the random state
nor the place in the shuffled data, loses gradients that were being accumulated, and miscounts after
some checkpoints: those of an epoch's last batch, and all epoch ends under ``max_steps``.
`ResumeState` adds what is missing.
"""

import logging
import random
import warnings
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import distributed

logger = logging.getLogger(__name__)

STATE_KEY = "neurosam3d_resume"
COUNTERS = ("ready", "started", "processed", "completed")


class ResumeState(Callback):
    """Save and restore the random state and the place in the data, for bit-equal losses.

    It needs a DataModule with ``batch_size`` and, from its ``setup`` on, a ``train_sampler`` with
    ``seed``, ``set_epoch``, a length, and ``start``, the samples to skip in its next pass. What a
    dataset draws may depend on nothing but what the sampler hands it.

    The place is always one at which the optimizer has just stepped: a checkpoint written while
    gradients are being accumulated names the batch at which the accumulation began, and the few
    batches since are computed again. A validation that was due at the very batch after which a
    checkpoint was written is not caught up on.

    If the number of processes, the batch size, the number of samples or their seed has changed, an
    interrupted epoch starts again from its beginning, with a warning.
    """

    def __init__(self) -> None:
        self._window: dict[str, Any] | None = None  # the place where the accumulation began
        self._pending_rng: list[Any] | None = None  # to be put back before the next batch

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget earlier runs, and check that the DataModule, by now set up, has a place to keep.

        Raises:
            ValueError: If training is to run without a DataModule that has a ``train_sampler``.
        """
        self._window = self._pending_rng = None
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and not hasattr(datamodule, "train_sampler"):
            kind = "none" if datamodule is None else type(datamodule).__name__
            raise ValueError(f"ResumeState needs a DataModule with a train_sampler, got {kind}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the next epoch, which under ``max_steps`` Lightning takes for a begun one."""
        loop: Any = trainer.fit_loop.epoch_loop
        if loop.batch_progress.is_last_batch:
            loop.restarting = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put the random state back: by now, nothing else draws from it before the step."""
        if self._pending_rng is not None:
            restore_random_state(self._pending_rng)
            self._pending_rng = None
        if batch_idx % trainer.accumulate_grad_batches == 0:
            loop: Any = trainer.fit_loop.epoch_loop
            self._window = self._place(
                trainer, trainer.current_epoch, batch_idx, loop.batch_progress.total.processed
            )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the place and the random state of every process to the checkpoint."""
        place = self._window
        if place is None or place["global_step"] != trainer.global_step:
            place = self._current_place(trainer)
        states = _gather(place["rng"])
        checkpoint[STATE_KEY] = {**place, "rng": states, "run": _describe_run(trainer)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Bring the sampler and Lightning's counters, not yet read, to the saved place."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if STATE_KEY not in checkpoint:
            logger.warning(
                "the checkpoint was written without ResumeState: the random state and the place in "
                "the epoch are unknown, so this run will not repeat the uninterrupted one"
            )
            return
        state = _fit_to_run(checkpoint[STATE_KEY], _describe_run(trainer))
        if len(state["rng"]) == trainer.world_size:
            self._pending_rng = state["rng"][trainer.global_rank]
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        datamodule.train_sampler.set_epoch(state["epoch"])
        datamodule.train_sampler.start = state["batch"] * datamodule.batch_size
        _set_progress(checkpoint["loops"]["fit_loop"], state)
        # Lightning asks for a stateful loader; the sampler does what it would have to do.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")

    def _current_place(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Read the place from Lightning's counters; an epoch's end is the next one's beginning."""
        loop: Any = trainer.fit_loop
        batches, started = loop.epoch_loop.batch_progress, loop.epoch_progress.current.started
        if batches.is_last_batch or started == 0:
            return self._place(trainer, started, 0, batches.total.ready)
        return self._place(trainer, started - 1, batches.current.ready, batches.total.ready)

    def _place(self, trainer: pl.Trainer, epoch: int, batch: int, total: int) -> dict[str, Any]:
        """Describe the place before a batch of an epoch, ``total`` batches into the run."""
        return {
            "epoch": epoch,
            "batch": batch,
            "total_batches": total,
            "global_step": trainer.global_step,
            "rng": random_state() if self._pending_rng is None else self._pending_rng,
        }


def random_state() -> list[Any]:
    """Collect the state of torch (CPU and every CUDA device), numpy and Python.

    It consists of tensors, numbers, text and lists, so a checkpoint with it loads without running
    code.
    """
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, cached = numpy_state
    version, words, gauss = random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    keys = torch.from_numpy(keys.astype(np.int64))
    numpy_state = [name, keys, position, has_gauss, cached]
    return [torch.get_rng_state(), cuda, numpy_state, [version, list(words), gauss]]


def restore_random_state(state: list[Any]) -> None:
    """Forget what was drawn since `random_state`; states of absent CUDA devices are left out."""
    cpu, cuda, (name, keys, position, has_gauss, cached), (version, words, gauss) = state
    torch.set_rng_state(cpu)
    for device, device_state in enumerate(cuda[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(device_state, device)
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    random.setstate((version, tuple(words), gauss))


def _gather(value: Any) -> list[Any]:
    """Collect one value per process, in the order of their ranks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _describe_run(trainer: pl.Trainer) -> dict[str, int]:
    """List what must not change, or the samples that an interrupted epoch still owes are others."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    return {
        "processes": trainer.world_size,
        "batch size": datamodule.batch_size,
        "samples per process": len(datamodule.train_sampler),
        "data seed": datamodule.train_sampler.seed,
    }


def _fit_to_run(state: dict[str, Any], run: dict[str, int]) -> dict[str, Any]:
    """Return the state; if the run has changed, with a warning and at its epoch's beginning."""
    changed = [
        f"{name} {old}, now {run[name]}" for name, old in state["run"].items() if old != run[name]
    ]
    if not changed:
        return state
    consequence = "this run will not repeat the uninterrupted one"
    if state["batch"]:
        consequence = f"epoch {state['epoch']} starts again from its beginning"
    logger.warning("the checkpoint was written with %s: %s", "; ".join(changed), consequence)
    return {**state, "batch": 0, "total_batches": state["total_batches"] - state["batch"]}


def _set_progress(loops: dict[str, Any], place: dict[str, Any]) -> None:
    """Rewrite the saved counters of Lightning's loops to a place, in one of two plain forms.

    Before an epoch's first batch: the epochs before it are over. Inside an epoch: the batch before
    the place has just ended, as a checkpoint from `on_train_batch_end` has it.
    """
    epoch, batch = place["epoch"], place["batch"]
    batches, is_inside = loops["epoch_loop.batch_progress"], batch > 0
    for tracker in loops["epoch_progress"]["total"], loops["epoch_progress"]["current"]:
        tracker.update(dict.fromkeys(COUNTERS[:2], epoch + is_inside))
        tracker.update(dict.fromkeys(COUNTERS[2:], epoch))
    for tracker, count in (
        (batches["total"], place["total_batches"]),
        (batches["current"], batch),
    ):
        tracker.update(dict.fromkeys(COUNTERS, count))
        tracker["completed"] -= is_inside
    batches["is_last_batch"] = not is_inside
    # Optimizer steps as the loggers count them; the loop itself adds that of the batch just ended.
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = place["global_step"] - is_inside
