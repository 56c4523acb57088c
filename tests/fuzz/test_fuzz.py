"""Damaged files of every kind are read or refused in a sentence: no traceback, no code, no bomb."""

import sys
from pathlib import Path

import pytest

from tests.fuzz.fuzzer import MEMORY, Counts, fuzz
from tests.fuzz.targets import TARGETS, Target

# The word `touch canary` is in some of the damaged texts; were it run, the file would be there.
CANARY = Path("canary")


@pytest.fixture(params=TARGETS, ids=lambda target: target.name)
def target(request: pytest.FixtureRequest) -> Target:
    """Each kind of file."""
    return request.param


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_segresnet: None) -> None:
    monkeypatch.chdir(tmp_path)


def require_sound(counts: Counts) -> None:
    """Fail with the defects and the files that show them."""
    assert not counts.defects, "\n".join(f"{told}: {path}" for told, path in counts.defects.items())
    assert counts.peak <= MEMORY
    assert not CANARY.exists()


def test_damaged_files_are_read_or_refused(target: Target, tmp_path: Path) -> None:
    counts = fuzz(target, tmp_path, count=max(3, target.share * 3 // 10), seed=1)
    require_sound(counts)
    assert counts.outcomes["refused"]


@pytest.mark.long
def test_ten_thousand_damaged_files_are_read_or_refused(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = fuzz(target, tmp_path, count=10 * target.share, seed=2026)
    row = (target.name, *(counts.outcomes[kind] for kind in ("accepted", "refused", "defect")))
    with capsys.disabled():
        cells = (*row, f"{counts.peak / 1e6:.0f} MB", f"{counts.slowest:.1f} s")
        sys.stdout.write(f"\n| {' | '.join(map(str, cells))} |\n")
    require_sound(counts)
