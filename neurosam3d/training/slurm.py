"""Runs on SLURM: saved and queued again before their time is up."""

import logging
import os
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

SIGNAL = signal.SIGUSR1  # what `#SBATCH --signal` of mytrain.sh asks for

logger = logging.getLogger(__name__)


class SlurmRequeue(Callback):
    """Saves the run and queues its job again when SLURM signals that the time is nearly up.

    It takes the place of Lightning's handler of the signal, which saves wherever each process is at
    that moment; several processes then wait for each other forever, one for the others' gradients
    and they for its file. Here the signal is only noted, and the processes agree at the end of a
    batch. The file, `hpc_ckpt_<number>.ckpt` in the trainer's default_root_dir, is Lightning's: the
    job goes on from it by itself.

    Args:
        every_n_batches: Batches from one agreement of several processes to the next, since each
            makes them wait for the device.

    Raises:
        ValueError: If the number of batches is not positive.
    """

    def __init__(self, every_n_batches: int = 5) -> None:
        if every_n_batches < 1:
            raise ValueError(f"every_n_batches is at least 1, got {every_n_batches}")
        self.every_n_batches = every_n_batches
        self._is_signalled = False
        self._batches = 0  # of this run so far; all processes have as many
        self._earlier: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen; Lightning leaves a signal alone that somebody listens to."""
        if stage == "fit":
            self._is_signalled = False
            self._earlier = signal.signal(SIGNAL, self._notice)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen no longer."""
        if stage == "fit" and self._earlier is not None:
            signal.signal(SIGNAL, self._earlier)
            self._earlier = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and requeue if any process was signalled."""
        self._batches += 1
        if trainer.world_size > 1 and self._batches % self.every_n_batches:
            return
        if trainer.strategy.reduce_boolean_decision(self._is_signalled, all=False):
            self._is_signalled = False
            self._save(trainer)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self._is_signalled = True

    def _save(self, trainer: pl.Trainer) -> None:
        path = next_path(Path(trainer.default_root_dir))
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero:
            logger.info("the time is nearly up: the run is saved as %s", path)
            requeue(job_id())


def check_allocation(num_devices: int, num_nodes: int) -> None:
    """Check that SLURM has started a process for every device of a run.

    Args:
        num_devices: Devices of each node, as the trainer has them.
        num_nodes: Nodes.

    Raises:
        ValueError: If it has not; the run would wait for the others forever, or leave them idle.
    """
    nodes, tasks = int(os.environ.get("SLURM_NNODES", "1")), int(os.environ["SLURM_NTASKS"])
    if (nodes, tasks) != (num_nodes, num_nodes * num_devices):
        raise ValueError(
            f"trainer.num_nodes {num_nodes} with trainer.devices {num_devices} needs sbatch "
            f"--nodes={num_nodes} --ntasks-per-node={num_devices}, got {tasks} tasks on {nodes} "
            f"node{'' if nodes == 1 else 's'}"
        )


def next_path(folder: Path) -> Path:
    """Return the file that Lightning will go on from, rather than from those that are there."""
    numbers = [int(path.stem.removeprefix("hpc_ckpt_")) for path in folder.glob("hpc_ckpt_*.ckpt")]
    return folder / f"hpc_ckpt_{max(numbers, default=0) + 1}.ckpt"


def job_id() -> str:
    """Return the name of this job, or of this task of an array, to SLURM."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def requeue(job: str) -> None:
    """Ask SLURM to run a job again; SLURM then ends this run of it."""
    words = ["scontrol", "requeue", job]
    # SLURM's own number of the job, without a shell; scontrol is where the cluster has put it.
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # nosec B603
    if done.returncode == 0:
        logger.info("job %s is queued again", job)
    else:
        logger.warning("job %s could not be queued again: %s", job, done.stderr.strip())
