"""Nothing is asked of the network, neither at import nor at work."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import RECIPE
from tests.fuzz.corpus import raw_folders
from tests.offline import forbid_network

LOGGERS = """logger:
    - class_path: lightning.pytorch.loggers.CSVLogger
      init_args: {save_dir: "${model.work_dir}", name: csv}
    - class_path: lightning.pytorch.loggers.TensorBoardLogger
      init_args: {save_dir: "${model.work_dir}", name: tensorboard}
"""


def without_network() -> list[str]:
    """Return what runs a command in a space of its own without a network, where that is allowed."""
    words = ["unshare", "--net"]
    if shutil.which(words[0]) is None:
        return []
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if tried.returncode == 0 else []


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("socket.connect", (None, ("192.0.2.1", 80))),
        ("socket.sendto", (None, ("192.0.2.1", 53))),
        ("socket.getaddrinfo", ("localhost", 80, 0, 0, 0)),
    ],
)
def test_the_watch_notices_a_connection(event: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(PermissionError, match="no network"):
        forbid_network(event, arguments)


def test_the_watch_leaves_sockets_of_the_machine_alone() -> None:
    with socket.socket(socket.AF_UNIX) as own:
        forbid_network("socket.connect", (own, "/tmp/pymp"))
    forbid_network("open", ("file", "r", 0))


@pytest.mark.slow
def test_everything_works_without_a_network(prepared_tree: Path, tmp_path: Path) -> None:
    recipe, raw = tmp_path / "toy.yaml", tmp_path / "raw"
    text = RECIPE.format(tree=prepared_tree, work_dir=tmp_path / "runs")
    recipe.write_text(text.replace("logger: false\n", LOGGERS), encoding="utf-8")
    folder = raw_folders(raw)[0].parent
    words = [sys.executable, "-m", "tests.offline", recipe, prepared_tree, folder]
    done = subprocess.run(
        [*without_network(), *map(str, words)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "NETWORK" not in done.stderr
    assert int(done.stdout.split()[0]) > 200
    made = ("a.nii.gz", "results/toy.html", "runs/toy/test/results.json", "raw_out/Raw_Tr.json")
    assert [name for name in made if (tmp_path / name).is_file()] == list(made)
    assert list((tmp_path / "runs").rglob("events.out.*"))
