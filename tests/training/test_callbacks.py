from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from neurosam3d.training import NeuroSamModel, callbacks
from neurosam3d.training.callbacks import (
    PredictionWriter,
    ProgressBar,
    ThroughputMonitor,
    peak_memory_gib,
)
from neurosam3d.volume import Volume, read_volume, write_volume

# Axes run to the left, to the back and upwards, in another order and size than canonical ones.
AFFINE = np.array([[0, -2.0, 0, 30], [-1.0, 0, 0, 12], [0, 0, 1.5, -4], [0, 0, 0, 1]])


class LoggedMetrics:
    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.lines.append((step, metrics))


def test_throughput_counts_batches_but_not_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 102.0, 103.0, 150.0, 154.0])
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    log = LoggedMetrics()
    trainer: Any = SimpleNamespace(log_every_n_steps=3, world_size=2, loggers=[log], global_step=9)
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    batch = {"image": torch.zeros(4, 1, 2, 2, 2)}
    monitor = ThroughputMonitor()
    monitor.on_train_epoch_start(trainer, module)
    monitor.on_train_batch_end(trainer, module, None, batch, 0)  # 2 s
    monitor.on_train_batch_end(trainer, module, None, batch, 1)  # 1 s
    monitor.on_validation_start(trainer, module)
    monitor.on_train_batch_end(trainer, module, None, batch, 2)  # after validation: starts anew
    assert log.lines == []
    monitor.on_train_batch_end(trainer, module, None, batch, 3)  # 4 s
    ((step, metrics),) = log.lines
    assert step == 9
    assert metrics["speed/samples_per_second"] == pytest.approx(3 * 4 * 2 / 7)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux keeps this file")
def test_peak_memory_of_a_cpu_run_is_that_of_the_process() -> None:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    assert peak_memory_gib(torch.device("cpu")) == pytest.approx(kib / 2**20, rel=0.05)


def test_progress_bar_shows_the_loss_only_when_it_redraws(
    crop_data: Callable[..., Any], make_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    shown = []

    class Spy(ProgressBar):
        def get_metrics(self, trainer: Any, pl_module: Any) -> Any:
            metrics = super().get_metrics(trainer, pl_module)
            shown.append((trainer.fit_loop.total_batch_idx, set(metrics)))
            return metrics

    module = NeuroSamModel("vit_tiny", 32, num_clicks=1, work_dir=str(tmp_path))
    trainer = make_trainer(callbacks=[Spy(refresh_rate=2)], enable_progress_bar=True)
    trainer.fit(module, datamodule=crop_data(5, batch_size=1))
    assert [index for index, names in shown if "loss" in names and "val/dice" not in names] == [
        1,
        3,
        4,
    ]
    # Whatever Lightning's own bar holds was read from the device when it was logged.
    assert set(trainer.progress_bar_metrics) == {"val/loss", "val/dice"}


def test_a_predicted_box_is_written_in_its_place_in_the_scan(tmp_path: Path) -> None:
    scan = Volume(torch.zeros(1, 20, 26, 18), AFFINE)
    write_volume(scan, tmp_path / "scan.nii.gz")
    found = {
        "dataset": "AMOS_Val",
        "class": "left_kidney",
        "case": "amos_0007",
        "image": str(tmp_path / "scan.nii.gz"),
        "mask": torch.ones(1, 4, 3, 8, dtype=torch.uint8),
        "affine": torch.from_numpy(scan.grid.window((5, 11, 2), (4, 3, 8)).affine.copy()),
    }
    module: Any = SimpleNamespace(run_dir=tmp_path / "run")
    PredictionWriter().write_on_batch_end(None, module, [found], None, None, 0, 0)  # type: ignore[arg-type]
    mask = read_volume(tmp_path / "run/predict/AMOS_Val/left_kidney/amos_0007.nii.gz")
    truth = torch.zeros(1, 20, 26, 18, dtype=torch.uint8)
    truth[0, 5:9, 11:14, 2:10] = 1
    assert mask.data.dtype == torch.uint8
    assert mask.grid.same_as(scan.grid)
    assert mask.data.equal(truth)
