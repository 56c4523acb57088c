"""Data, a network and the verbs, each made once by a run that nothing disturbs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.prepare.command import data_command
from tests.faults.processes import run
from tests.faults.verbs import (
    Evaluation,
    Preparation,
    StoreBuilding,
    Training,
    Verb,
    write_raw,
)
from tests.published import lightning_content, save, small_network


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("faults") / "raw")


@pytest.fixture(scope="session")
def tree(raw: Path) -> Path:
    """A prepared tree with six scans for training and two for validation."""
    folder = raw.parent / "tree"
    assert data_command([], Preparation(raw, workers=1).words(folder)) == 0
    assert data_command([], ["--split", "val=0.25", "--name", "Toy", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def checkpoint(raw: Path) -> Path:
    """A network with random weights."""
    content = lightning_content(small_network(), spacing=(2.0, 2.0, 2.5), intensity="sam_med3d")
    return save(content, raw.parent / "network.ckpt")


@dataclass(frozen=True)
class Undisturbed:
    """A verb, and a run of it that nothing disturbed.

    Args:
        verb: The verb.
        seconds: How long the run took.
        result: What it left behind.
    """

    verb: Verb
    seconds: float
    result: Mapping[str, Any]


@pytest.fixture(scope="session")
def undisturbed(
    raw: Path, tree: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Undisturbed]:
    """A function that returns a verb by its name with an undisturbed run, carried out once."""
    verbs: dict[str, Verb] = {
        "preparation": Preparation(raw, workers=1),
        "preparation by workers": Preparation(raw, workers=2),
        "store building": StoreBuilding(tree, workers=1),
        "store building by workers": StoreBuilding(tree, workers=2),
        "training": Training(tree),
        "evaluation": Evaluation(tree, checkpoint),
    }
    known: dict[str, Undisturbed] = {}

    def find(name: str) -> Undisturbed:
        if name not in known:
            verb, folder = verbs[name], tmp_path_factory.mktemp("undisturbed")
            run(len, [], folder.with_suffix(".log"))  # starts the server
            start = time.monotonic()
            done = run(verb.main, verb.words(folder), folder.with_suffix(".log"))
            seconds = time.monotonic() - start
            assert done.wait() == 0, done.text()
            known[name] = Undisturbed(verb, seconds, verb.result(folder))
        return known[name]

    return find
