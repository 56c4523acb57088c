"""Damage files, let them be read, and count what happens.

An input is accepted, refused in one sentence as the commands tell a mistake, or a defect: a
traceback, an end without a sentence, more memory or time than it may take. It runs in a child
process whose memory is limited, so that a crash or a bomb takes nothing else with it.
"""

import contextlib
import io
import os
import resource
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from neurosam3d.mistakes import told_in_one_sentence
from tests.fuzz.targets import Target, silently

MEMORY = 2**30  # bytes that reading a small file may take, above what the process has
SECONDS = 20.0  # for one input


@dataclass
class Counts:
    """What became of the inputs of a kind.

    Args:
        outcomes: How many were "accepted", "refused" or a "defect".
        defects: Each kind of defect, with the input that showed it first.
        peak: Bytes that reading took, above what the process had before.
        slowest: Seconds of the slowest input.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    defects: dict[str, str] = field(default_factory=dict)
    peak: int = 0
    slowest: float = 0.0


def fuzz(target: Target, folder: Path, *, count: int, seed: int) -> Counts:
    """Read damaged files of a kind in a child process.

    Args:
        target: The kind.
        folder: Where they are written; what is not sound stays there for defects only.
        count: How many.
        seed: Draws them.
    """
    return in_child(lambda: _fuzz(target, folder, count=count, seed=seed), 60 + count * SECONDS)


def _fuzz(target: Target, folder: Path, *, count: int, seed: int) -> Counts:
    counts = Counts()
    sound = target.write(_empty(folder / "sound"))
    for path in sound:  # else the fuzzer would only meet refusals
        kind, told, _ = read_once(target, path)
        assert kind == "accepted", f"{path} is sound: {told}"
    before = _peak()
    for number in range(count):
        random = Random(f"{target.name} {seed} {number}")
        original = random.choice(sound)
        content = original.read_bytes()
        damaged = random.choice(target.mutations)(content, random)
        original.write_bytes(damaged)
        kind, told, seconds = read_once(target, original)
        if seconds > SECONDS:
            kind, told = "defect", f"took {seconds:.0f} s"
        counts.outcomes[kind] += 1
        if kind == "defect" and told not in counts.defects:
            kept = folder / f"defect{len(counts.defects)}-{original.name}"
            kept.write_bytes(damaged)
            counts.defects[told] = str(kept)
        counts.slowest = max(counts.slowest, seconds)
        original.write_bytes(content)
    counts.peak = _peak() - before
    return counts


def read_once(target: Target, path: Path) -> tuple[str, str, float]:
    """Read a file as a command does; return what became of it, what was told, and the seconds."""
    said, start = io.StringIO(), time.monotonic()
    try:
        with contextlib.redirect_stderr(said), told_in_one_sentence([], refusals=target.refusals):
            silently(target.read, path)
    except SystemExit as stop:
        told = said.getvalue()
        errors = [line for line in told.splitlines() if line.startswith("error: ")]
        is_sentence = stop.code == 2 and len(errors) == 1 and told.endswith(f"{errors[0]}\n")
        kind = "refused" if is_sentence else "defect"
        return kind, errors[0] if is_sentence else told[-300:], time.monotonic() - start
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.name}"
        told = f"{type(error).__name__} in {place}: {' '.join(str(error).split())[:150]}"
        return "defect", told, time.monotonic() - start
    return "accepted", "", time.monotonic() - start


def in_child(function: Callable[[], Any], seconds: float, *, memory: int = MEMORY) -> Any:
    """Run a function in a forked process that may take so much more memory and time.

    Returns:
        What it returns.

    Raises:
        RuntimeError: If the process dies, fails or takes longer.
    """
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_limited, args=(function, memory, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise RuntimeError(f"a child process took more than {seconds} s")
        kind, value = ours.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"a child process died with code {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
    if kind == "failed":
        raise RuntimeError(value)
    return value


def _limited(function: Callable[[], Any], memory: int, pipe: Connection) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
    try:
        pipe.send(("returned", function()))
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
