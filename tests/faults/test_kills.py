"""Every verb is killed at random moments and run again: the end is as if nothing had happened."""

import logging
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d.files import find_partial
from tests.faults.conftest import Undisturbed
from tests.faults.processes import living_members, run, running, wait_for
from tests.faults.verbs import Verb, check_whole, differing

MOST_KILLS = 3  # in a row, before the verb may come to its end
MOST_WRITES = 8  # files that a verb may write before it is killed
MOST_SECONDS = 30.0  # that workers may outlive their main process; PyTorch's look every 5

logger = logging.getLogger(__name__)


def kill(
    verb: Verb, folder: Path, generator: random.Random, *, seconds: float, groups: list[int]
) -> Counter[str]:
    """Kill a verb somewhere in the time it takes; return what was seen, nothing if it was faster.

    One kill in three comes at any moment, one while a file is being written, if there is such a
    moment, and one when a file is written but has not got its name. The number of the process is
    added to the groups, in which its workers may live on.
    """
    kind = generator.randrange(3)
    workers_too = generator.random() < 0.5
    last_write = generator.randint(1, MOST_WRITES) if kind == 2 else None
    end = time.monotonic() + generator.uniform(0.02, 1.0) * seconds
    log = folder.with_suffix(".log")
    with running(verb.main, verb.words(folder), log, last_write=last_write) as process:
        wait_for(lambda: kind != 2 and time.monotonic() > end, process)
        wait_for(lambda: kind != 1 or bool(find_partial(folder)), process)
        if not process.kill(workers_too=workers_too):
            assert process.wait() == 0, process.text()
            return Counter()
    groups.append(process.pid)
    _, num_partial = check_whole(folder)
    return Counter(
        {
            "kills": 1,
            "of the main process alone": int(not workers_too or kind == 2),
            "with a file unfinished": int(num_partial > 0),
        }
    )


def kill_and_finish(
    undisturbed: Undisturbed, folder: Path, generator: random.Random, *, kills: int
) -> Counter[str]:
    """Kill a verb so often, then let it come to its end; return what was seen."""
    verb, seen, groups = undisturbed.verb, Counter[str](), list[int]()
    while seen["kills"] < kills:
        killed = kill(verb, folder, generator, seconds=undisturbed.seconds, groups=groups)
        seen += killed
        if not killed:
            break
    done = run(verb.main, verb.words(folder), folder.with_suffix(".log"))
    assert done.wait() == 0, done.text()
    assert differing(verb.result(folder), undisturbed.result) == []
    assert [path for path in folder.rglob(".*") if path.is_file()] == []
    end = time.monotonic() + MOST_SECONDS
    while any(map(living_members, groups)):
        assert time.monotonic() < end, "workers outlive their main process"
        time.sleep(0.1)
    return seen


def tell(undisturbed: Undisturbed, seen: Counter[str]) -> None:
    told = ", ".join(f"{what} {number}" for what, number in seen.items())
    logger.info("%s (%.1f s): %s", undisturbed.verb.name, undisturbed.seconds, told)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preparation", "store building", "evaluation", "training"])
def test_killed_twice_and_run_again(
    undisturbed: Callable[[str], Undisturbed], tmp_path: Path, name: str
) -> None:
    verb, folder = undisturbed(name), tmp_path / "run"
    folder.mkdir()
    tell(verb, kill_and_finish(verb, folder, random.Random(1), kills=2))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("preparation", 10),
        ("preparation by workers", 3),
        ("store building", 10),
        ("store building by workers", 2),
        ("evaluation", 13),
        ("training", 12),
    ],
)
def test_killed_fifty_times_in_all(
    undisturbed: Callable[[str], Undisturbed], tmp_path: Path, name: str, kills: int
) -> None:
    verb, generator, seen = undisturbed(name), random.Random(2), Counter[str]()
    while seen["kills"] < kills:
        folder = tmp_path / f"run{seen['runs']}"
        folder.mkdir()
        wanted = min(generator.randint(1, MOST_KILLS), kills - seen["kills"])
        seen += kill_and_finish(verb, folder, generator, kills=wanted)
        seen["runs"] += 1
        shutil.rmtree(folder)
    tell(verb, seen)
    assert seen["kills"] == kills
