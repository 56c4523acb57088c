"""Files that appear whole or not at all."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurosam3d.files import clear_abandoned, find_partial, is_being_written, naming, replacing
from tests.faults.limits import largest_file


def test_the_name_is_taken_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    with replacing(path) as partial:
        partial.write_text("1", encoding="utf-8")
        assert partial.parent == path.parent
        assert partial.name.endswith(path.name)
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError, match="stop"), replacing(path) as partial:  # noqa: PT012
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError("stop")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def half_written(path: Path, pid: int) -> Path:
    """Leave what the process `pid` would leave if it were killed while it writes a file."""
    with replacing(path) as partial:
        partial.touch()
    left = path.with_name(partial.name.replace(f"-{os.getpid()}-", f"-{pid}-"))
    left.write_bytes(b"half")
    return left


@pytest.fixture
def ended() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_files_of_processes_that_have_ended_are_removed(tmp_path: Path, ended: int) -> None:
    left = half_written(tmp_path / "a/b/result.json", ended)
    alive = half_written(tmp_path / "a/b/result.json", os.getppid())
    ours = half_written(tmp_path / "top.json", os.getpid())
    assert find_partial(tmp_path) == sorted([left, alive, ours])
    assert find_partial(tmp_path, below=False) == [ours]
    assert [is_being_written(path) for path in (left, alive, ours)] == [False, True, True]
    clear_abandoned(tmp_path)
    assert find_partial(tmp_path) == sorted([alive, ours])
    assert (tmp_path / "a/b/result.json").exists()
    clear_abandoned(tmp_path / "nowhere")


def test_files_of_a_process_that_nobody_waits_for_are_removed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # it has ended, or is about to
    left = half_written(tmp_path / "result.json", process.pid)
    end = time.monotonic() + 30
    while left.exists() and time.monotonic() < end:
        clear_abandoned(tmp_path)
    assert not left.exists()
    process.wait()


def test_files_of_other_machines_are_removed_when_they_are_old(tmp_path: Path, ended: int) -> None:
    here = half_written(tmp_path / "result.json", ended)
    foreign = here.rename(here.with_name(f".part-00000000-{ended}-0badcafe-result.json"))
    unknown = tmp_path / ".part-7c0ffee-result.json"  # another program's, whatever it is
    unknown.touch()
    clear_abandoned(tmp_path)
    assert find_partial(tmp_path) == sorted([foreign, unknown])
    assert not is_being_written(foreign)
    long_ago = time.time() - 25 * 3600
    for path in (foreign, unknown, tmp_path / "result.json"):
        os.utime(path, (long_ago, long_ago))
    clear_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [unknown.name, "result.json"]


def test_what_the_system_says_without_a_name_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(OSError, match="No space left") as refused, replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert refused.value.filename == str(path)
    with pytest.raises(OSError, match="Too many") as refused, naming(path):
        raise OSError(errno.EMFILE, "Too many open files")  # not about this file
    assert refused.value.filename is None
    with pytest.raises(OSError, match="No space") as refused, naming(path):
        raise OSError(errno.ENOSPC, "No space left on device", "other")
    assert refused.value.filename == "other"


def test_a_library_that_hides_a_full_disk_is_asked_for_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with (  # noqa: PT012
        largest_file(1000),
        pytest.raises(OSError, match="File too large") as refused,
        replacing(path) as partial,
    ):
        partial.write_bytes(bytes(1000))
        raise RuntimeError("something")
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(path))
    assert str(refused.value.__cause__) == "something"
    assert list(tmp_path.iterdir()) == []
