"""Work that one process at a time does."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d import claims
from neurosam3d.claims import claimed
from tests.faults.holding import held

WORDS = {"work": "training in runs/a", "advice": "wait for its end"}


def test_a_second_process_is_told_of_the_first(tmp_path: Path) -> None:
    lock = tmp_path / "a/.fit.lock"
    with held(lock) as pid:
        sentence = rf"training in runs/a is for one process at a time, got process {pid} on "
        with pytest.raises(ValueError, match=sentence) as refused, claimed(lock, **WORDS):
            pass
    assert f" on {socket.gethostname()} since 20" in str(refused.value)
    assert str(refused.value).endswith(f"UTC ({lock}); wait for its end")


def test_a_killed_process_holds_nothing_though_its_workers_live_on(tmp_path: Path) -> None:
    lock = tmp_path / ".fit.lock"
    with held(lock):
        pass
    assert lock.exists()  # it could not tidy up
    with claimed(lock, **WORDS):
        assert json.loads(lock.read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_excludes_itself_too(tmp_path: Path) -> None:
    lock = tmp_path / ".fit.lock"
    with claimed(lock, **WORDS):
        with (
            pytest.raises(ValueError, match=f"got process {os.getpid()} on"),
            claimed(lock, **WORDS),
        ):
            pass
        with claimed(tmp_path / ".test.lock", **WORDS):
            pass
        assert lock.exists()


def test_a_claim_ends_with_an_error(tmp_path: Path) -> None:
    lock = tmp_path / ".fit.lock"
    with pytest.raises(RuntimeError, match="stop"), claimed(lock, **WORDS):
        raise RuntimeError("stop")
    with claimed(lock, **WORDS):
        pass


def test_a_lock_whose_holder_has_just_removed_it_is_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, take, calls = tmp_path / ".fit.lock", fcntl.lockf, []

    def take_after_its_end(file: int, how: int) -> None:
        calls.append(file)
        if len(calls) == 1:
            lock.unlink()
        take(file, how)

    monkeypatch.setattr(fcntl, "lockf", take_after_its_end)
    with claimed(lock, **WORDS):
        assert lock.exists()
        assert len(calls) == 2


def fail(code: int) -> Callable[[int, int], None]:
    def lockf(file: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    return lockf


def test_without_locks_the_work_is_done_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fcntl, "lockf", fail(errno.ENOLCK))
    with claimed(tmp_path / ".fit.lock", **WORDS):
        pass
    assert caplog.messages == [f"{tmp_path / '.fit.lock'} cannot be locked: No locks available"]
    monkeypatch.setattr(claims, "fcntl", None)  # Windows
    with claimed(tmp_path / ".fit.lock", **WORDS):
        pass
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(("restart", "is_refused"), [("1", False), (None, True)])
def test_a_requeued_job_takes_the_place_of_its_earlier_run(
    tmp_path: Path, restart: str | None, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was lost cannot give its locks back."""
    lock = tmp_path / ".fit.lock"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    with held(lock):
        if restart is not None:
            monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
        if is_refused:
            with pytest.raises(ValueError, match="one process at a time"), claimed(lock, **WORDS):
                pass
        else:
            with claimed(lock, **WORDS):
                pass
        assert lock.exists()


def test_a_holder_that_has_not_said_who_it_is_refuses_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "lockf", fail(errno.EAGAIN))
    with (
        pytest.raises(ValueError, match="got another process"),
        claimed(tmp_path / ".fit.lock", **WORDS),
    ):
        pass
