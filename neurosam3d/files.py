"""Files that appear whole or not at all."""

import errno
import hashlib
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTIAL = re.compile(r"\.part-(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}-.+")
_ABANDONED_S = 24 * 3600.0  # no file of ours takes a day to write
# What keeps a file from being written that was opened for it. The system then names no file.
_UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_MORE = bytes(1 << 20)  # more than is left of a disk that has just become full


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary path in the same folder; it takes the name once the block has succeeded.

    The temporary name is hidden and ends in the wanted one, by which many writers choose a format.
    It is random, because processes of several machines may write to one shared folder, and tells
    its writer, so that `clear_abandoned` can remove what a killed process has left.

    Args:
        path: The file to write or replace. Missing folders are made.

    Raises:
        OSError: If the file cannot be written, also where a library calls that an error of its
            own; it names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    token = f"{_place()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    partial = path.with_name(f".part-{token}-{path.name}")
    with naming(path):
        try:
            yield partial
            os.replace(partial, path)
        except (OSError, ValueError):
            raise
        except Exception as error:
            _raise_unwritten(partial, error)
            raise
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Name a file where the system only says why it is not written.

    Args:
        path: What the block writes, or in words, where.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _UNWRITTEN and error.filename is None:
            error.filename = str(path)
        raise


def _raise_unwritten(partial: Path, error: Exception) -> None:
    """Raise what keeps a file from being written, if that is why its writer failed.

    torch, SimpleITK and safetensors report a full disk in errors of their own. The system tells
    when it is asked to write on.
    """
    try:
        with partial.open("ab") as file:
            file.write(_MORE)
    except OSError as reason:
        if reason.errno in _UNWRITTEN:
            raise OSError(reason.errno, reason.strerror) from error


def find_partial(folder: Path, *, below: bool = True) -> list[Path]:
    """List the files in a folder that are named as unfinished, in the order of their names.

    Args:
        folder: Where to look; it need not exist.
        below: Whether to look into the folders below, too.
    """
    found = folder.rglob(".part-*") if below else folder.glob(".part-*")
    return sorted(path for path in found if path.is_file())


def clear_abandoned(folder: Path, *, below: bool = True) -> None:
    """Remove temporary files that nobody writes any more.

    Those are the files of this machine's processes that have ended, and any others (of other
    machines or other containers) that have not grown for a day. A file stays if its writer may be
    alive, also where another process has got the writer's number by now; it goes after a day. What
    another program may have named in a like way is left alone.

    Args:
        folder: Where to look; it need not exist.
        below: Whether to look into the folders below, too.
    """
    for path in find_partial(folder, below=below):
        is_dead = _writer(path) is not None and not is_being_written(path)
        is_old = _PARTIAL.fullmatch(path.name) is not None and _age_s(path) > _ABANDONED_S
        if is_dead or is_old:
            path.unlink(missing_ok=True)


def is_being_written(path: Path) -> bool:
    """Tell whether the writer of a temporary file is a living process of this machine."""
    pid = _writer(path)
    return pid is not None and _is_alive(pid)


def _writer(path: Path) -> int | None:
    """Number of the process of this machine that has begun a file; None for other machines."""
    match = _PARTIAL.fullmatch(path.name)
    return int(match["pid"]) if match and match["place"] == _place() else None


def _age_s(path: Path) -> float:
    """Seconds since a file has last grown."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0  # its writer has just finished


def _place() -> str:
    """Name the machine and, in a container, the space in which process numbers are unique."""
    numbers = Path("/proc/self/ns/pid")
    space = numbers.stat().st_ino if numbers.exists() else 0
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # Windows has no signal that only asks
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or no number of a process
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended, but nobody has asked how: containers may have none who does."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(") ")[2].startswith(("Z", "X"))
