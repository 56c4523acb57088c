"""The command line as a user calls it, with Weights & Biases and on SLURM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurosam3d.checks import go_offline_without_account
from neurosam3d.cli import main

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("environment", "netrc", "mode"),
    [
        ({}, None, "offline"),
        ({}, "machine example.org login user password secret\n", "offline"),
        ({}, "machine api.wandb.ai login user password secret\n", None),
        ({"WANDB_API_KEY": "secret"}, None, None),
        ({"WANDB_MODE": "disabled"}, None, "disabled"),
        ({"WANDB_BASE_URL": "https://example.org/"}, "machine example.org password x\n", None),
    ],
)
def test_wandb_without_an_account_goes_offline(
    environment: dict[str, str],
    netrc: str | None,
    mode: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "netrc"
    if netrc is not None:
        file.write_text(netrc, encoding="utf-8")
        file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    go_offline_without_account()
    assert os.environ.get("WANDB_MODE") == mode
    assert len(caplog.messages) == (mode == "offline")


@pytest.mark.slow
def test_a_run_with_wandb_is_written_to_disk(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETRC", str(toy.parent / "none"))
    wandb_logger = "lightning.pytorch.loggers.WandbLogger"
    runs = toy.parent / "runs"
    main(["fit", f"--config={toy}", f"--trainer.logger={wandb_logger}",
          f"--trainer.logger.save_dir={runs / 'toy'}"])  # fmt: skip
    import wandb

    wandb.finish()
    assert capfd.readouterr().err.count("no Weights & Biases account found") == 1
    assert list(runs.glob("toy/wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize("program", [["train.py"], ["-m", "neurosam3d"]])
def test_a_process_ends_with_one_line_and_code_2(program: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    finished = subprocess.run(
        [sys.executable, *program, "fit", "--config=none.yaml"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: --config must be a file or a shipped recipe")


@pytest.mark.parametrize(
    ("given", "received"),
    [
        ([], ["fit", "--config", "all.yaml"]),
        (["test", "--config", "a b.yaml"], ["test", "--config", "a b.yaml"]),
    ],
)
def test_the_slurm_script_hands_its_arguments_to_train(
    given: list[str], received: list[str], tmp_path: Path
) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$PWD" "$@"\n', encoding="utf-8")
    srun.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "PYTHON": "some-python",
    }
    finished = subprocess.run(
        ["bash", str(REPOSITORY / "mytrain.sh"), *given],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    called = [str(tmp_path), "--kill-on-bad-exit=1", "some-python", "train.py"]
    assert finished.stdout.splitlines() == [*called, *received]
