"""Two runs at once: in one folder the second is refused, while two builders share a store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.processes import run, running, wait_for
from tests.faults.verbs import differing

LOCKS = {
    "preparation": "Toy/.Tr.lock",
    "evaluation": ".result.lock",
    "training": "run/.fit.lock",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCKS)
def test_the_second_run_is_refused_and_the_first_is_not_disturbed(
    undisturbed: Callable[[str], Undisturbed], tmp_path: Path, name: str
) -> None:
    alone, folder = undisturbed(name), tmp_path / "out"
    folder.mkdir()
    verb, lock = alone.verb, folder / LOCKS[name]
    words = verb.words(folder)
    with running(verb.main, words, tmp_path / "first.log") as first:
        wait_for(lock.is_file, first)
        second = run(verb.main, words, tmp_path / "second.log")
        assert second.wait() in (1, 2), second.text()
        (error,) = second.errors()
        assert f"is for one process at a time, got process {first.pid} on " in error
        assert "Traceback" not in second.text()
        assert first.wait() == 0, first.text()
    assert differing(verb.result(folder), alone.result) == []
    assert run(verb.main, words, tmp_path / "third.log").wait() == 0


@pytest.mark.slow
def test_two_builders_share_a_store(
    undisturbed: Callable[[str], Undisturbed], tmp_path: Path
) -> None:
    alone, folder = undisturbed("store building"), tmp_path / "out"
    verb, words = alone.verb, alone.verb.words(folder)
    with (
        running(verb.main, words, tmp_path / "first.log") as first,
        running(verb.main, words, tmp_path / "second.log") as second,
    ):
        assert (first.wait(), second.wait()) == (0, 0), first.text() + second.text()
    assert differing(verb.result(folder), alone.result) == []
