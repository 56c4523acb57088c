"""Checkpoints appear whole or not at all."""

import errno
from pathlib import Path

import pytest
import torch

from neurosam3d.training.checkpoint_files import WholeCheckpoints
from tests.faults.limits import largest_file

CONTENT = {"state_dict": {"weight": torch.arange(250_000.0)}, "global_step": 3}


def test_a_checkpoint_takes_its_place_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, written = tmp_path / "checkpoints/last.ckpt", []

    def look(file: int) -> None:
        written.extend(path.parent.iterdir())

    monkeypatch.setattr("neurosam3d.training.checkpoint_files.os.fsync", look)
    WholeCheckpoints().save_checkpoint(CONTENT, path)
    (partial,) = written  # in the same folder, so that a rename is enough
    assert partial.name.startswith(".part-")
    assert partial.name.endswith("-last.ckpt")
    assert list(path.parent.iterdir()) == [path]
    loaded = WholeCheckpoints().load_checkpoint(path, weights_only=True)
    assert loaded["global_step"] == 3
    assert torch.equal(loaded["state_dict"]["weight"], CONTENT["state_dict"]["weight"])


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(CONTENT, path)
    before = path.read_bytes()
    with largest_file(300_000), pytest.raises(OSError, match="File too large") as refused:
        WholeCheckpoints().save_checkpoint({**CONTENT, "global_step": 4}, path)
    assert refused.value.errno == errno.EFBIG
    assert refused.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_other_protocols_are_left_to_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    WholeCheckpoints().save_checkpoint(CONTENT, "memory://runs/last.ckpt")
    assert WholeCheckpoints().load_checkpoint("memory://runs/last.ckpt")["global_step"] == 3
