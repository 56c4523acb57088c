"""What the command line does about a second run, a full disk, a lost worker, a trial run."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from neurosam3d.cli import main, run
from neurosam3d.data.dataset import PromptableDataset
from neurosam3d.mistakes import describe_mistake
from tests.faults.holding import held
from tests.faults.limits import largest_file


@pytest.fixture
def last(toy: Path) -> Path:
    """The last checkpoint of an earlier run of the toy recipe; any bytes will do."""
    path = toy.parent / "runs/toy/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"before")
    return path


def keeping(last: Path) -> list[str]:
    """Return the words that let a run write its last checkpoint, and no other."""
    name = "--trainer.callbacks"
    kind = "neurosam3d.training.callbacks.LastCheckpoint"
    return [f"{name}={kind}", f"{name}.dirpath={last.parent}"]


ADVICE = (
    "memory, or shared memory (/dev/shm), most likely ran out; try fewer --data.num_workers or a "
    "smaller --data.batch_size; fit goes on with --ckpt_path last"
)


def fail(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Run a command line to its failure and return the sentence."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = capfd.readouterr().err.splitlines()
    (line,) = [line for line in said if line.startswith("error: ")]
    return line


def test_a_second_fit_in_a_folder_is_refused(
    toy: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toy.parent / "runs/toy"
    with held(folder / ".fit.lock") as pid:
        line = fail(["fit", f"--config={toy}"], capfd)
        begin = f"error: training in {folder} is for one process at a time, got process {pid} on "
        assert line.startswith(begin)
        assert line.endswith("wait for its end, or give another --model.task_name")
        assert [path.name for path in folder.iterdir()] == [".fit.lock"]
        run(["validate", f"--config={toy}"])
        monkeypatch.setattr(rank_zero_only, "rank", 1)  # the first process claims for all
        run(["fit", f"--config={toy}", "--trainer.fast_dev_run=1"])


def test_a_full_disk_is_told_with_the_file_and_the_last_checkpoint_stays(
    toy: Path, last: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with largest_file(5_000_000):
        line = fail(["fit", f"--config={toy}", *keeping(last)], capfd)
    assert line == f"error: File too large: {last}"
    assert last.read_bytes() == b"before"
    assert not list(toy.parent.rglob("runs/.*"))


def test_a_trial_run_leaves_the_last_checkpoint_alone_and_tidies_up(toy: Path, last: Path) -> None:
    left = last.with_name(".part-0badcafe-1-0badcafe-last.ckpt")  # by a run that was killed
    left.touch()
    os.utime(left, (1, 1))
    run(["fit", f"--config={toy}", *keeping(last), "--trainer.fast_dev_run=1"])
    assert last.read_bytes() == b"before"
    assert not left.exists()


def test_a_lost_worker_is_told_with_what_to_do(
    toy: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = PromptableDataset.__getitem__

    def make_or_die(self, key):
        if torch.utils.data.get_worker_info() is not None and key.index == 2:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        return make(self, key)

    monkeypatch.setattr(PromptableDataset, "__getitem__", make_or_die)
    line = fail(["fit", f"--config={toy}", "--data.num_workers=1"], capfd)
    assert line.startswith("error: DataLoader worker (pid")
    assert line.endswith(ADVICE)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "is killed by signal: Killed"),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory. Please try to raise your limit.",
            "DataLoader worker (pid 7) is killed by signal: Bus error",
        ),
        (
            "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent "
            'call last):\n  File "storage.py", line 414, in _new_shared\nRuntimeError: unable to '
            "allocate shared memory(shm) for file </torch_7>: No space left on device (28)\n",
            "unable to allocate shared memory(shm) for file </torch_7>: No space left on device",
        ),
    ],
)
def test_what_pytorch_says_of_a_lost_worker_is_understood(words: str, sentence: str) -> None:
    described = describe_mistake(RuntimeError(words))
    assert described is not None
    assert sentence in described
    assert described.endswith(ADVICE)
    assert "\n" not in described


def test_a_worker_that_crashes_is_a_bug() -> None:
    crash = "DataLoader worker (pid 7) is killed by signal: Segmentation fault. "
    assert describe_mistake(RuntimeError(crash)) is None
