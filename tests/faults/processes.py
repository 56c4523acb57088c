"""Command lines as processes of their own, which can be killed with or without their workers.

Importing PyTorch takes most of a short run's time, so the processes are forked from one that has
imported everything and done nothing yet: the server of multiprocessing's "forkserver".
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing import get_all_start_methods, get_context, set_start_method
from pathlib import Path

import torch

MODULES = (
    *("neurosam3d.cli", "neurosam3d.commands.evaluate", "neurosam3d.commands.segment"),
    *("neurosam3d.data.prepare.command", "matplotlib.pyplot", "neurosam3d.evaluation.plots"),
)
SECONDS = 240.0  # longer than anything here takes

Main = Callable[[Sequence[str]], object]

_context = get_context("forkserver")
_context.set_forkserver_preload(list(MODULES))


class Process:
    """A command line that runs.

    Args:
        main: The command; importable by name.
        words: Its arguments.
        log: The file that gets what it says.
        last_write: The file, counted from 1, before whose renaming it kills itself.
    """

    def __init__(
        self, main: Main, words: Sequence[str], log: Path, *, last_write: int | None = None
    ) -> None:
        self.log = log
        self._process = _context.Process(target=_run, args=(main, list(words), log, last_write))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def is_running(self) -> bool:
        return self._process.is_alive()

    def kill(self, *, workers_too: bool) -> bool:
        """Kill it; tell whether it had not ended before."""
        send = os.killpg if workers_too else os.kill
        with suppress(ProcessLookupError):
            send(self.pid, signal.SIGKILL)
        self._process.join(SECONDS)
        return self._process.exitcode == -signal.SIGKILL

    def wait(self) -> int:
        """Return its exit code."""
        self._process.join(SECONDS)
        assert self._process.exitcode is not None, f"still running: {self.text()}"
        return self._process.exitcode

    def text(self) -> str:
        """Return what it has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def errors(self) -> list[str]:
        """Return the sentences with which it failed."""
        return [line for line in self.text().splitlines() if line.startswith("error: ")]


def living_members(group: int) -> list[int]:
    """Return the processes of a group that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, number = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
            if int(number) == group and state not in "ZX":
                found.append(int(folder.name))
    return found


def _run(main: Main, words: Sequence[str], log: Path, last_write: int | None) -> None:
    """Be the process."""
    os.setsid()
    set_start_method(get_all_start_methods()[0], force=True)  # the default, as if started alone
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    if last_write is not None:
        _die_at_write(last_write)
    sys.exit(main(words))  # type: ignore[arg-type]


def _die_at_write(number: int) -> None:
    """Let this process kill itself when it would rename the n-th file that it has written."""
    replace, writes = os.replace, count(1)

    def replace_or_die(source: Path, target: Path) -> None:
        if next(writes) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = replace_or_die  # type: ignore[assignment]


@contextmanager
def running(
    main: Main, words: Sequence[str], log: Path, *, last_write: int | None = None
) -> Iterator[Process]:
    """Run a command line as long as the block runs, at most; the rest as `Process`.

    Workers of a process that was killed alone are left to themselves, as they would be.
    """
    process = Process(main, words, log, last_write=last_write)
    try:
        yield process
    finally:
        if process.is_running():
            process.kill(workers_too=True)


def run(main: Main, words: Sequence[str], log: Path) -> Process:
    """Run a command line to its end."""
    with running(main, words, log) as process:
        process.wait()
    return process


def wait_for(condition: Callable[[], bool], process: Process) -> None:
    """Wait until something is so, or the process has ended."""
    end = time.monotonic() + SECONDS
    while process.is_running() and not condition():
        assert time.monotonic() < end, process.text()
        time.sleep(0.002)
