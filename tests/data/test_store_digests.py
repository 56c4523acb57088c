"""Digests: files are hashed once, and again whenever they may have changed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from neurosam3d.data.store import digests
from neurosam3d.data.store.digests import Digests, read_state


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of long ago."""
    path = tmp_path / "label.nii.gz"
    path.write_bytes(b"old content")
    later(monkeypatch)
    return path


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an hour pass."""
    now = time.time()
    monkeypatch.setattr(digests.time, "time", lambda: now + 3600)


def refuse_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "hash_file", None)


def test_a_digest_is_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Digests.empty()
    assert found.find(file)[1] == sha256(b"old content")
    refuse_hashing(monkeypatch)
    assert found.find(file)[1] == sha256(b"old content")


def test_a_digest_is_remembered_across_runs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many writers, each with a file of its own, which it may write again."""
    paths = [tmp_path / f"scan{number}" for number in range(30)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    for writer in range(3):
        found = Digests.empty()
        for path in paths[10 * writer : 10 * writer + 12]:
            found.find(path)
            found.save(tmp_path / "digests" / f"writer{writer}")
    refuse_hashing(monkeypatch)
    loaded = Digests.load(tmp_path / "digests")
    assert [loaded.find(path)[1] for path in paths] == [sha256(bytes([n])) for n in range(30)]
    assert loaded.look_up(read_state(file)) is None
    assert not loaded.added


def test_no_folder_is_no_memory(tmp_path: Path, file: Path) -> None:
    assert Digests.load(tmp_path / "none").look_up(read_state(file)) is None


def test_a_changed_file_is_hashed_again_though_size_and_time_are_kept(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Digests.empty()
    found.find(file)
    before = file.stat()
    time.sleep(0.02)  # the clock of a file system may tick every 10 ms
    file.write_bytes(b"new content")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    later(monkeypatch)
    assert found.find(file)[1] == sha256(b"new content")


def test_a_file_that_just_changed_is_not_trusted(tmp_path: Path) -> None:
    """A second change within the same tick would not show."""
    path, found = tmp_path / "label", Digests.empty()
    path.write_bytes(b"1")
    assert not found.find(path)[0].is_settled
    assert not found.added


def test_a_file_with_another_name_is_another_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another disk it may have the same number, size and times."""
    found, state = Digests.empty(), file.stat()
    found.find(file)
    monkeypatch.setattr(digests.os, "stat", lambda path: state)
    assert found.look_up(read_state(file)) == sha256(b"old content")
    assert found.look_up(read_state(Path("/other/disk/label.nii.gz"))) is None


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_damaged_memory_is_left_out_and_said(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes | None
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    for name, path in (("a", file), ("b", other)):
        found = Digests.empty()
        found.find(path)
        found.save(tmp_path / "digests" / name)
    memory = tmp_path / "digests" / "a"
    content = bytearray(memory.read_bytes())
    content[-5] ^= 1
    memory.write_bytes(bytes(content) if damage is None else damage)
    loaded = Digests.load(tmp_path / "digests")
    assert loaded.look_up(read_state(file)) is None
    assert loaded.look_up(read_state(other)) == sha256(b"other")
    assert f"{memory} is left out, so files are hashed again" in caplog.text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"cannot read {tmp_path}/none: No such file"):
        read_state(tmp_path / "none")
    with pytest.raises(ValueError, match=f"cannot read {tmp_path}: Is a directory"):
        Digests.empty().find(tmp_path)
