"""A run with `--trainer.strategy sharded` is that of plain data parallelism."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).parent.parent.parent


def train(verb: str, toy: Path, *words: str) -> str:
    """Call train.py with two processes and return what it printed."""
    finished = subprocess.run(
        [
            *(sys.executable, "train.py", verb, f"--config={toy}"),
            *("--data.batch_size=1", "--trainer.devices=2", *words),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "FSDP2" not in finished.stderr
    return finished.stdout


def last_checkpoint(toy: Path, name: str) -> dict[str, Any]:
    path = toy.parent / "runs" / name / "checkpoints/last.ckpt"
    return dict(torch.load(path, weights_only=True))


@pytest.mark.slow
def test_a_sharded_run_ends_as_a_plain_one(toy: Path) -> None:
    sharded = "--trainer.strategy=sharded"
    lightning = [
        "--trainer.strategy=ModelParallelStrategy",
        "--trainer.strategy.data_parallel_size=2",
        "--trainer.strategy.tensor_parallel_size=1",
        "--trainer.strategy.process_group_backend=gloo",
    ]
    resumable = "--trainer.callbacks+=neurosam3d.training.resume.ResumeState"
    name = "--model.task_name=split"
    train("fit", toy, "--trainer.strategy=ddp", "--model.task_name=plain", "--trainer.max_steps=3")
    train("fit", toy, sharded, name, resumable, "--trainer.max_steps=2")
    train("fit", toy, *lightning, name, resumable, "--trainer.max_steps=3", "--ckpt_path=last")

    plain, split = last_checkpoint(toy, "plain"), last_checkpoint(toy, "split")
    assert split["global_step"] == plain["global_step"] == 3
    assert split["state_dict"].keys() == plain["state_dict"].keys()
    for key, value in plain["state_dict"].items():
        torch.testing.assert_close(split["state_dict"][key], value, rtol=0, atol=1e-6)

    # Anything reads the checkpoint: a test, and a run that starts from it.
    checkpoint = toy.parent / "runs/split/checkpoints/last.ckpt"
    assert "Dice" in train("test", toy, sharded, name, "--ckpt_path=last")
    train("fit", toy, sharded, "--model.task_name=next", f"--model.checkpoint={checkpoint}",
          "--model.lr=0", "--trainer.max_steps=1")  # fmt: skip
    started = last_checkpoint(toy, "next")["state_dict"]
    for key, value in split["state_dict"].items():
        assert torch.equal(started[key], value), key
