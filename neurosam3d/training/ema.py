"""An exponential moving average of the weights, which validates and is what a run leaves behind."""

import warnings
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging


class WeightEma(EMAWeightAveraging):
    """Averages the weights over the optimizer steps; Lightning's callback, with three differences.

    Until the first step there is no average: validation and checkpoints then have the weights that
    were read. Checkpoints written at the end of training can be resumed like all others. And the
    module gets the average when everything else of the run is over.

    Checkpoints hold the average under `state_dict`, which is what `test` and other programs read,
    and the weights that training goes on with beside it.

    Args:
        decay: Share of the old average in the new one, per step.
        every_n_steps: Optimizer steps from one update to the next.
        first_step: Optimizer steps before the average begins.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1, first_step: int = 0) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay of the average lies between 0 and 1, got {decay}")
        if every_n_steps < 1 or first_step < 0:
            raise ValueError(
                f"every_n_steps is at least 1 and first_step at least 0, got {every_n_steps} and "
                f"{first_step}"
            )
        super().__init__(
            decay=decay,
            update_every_n_steps=every_n_steps,
            update_starting_at_step=first_step,
        )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the weights, which are whole: `prepare_sharded_run` has refused all else."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*overrides the configure_model.*")
            super().setup(trainer, pl_module, stage)

    @property
    def has_average(self) -> bool:
        """Whether a step has been averaged."""
        average: Any = self._average_model
        return average is not None and int(average.n_averaged) > 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the average for validation."""
        if self.has_average:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to the weights that learn."""
        if self.has_average:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average in the place of the weights, and these beside it."""
        if self.has_average:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the weights alone: the last checkpoint is still to be written."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the average to the module."""
        if self.has_average:
            super().on_train_end(trainer, pl_module)
