"""A loss that is not finite: the run stops and keeps what was good, or leaves the step out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from neurosam3d.training.callbacks import LastCheckpoint
from neurosam3d.training.finite_loss import FiniteLoss, name_cases

NAN = float("nan")
NAMES = {"dataset": "AMOS_Tr", "class": "liver"}
Run = Callable[..., "Line"]


class Line(pl.LightningModule):
    """Learns a slope; its loss is not finite where the data are not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.constant_(self.layer.bias, 0.0)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        return (self.layer(batch["image"]) - 1).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def items(values: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {
            "image": torch.tensor([float(value)]),
            "dataset": "AMOS_Tr",
            "class": "liver",
            "case": f"scan{n}",
        }
        for n, value in enumerate(values)
    ]


@pytest.fixture
def fit(make_trainer: Callable[..., pl.Trainer]) -> Run:
    """Return a function that trains on given numbers, one per batch."""

    def run(values: Sequence[float], guard: FiniteLoss, *more: Any, **options: Any) -> Line:
        module = Line()
        trainer = make_trainer(callbacks=[guard, *more], enable_checkpointing=bool(more), **options)
        trainer.fit(module, DataLoader(items(values), batch_size=1))  # type: ignore[arg-type]
        return module

    return run


def slope(module: Line) -> tuple[float, float]:
    return module.layer.weight.item(), module.layer.bias.item()


def test_the_case_is_named_and_the_good_checkpoint_stays(fit: Run, tmp_path: Path) -> None:
    keep = LastCheckpoint(str(tmp_path), every_n_train_steps=1)
    with pytest.raises(ValueError, match="got nan or infinity for AMOS_Tr/liver/scan2; "):
        fit([1, 2, NAN, 4], FiniteLoss(), keep)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 2
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.mark.parametrize("values", [[1, NAN, 3, 4], [1, float("inf"), 3], [1, NAN]])
def test_without_a_checkpoint_it_is_noticed_a_step_later(fit: Run, values: list[float]) -> None:
    with pytest.raises(ValueError, match="for AMOS_Tr/liver/scan1; "):
        fit(values, FiniteLoss())


def test_all_batches_of_an_accumulated_step_are_named(fit: Run) -> None:
    with pytest.raises(ValueError, match="for AMOS_Tr/liver/scan2, AMOS_Tr/liver/scan3; "):
        fit([1, 2, NAN, 4, 5, 6], FiniteLoss(), accumulate_grad_batches=2)


def test_a_finite_run_is_left_alone(fit: Run) -> None:
    values = [1.0, -2.0, 3.0]
    assert slope(fit(values, FiniteLoss())) == slope(fit(values, FiniteLoss("skip")))


def test_skipping_is_as_if_the_batch_were_not_there(
    fit: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with_hole = fit([1, 2, NAN, 4], FiniteLoss("skip"))
    assert slope(with_hole) == slope(fit([1, 2, 4], FiniteLoss()))
    assert caplog.messages.count("loss not finite, step left out: AMOS_Tr/liver/scan2") == 1


def test_skipping_has_an_end(fit: Run) -> None:
    holes = [NAN] * 9
    fit([*holes, 1, *holes], FiniteLoss("skip"))
    with pytest.raises(ValueError, match=r"got 10 steps in succession .* for AMOS_Tr/liver/scan9"):
        fit([*holes, NAN], FiniteLoss("skip"))


def test_a_guard_serves_one_run_after_the_other(fit: Run) -> None:
    guard = FiniteLoss()
    with pytest.raises(ValueError, match="scan0"):
        fit([NAN, 1], guard)
    fit([1, 2], guard)


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        ({"dataset": ["A", "B"], "class": ["c", "d"], "case": ["1", "2"]}, ["A/c/1", "B/d/2"]),
        ({"dataset": ["A"], "case": ["1"], "image": torch.zeros(1)}, ["A/1"]),
        ({"dataset": "A", "case": "1"}, ["A/1"]),
        (torch.zeros(2), []),
    ],
)
def test_cases_are_named_as_far_as_the_batch_says(batch: Any, names: list[str]) -> None:
    assert name_cases(batch) == names


class Dealt(pl.LightningDataModule):
    """Gives the first half of the numbers to the first process and the rest to the second."""

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        self.values = values

    def train_dataloader(self) -> Any:
        assert self.trainer is not None
        half = len(self.values) // 2
        first = self.trainer.global_rank * half
        return DataLoader(items(self.values)[first : first + half], batch_size=1)  # type: ignore[arg-type]


@pytest.mark.slow
def test_all_processes_stop_or_skip_together(
    make_trainer: Callable[..., pl.Trainer], tmp_path: Path
) -> None:
    values = [1, 2, 3, 4, NAN, 6]

    def fit(action: Any) -> Line:
        module = Line()
        keep = LastCheckpoint(str(tmp_path), every_n_train_steps=1)
        trainer = make_trainer(
            strategy="ddp_spawn",
            devices=2,
            callbacks=[FiniteLoss(action), keep],
            enable_checkpointing=True,
        )
        trainer.fit(module, datamodule=Dealt(values))
        return module

    with pytest.raises(Exception, match="scan1, AMOS_Tr/liver/scan4"):
        fit("stop")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1
    assert all(torch.isfinite(torch.tensor(slope(fit("skip")))))
