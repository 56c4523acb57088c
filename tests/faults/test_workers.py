"""Worker processes that are killed, and a store that is damaged while they read it."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from neurosam3d.data.datamodule import NeuroSamDataModule
from tests.faults.conftest import Undisturbed
from tests.faults.processes import Process, run, running, wait_for
from tests.faults.verbs import differing


def make_data(tree: Path, cache: Path | None, *, num_workers: int) -> NeuroSamDataModule:
    return NeuroSamDataModule(
        data_dir=str(tree),
        cache_dir=None if cache is None else str(cache),
        img_size=32,
        spacing=(2.0, 2.0, 2.5),
        batch_size=1,
        num_workers=num_workers,
        training_sets=["Toy_Tr"],
        validation_sets=["Toy_Val"],
        volume_threshold=100.0,
    )


def batches(data: NeuroSamDataModule) -> Iterator[dict[str, Any]]:
    """Yield the training batches of two epochs."""
    data.setup("fit")
    loader = data.train_dataloader()
    for epoch in range(2):
        data.train_sampler.set_epoch(epoch)
        yield from loader


def flip_bits(path: Path) -> None:
    """Flip a bit in every 300 bytes."""
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 300):
        content[place] ^= 1 << place % 8
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def remove_store(path: Path) -> None:
    shutil.rmtree(path.parent.parent, ignore_errors=True)


@pytest.mark.parametrize("damage", [flip_bits, truncate, Path.unlink, remove_store])
def test_what_happens_to_the_store_never_reaches_a_batch(
    tree: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    expected = list(batches(make_data(tree, None, num_workers=0)))
    cache = tmp_path / "cache"
    make_data(tree, cache, num_workers=0).prepare_data()
    for number, batch in enumerate(batches(make_data(tree, cache, num_workers=2))):
        assert torch.equal(batch["image"], expected[number]["image"])
        assert torch.equal(batch["label"], expected[number]["label"])
        if number % 6 == 1:
            entries = sorted([*cache.glob("??/*.image"), *cache.glob("??/*.labels")])
            for path in entries:
                if path.is_file():
                    damage(path)
    assert number + 1 == len(expected) == 24


def workers_of(process: Process) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in children.read_text().split()]


@pytest.mark.slow
def test_a_fit_whose_worker_is_killed_says_so_and_goes_on_when_called_again(
    undisturbed: Callable[[str], Undisturbed], tmp_path: Path
) -> None:
    training, log = undisturbed("training"), tmp_path / "fit.log"
    words = training.verb.words(tmp_path)
    last = tmp_path / "run/checkpoints/last.ckpt"
    with running(training.verb.main, words, log) as process:
        wait_for(last.is_file, process)
        for worker in workers_of(process)[:2]:  # those of the training data; validation's follow
            os.kill(worker, signal.SIGKILL)
        assert process.wait() == 2, process.text()
    (error,) = process.errors()
    assert "DataLoader worker" in error
    assert "memory, or shared memory (/dev/shm), most likely ran out" in error
    assert torch.load(last, weights_only=True)["global_step"] > 0
    done = run(training.verb.main, words, log)
    assert done.wait() == 0, done.text()
    result = training.verb.result(tmp_path)
    assert differing(result, training.result) == []
