"""The command is killed at random moments and run again: the tree is as if it had not been."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurosam3d.data.prepare.command import data_command

CHECKOUT = Path(__file__).parents[3]
SHAPE = (96, 80, 64)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An nnU-Net raw folder of 24 cases that take a while; every third image has two channels."""
    folder = tmp_path_factory.mktemp("kill") / "raw"
    generator = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:60, 8:60, 8:40], labels[62:80, 62:78, 42:60] = 1, 2
    for number in range(24):
        shape = SHAPE if number % 3 else (*SHAPE, 2)
        image = generator.integers(-999, 999, shape).astype(np.int16)
        for path, data in ((f"imagesTr/c{number}_0000", image), (f"labelsTr/c{number}", labels)):
            path = folder / f"{path}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 1.5, 3.0, 1])), path)
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "numTraining": 24, "file_ending": ".nii.gz",'
        ' "labels": {"background": 0, "liver": 1, "tumor": 2, "spleen": 3}}'
    )
    return folder


def arguments(raw: Path, out: Path) -> list[str]:
    return ["-dt", "Tr", "--raw", str(raw), "--name", "Liver", "--out", str(out)]


@pytest.fixture(scope="module")
def undisturbed(raw: Path) -> dict[str, bytes]:
    """The tree of a run that nothing disturbs: relative name -> bytes."""
    out = raw.parent / "undisturbed"
    assert data_command([], [*arguments(raw, out), "--workers", "1"]) == 0
    return contents(out)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def kill(raw: Path, out: Path, delay: float, *, workers_too: bool) -> None:
    """Run the command and kill it some time after it has prepared something new."""
    before = len(list(out.rglob("*.nii.gz")))
    process = subprocess.Popen(
        [sys.executable, "data.py", *arguments(raw, out), "--workers", "2"],
        cwd=CHECKOUT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: process.poll() is not None or len(list(out.rglob("*.nii.gz"))) > before)
    time.sleep(delay)
    workers = children_of(process.pid)
    if workers_too:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_running, workers)))  # they end with their parent


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def children_of(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_running(pid: int) -> bool:
    """Whether a process does anything; one that has ended may still be listed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def kill_often(raw: Path, out: Path, *, kills: int, seed: int) -> int:
    """Kill the command that often; return how often it was not done yet."""
    generator = random.Random(seed)
    num_unfinished = 0
    for number in range(kills):
        kill(raw, out, generator.uniform(0, 0.3), workers_too=number % 2 == 1)
        num_unfinished += not (out / "Liver_Tr.json").exists()
    return num_unfinished


def test_killed_twice_and_run_again(
    raw: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    assert kill_often(raw, tmp_path, kills=2, seed=0) > 0
    files = (p for p in tmp_path.rglob("*.nii.gz") if not p.name.startswith("."))  # whole ones
    prepared = {path: path.stat().st_ino for path in files}
    assert prepared
    # What is left half done by a process that was killed while it wrote.
    (tmp_path / "Liver/labelsTr/liver/c9.nii.gz").write_bytes(b"half")
    assert data_command([], [*arguments(raw, tmp_path), "--workers", "1"]) == 0
    assert contents(tmp_path) == undisturbed
    # It went on where it was stopped.
    assert any(path.stat().st_ino == inode for path, inode in prepared.items())
    assert data_command([], ["--check", "--out", str(tmp_path), "--workers", "1"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_many_times_and_run_again(
    raw: Path, undisturbed: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    kill_often(raw, tmp_path, kills=6, seed=seed)
    assert data_command([], [*arguments(raw, tmp_path), "--workers", "2"]) == 0
    assert contents(tmp_path) == undisturbed
