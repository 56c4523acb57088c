"""A loss that is not finite ends a run before it can spoil what the run has kept."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, distributed
from torch.optim import Optimizer

logger = logging.getLogger(__name__)

Action = Literal["stop", "skip"]

MOST_SKIPPED = 10  # in succession; by then the weights are at fault, not the batches


@dataclass(frozen=True)
class _Step:
    """An optimizer step whose losses have been computed, perhaps not yet by the device.

    Args:
        is_finite: Whether all of them are finite, in all processes.
        cases: What this process's batches held.
    """

    is_finite: Tensor
    cases: list[str]


class FiniteLoss(Callback):
    """Stops a run, or leaves out an optimizer step, when a loss is not finite.

    Stopping names the cases of the batch. It is noticed one step later, so that the host never
    waits for the device in between, but always before a checkpoint is written: the files of a run
    hold what was good. Leaving out means that no weight and none of the optimizer's moments change;
    it makes the host wait once per step. All processes do the same.

    Args:
        action: stop, or skip the step with a warning; ten in succession stop the run all the same.

    Raises:
        ValueError: From the hooks, with the names of the cases.
    """

    def __init__(self, action: Action = "stop") -> None:
        self.action = action
        self._forget()

    def _forget(self) -> None:
        self._flags: list[Tensor] = []  # of the batches since the last optimizer step
        self._cases: list[str] = []  # likewise
        self._last: _Step | None = None
        self._skipped = 0  # in succession

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an earlier run."""
        self._forget()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the names of the batch's cases."""
        self._cases += name_cases(batch)

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Keep whether the loss is finite, without waiting for it."""
        self._flags.append(loss.detach().isfinite())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Judge the step before this one, or this one if it may have to be left out."""
        step = _Step(_agree(torch.stack(self._flags).all()), self._cases)
        self._flags, self._cases = [], []
        if self.action == "skip":
            self._leave_out_if_bad(step, optimizer)
            return
        self._require_finite()
        self._last = step

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the last step: what it has spoilt is not worth validating."""
        self._require_finite()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Judge the last step before anything takes the place of an earlier file."""
        self._require_finite()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the last step of the run."""
        self._require_finite()

    def _require_finite(self) -> None:
        if self._last is not None and not self._last.is_finite:
            raise ValueError(
                f"the loss must be finite, got nan or infinity for {_join(self._last.cases)}; "
                "checkpoints of earlier steps are kept; --on_nonfinite_loss skip leaves such "
                "batches out"
            )
        self._last = None

    def _leave_out_if_bad(self, step: _Step, optimizer: Optimizer) -> None:
        if step.is_finite:
            self._skipped = 0
            return
        self._skipped += 1
        if self._skipped == MOST_SKIPPED:
            raise ValueError(
                f"the loss must be finite, got {MOST_SKIPPED} steps in succession in which it is "
                f"not, the last for {_join(step.cases)}"
            )
        optimizer.zero_grad(set_to_none=True)  # optimizers pass over weights without a gradient
        logger.warning("loss not finite, step left out: %s", _join(step.cases))


def name_cases(batch: Any) -> list[str]:
    """Return `<data set>/<class>/<case>` of every item, as far as the batch says it."""
    if not isinstance(batch, Mapping):
        return []
    said = [batch[key] for key in ("dataset", "class", "case") if key in batch]
    columns = [value if isinstance(value, Sequence) else [str(value)] for value in said]
    return ["/".join(map(str, names)) for names in zip(*columns, strict=False)]


def _agree(is_finite: Tensor) -> Tensor:
    """Return whether a flag is set in all processes, without waiting for it."""
    agreed = is_finite.to(torch.uint8)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(agreed, op=distributed.ReduceOp.MIN)
    return agreed


def _join(cases: Sequence[str]) -> str:
    """Name the cases of all processes, all of which are here."""
    gathered = [list(cases)]
    if distributed.is_available() and distributed.is_initialized():
        gathered = [[] for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(gathered, list(cases))
    return ", ".join(dict.fromkeys(name for one in gathered for name in one)) or "a batch"
