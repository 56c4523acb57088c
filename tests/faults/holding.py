"""A process that does a piece of work, as far as others can tell."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event as EventType
from pathlib import Path

from neurosam3d.claims import claimed

_context = get_context("fork")


def _hold(path: Path, is_held: EventType) -> None:
    with claimed(path, work="this", advice="wait"):
        if os.fork() == 0:  # a worker, which outlives a kill of its parent
            time.sleep(2)
            os._exit(0)
        is_held.set()
        time.sleep(600)


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Let another process, which has a worker, hold a claim; lend its number, then kill it."""
    is_held = _context.Event()
    process = _context.Process(target=_hold, args=(path, is_held))
    process.start()
    try:
        assert is_held.wait(30)
        assert process.pid is not None
        yield process.pid
    finally:
        process.kill()
        process.join()
