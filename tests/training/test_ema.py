"""The average of the weights: its values, who sees it, and a run that is resumed with it."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from neurosam3d.training.callbacks import LastCheckpoint
from neurosam3d.training.ema import WeightEma


class Climber(pl.LightningModule):
    """Its one weight grows by 1 in each step, from 10 on, which it reads when training begins."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.validated: list[float] = []
        self.trained: list[float] = []

    def on_fit_start(self) -> None:
        if self.trainer.ckpt_path is None:
            self.weight.data.fill_(10.0)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.trained.append(self.weight.item())
        return -self.weight * batch.mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validated.append(self.weight.item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder: Path, *, steps: int, resume: Path | None = None, **options: Any) -> Climber:
    climber = Climber()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        max_steps=steps,
        val_check_interval=2,
        callbacks=[WeightEma(decay=0.5, **options), LastCheckpoint(str(folder))],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
    )
    ones = torch.ones(4, 1)
    trainer.fit(climber, DataLoader(ones), DataLoader(ones[:1]), ckpt_path=resume)
    return climber


def test_validation_sees_the_weights_read_and_then_their_average(tmp_path: Path) -> None:
    climber = fit(tmp_path, steps=4)
    assert climber.trained == [10.0, 11.0, 12.0, 13.0]
    # After step 1 the average is 11; then (11 + 12) / 2, (11.5 + 13) / 2, (12.25 + 14) / 2.
    assert climber.validated == [10.0, 11.5, 13.125]


def test_module_has_the_average_in_the_end_and_so_has_the_checkpoint(tmp_path: Path) -> None:
    climber = fit(tmp_path, steps=4)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert climber.weight.item() == 13.125
    assert checkpoint["state_dict"]["weight"].item() == 13.125
    assert checkpoint["current_model_state"]["weight"].item() == 14.0


def test_a_finished_run_goes_on_as_if_it_had_not_ended(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", steps=7)
    fit(tmp_path / "first", steps=4)
    rest = fit(tmp_path / "rest", steps=7, resume=tmp_path / "first" / "last.ckpt")
    assert rest.trained == whole.trained[4:] == [14.0, 15.0, 16.0]
    assert rest.weight.item() == whole.weight.item()


def test_average_begins_late_and_is_updated_now_and_then(tmp_path: Path) -> None:
    climber = fit(tmp_path, steps=5, first_step=1, every_n_steps=2)
    # Updated after steps 3 and 5: 13, then (13 + 15) / 2.
    assert climber.weight.item() == 14.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decay": 1.0}, "between 0 and 1, got 1.0"),
        ({"every_n_steps": 0}, "got 0 and 0"),
        ({"first_step": -1}, "got 1 and -1"),
    ],
)
def test_unfit_numbers_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightEma(**values)
