"""A disk that becomes full: one sentence that names the file, and what was there stays whole.

A limit on the length of files stands for the disk where that is enough; others mount one.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosam3d.checkpoint_writing import write_checkpoint
from neurosam3d.evaluation.result_files import read_results
from neurosam3d.volume import Volume, write_volume
from neurosam3d.volume_io.arrays import WRITABLE
from tests.data.prepare.test_faults_system import can_mount
from tests.faults.limits import largest_file
from tests.faults.verbs import NUM_STEPS, Evaluation, Training, check_whole

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("missing", [1, 100, 50_000])  # bytes
@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_volume(tmp_path: Path, suffix: str, missing: int) -> None:
    noise = torch.randn((1, 40, 36, 30), generator=torch.Generator().manual_seed(3))
    volume, path = Volume(noise, np.diag([1.5, 2.0, 1.0, 1.0])), tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    before = path.read_bytes()
    limit = largest_file(len(before) - missing)
    with limit, pytest.raises(OSError, match="File too large") as refused:
        write_volume(volume, path)
    assert refused.value.filename == str(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {path.name: before}


@pytest.mark.parametrize("layout", ["bare", "safetensors"])
def test_converted_weights(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"before")
    with largest_file(50_000), pytest.raises(OSError, match="File too large") as refused:
        write_checkpoint(path, {"w": torch.rand(99_999)}, layout=layout, values={})
    assert refused.value.filename == str(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"weights": b"before"}


# $1 the disk, $2 its size at first, $3 where its contents are copied to; the rest is a command.
FILL = """
disk=$1 size=$2 copies=$3
shift 3
mkdir "$disk"
mount -t tmpfs -o size="$size" tmpfs "$disk"
test -n "$RECIPE" && cp "$RECIPE" "$disk/recipe.yaml"
"$@"
echo "exit code $?"
find "$disk" -name '.part-*'
cp -r "$disk" "$copies/full"
mount -o remount,size=2g "$disk"
"$@"
echo "exit code $?"
cp -r "$disk" "$copies/whole"
"""


def run_on_small_disk(
    tmp_path: Path, words: list[str], *, size: str, recipe: Path | str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command on a disk that is too small, then on one that is large enough."""
    shell = ["unshare", "-rm", "sh", "-c", FILL, "sh", tmp_path / "disk", size, tmp_path]
    return subprocess.run(
        [*shell, sys.executable, "-m", "neurosam3d", *words],
        cwd=ROOT,
        env={**os.environ, "RECIPE": str(recipe), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=500,
        check=False,
    )


def check_told(done: subprocess.CompletedProcess[str]) -> str:
    """Check that the first run ended with a sentence and the second at its end.

    Returns:
        The file that the sentence names.
    """
    codes = [line for line in done.stdout.splitlines() if line.startswith(("exit code", "/"))]
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert codes == ["exit code 2", "exit code 0"], done.stderr
    assert "Traceback" not in done.stderr
    assert error.startswith("error: No space left on device: /")
    return error.rpartition(": ")[2]


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs to mount a small file system")
def test_training_keeps_the_last_checkpoint_and_goes_on_with_more_room(
    tree: Path, tmp_path: Path
) -> None:
    checkpoints = Path("run/checkpoints")
    words = Training(tree).words(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    disk = str(tmp_path / "disk")
    recipe.write_text(recipe.read_text().replace(str(tmp_path), disk))
    words = [word.replace(str(tmp_path), disk) for word in words]
    done = run_on_small_disk(tmp_path, words, size="240m", recipe=recipe)
    assert check_told(done) == f"{disk}/{checkpoints}/best_val_loss.ckpt"
    for folder, step in (("full", 2), ("whole", NUM_STEPS)):
        last = torch.load(tmp_path / folder / checkpoints / "last.ckpt", weights_only=True)
        assert last["global_step"] == step


@pytest.mark.long
@pytest.mark.skipif(not can_mount(), reason="needs to mount a small file system")
def test_evaluation_goes_on_with_more_room(tree: Path, checkpoint: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    done = run_on_small_disk(tmp_path, Evaluation(tree, checkpoint).words(disk), size="300k")
    assert Path(check_told(done)).is_relative_to(disk)
    check_whole(tmp_path / "full")
    assert not (tmp_path / "full/result.json").exists()
    assert (tmp_path / "full/result.journal.jsonl").exists()
    assert len(read_results(tmp_path / "whole/result.json").cases) == 4
