"""Checkpoints that appear whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from neurosam3d.files import replacing


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, and only then gives it the name.

    Lightning writes into the system's folder of temporary files and moves the result from there.
    On a cluster that is another disk than the run's, and to move means to copy: a kill or a full
    disk would leave half a checkpoint where a whole one was.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; paths with a protocol, such as s3://, are left to Lightning.

        Raises:
            OSError: If it cannot be written; the file that was there stays.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with replacing(Path(path)) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())  # a machine that loses power keeps one of the two
