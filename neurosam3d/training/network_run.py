"""What every LightningModule of this room has besides its training: a folder, the weights to start
from, test and prediction on whole scans.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn

from neurosam3d.evaluation.predictor import Predictor, Segmenter
from neurosam3d.evaluation.run import Evaluator
from neurosam3d.models.compiled import compile_network
from neurosam3d.training.finetune import read_start
from neurosam3d.training.whole_scans import (
    ScanPrediction,
    ScanTest,
    SegmentScan,
    require_readable,
    summary_metrics,
)

logger = logging.getLogger(__name__)

STAGES = ("train", "val")


class NetworkRun(pl.LightningModule, ABC):
    """A network in a run; its arguments are in `hparams`.

    Attributes:
        model: The network.
        takes_prompts: Whether it segments what prompts point at.
        make_predictor: Makes what answers clicks on whole scans; handed in by whoever runs test or
            predict.
        make_segmenter: Makes what segments whole scans by itself; likewise.
        segment_scan: Segments the scans of a folder that predict shall write; likewise.
    """

    model: nn.Module
    takes_prompts = True

    def __init__(self) -> None:
        super().__init__()
        self.make_predictor: Callable[..., Predictor] | None = None
        self.make_segmenter: Callable[..., Segmenter] | None = None
        self.segment_scan: SegmentScan | None = None
        self._is_fresh = True  # until weights are read or trained
        self._is_compiled = False

    @abstractmethod
    def open_evaluator(self) -> tuple[Evaluator, Callable[[], Any]]:
        """Return what judges whole scans, and what loads that which segments them.

        Raises:
            ValueError: If nobody has handed in how to make it.
        """

    @property
    def run_dir(self) -> Path:
        """The folder of this run."""
        return Path(self.hparams["work_dir"]) / self.hparams["task_name"]

    def setup(self, stage: str) -> None:
        """Compile the network, if that is wanted and was not done for another stage.

        Raises:
            ValueError: If there is no compiler.
        """
        if self.hparams["compile"] and not self._is_compiled:
            compile_network(self.model)
            self._is_compiled = True

    def on_fit_start(self) -> None:
        """Read the initial weights, unless a run is resumed."""
        self._read_initial_weights()

    def on_validation_start(self) -> None:
        """Read the weights to validate, unless training or ckpt_path brought them."""
        self._read_initial_weights()

    def on_test_start(self) -> None:
        """Read the weights to test, unless training or ckpt_path brought them."""
        self._read_initial_weights()
        evaluator, _ = self.open_evaluator()
        self.scan_test = ScanTest(
            evaluator, self.run_dir / "test", num_pictures=self.hparams["test_pictures"]
        )
        self.trainer.strategy.barrier()  # old pictures are gone before the first new one

    def on_predict_start(self) -> None:
        """Read the weights to predict with, unless training or ckpt_path brought them."""
        self._read_initial_weights()
        evaluator, load = self.open_evaluator()
        segment = self.segment_scan and partial(self.segment_scan, load())
        self.scan_prediction = ScanPrediction(evaluator, segment)

    def _read_initial_weights(self) -> None:
        """Fill the network once; by now Lightning has restored what ckpt_path names."""
        is_fresh, self._is_fresh = self._is_fresh, False
        if not is_fresh or self.trainer.ckpt_path:
            return
        given = [self.hparams["pretrained_weights"], self.hparams["checkpoint"]]
        paths = [path for path in given if path is not None]  # an empty name is a mistake
        read_start(self.model, paths)
        if not paths and self.trainer.is_global_zero:
            logger.warning("no checkpoint given: the network starts from random weights")

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Judge every object of a scan and keep the scores."""
        self.scan_test.judge(batch)
        mean = self.scan_test.mean_dice()
        self.log("mean_dice", mean, on_step=True, on_epoch=False, prog_bar=True, logger=False)

    def on_test_epoch_end(self) -> None:
        """Log the means of all processes' objects, write the report and show the table."""
        outcome = self.scan_test.gather()
        self.log_dict(summary_metrics(outcome.results), sync_dist=True)
        if self.trainer.is_global_zero:
            checkpoint = self.trainer.ckpt_path or self.hparams["checkpoint"]
            self.scan_test.report(outcome, self.hparams, checkpoint=checkpoint)
        require_readable(outcome.unreadable)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return the masks that a scan's objects end with, and their names."""
        return self.scan_prediction.predict(batch)

    def on_predict_epoch_end(self) -> None:
        """Fail, now that the rest is done, if a scan could not be read."""
        self.scan_prediction.finish()

    def _counted(self, batch: Mapping[str, Any], batch_idx: int) -> tuple[Mapping[str, Any], int]:
        """Leave out of a validation batch what only fills the last round of all processes.

        Returns:
            The batch, and how many of its samples count. If that is 0 it is whole and shall be
            computed all the same, for the others may wait for this process.
        """
        loader: Any = self.trainer.val_dataloaders
        size = len(batch["label"])
        repeats = getattr(getattr(loader, "sampler", None), "ends_with_repeat", False)
        if not repeats or batch_idx < len(loader) - 1:
            return batch, size
        if size == 1:
            return batch, 0
        return {name: values[:-1] for name, values in batch.items()}, size - 1

    def _random_key(self, stage: str, batch_idx: int) -> list[int]:
        """Name a batch by numbers, so that its clicks depend on nothing that happened before."""
        epoch = self.current_epoch if stage == "train" else 0
        return [self.hparams["seed"], STAGES.index(stage), epoch, batch_idx, self.global_rank]

    def _generator(self, key: Sequence[int]) -> torch.Generator:
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator(self.device).manual_seed(seed)
