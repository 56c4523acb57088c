"""Work that one process at a time may do, as long as it lives.

The lock is of the kind that belongs to a process (POSIX `fcntl`): the system lets it go however the
process ends, the workers that it leaves behind do not hold it, and on NFS it holds for all
machines. Locks by `flock`, as libraries have them, are handed on to forked workers.
"""

import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_ours: set[Path] = set()  # to the system, a process does not exclude itself


@contextmanager
def claimed(path: Path, *, work: str, advice: str) -> Iterator[None]:
    """Let no other process do a piece of work as long as the block runs.

    Where the file system has no locks the work is done without, after a warning; on Windows,
    always without.

    Args:
        path: The file of the lock, which is there while the lock is held, or after a kill. Missing
            folders are made.
        work: What is done, as a sentence's subject: "training in work_dir/demo".
        advice: What to do if another process does it already.

    Raises:
        ValueError: If another process does it already.
    """
    path = path.absolute()
    if path in _ours:
        raise _refusal(_whoami(), path, work, advice)
    file = _lock(path, work, advice)
    if file is None:
        yield
        return
    _ours.add(path)
    try:
        os.truncate(file, 0)
        os.write(file, json.dumps(_whoami()).encode())
        yield
    finally:
        _ours.discard(path)
        path.unlink(missing_ok=True)  # first, so that nobody locks a file that goes away
        os.close(file)


def _lock(path: Path, work: str, advice: str) -> int | None:
    """Open and lock a file; None where that cannot be."""
    if fcntl is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if not isinstance(error, BlockingIOError | PermissionError):
                logger.warning("%s cannot be locked: %s", path, error.strerror)
                return None
            holder = _read_holder(path)
            if _was_this_job(holder):
                logger.warning("%s is still locked by this job, before it was requeued", path)
                return None
            raise _refusal(holder, path, work, advice) from None
        if _is_at(file, path):
            return file
        os.close(file)  # its holder has just ended and removed it


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _whoami() -> dict[str, Any]:
    """Describe this process to others."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "job": os.environ.get("SLURM_JOB_ID"),
        "restart": os.environ.get("SLURM_RESTART_COUNT"),
    }


def _read_holder(path: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # it has just begun, or just ended


def _was_this_job(holder: Mapping[str, Any]) -> bool:
    """Tell whether the holder is an earlier run of this SLURM job.

    SLURM runs a job again after it has ended. If its node was lost, NFS notices that only later.
    """
    us = _whoami()
    is_same = us["job"] is not None and us["job"] == holder.get("job")
    return is_same and us["restart"] != holder.get("restart")


def _refusal(holder: Mapping[str, Any], path: Path, work: str, advice: str) -> ValueError:
    who = "another process"
    if holder:
        who = f"process {holder['process']} on {holder['host']} since {holder['since']}"
    return ValueError(f"{work} is for one process at a time, got {who} ({path}); {advice}")
