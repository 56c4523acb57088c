"""A second run: what is whole and still right is kept unread, everything else is made anew."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurosam3d.data.prepare import image_file, label_file
from neurosam3d.data.prepare.convert import CaseResult
from neurosam3d.data.prepare.problems import Kind
from neurosam3d.data.prepare.record import CaseRecord
from neurosam3d.volume import Volume, read_volume_counted

Write = Callable[..., Path]
Box = Callable[..., np.ndarray]
Prepare = Callable[..., CaseResult]
LIVER = np.s_[1:4, 2:4, 1:3]


@pytest.fixture
def image(tmp_path: Path, write_volume: Write) -> Path:
    return write_volume(tmp_path / "raw/image.nii.gz")


@pytest.fixture
def label(tmp_path: Path, write_volume: Write, organs: np.ndarray) -> Path:
    return write_volume(tmp_path / "raw/label.nii.gz", organs)


@pytest.fixture
def known(image: Path, label: Path, prepare: Prepare) -> CaseRecord:
    """What the first run made of the case."""
    return prepare(image, label).record


def contents(out: Path) -> dict[Path, tuple[bytes, int]]:
    """Bytes and inode of every prepared file: a file that is written anew has another inode."""
    return {p: (p.read_bytes(), p.stat().st_ino) for p in sorted(out.rglob("*.nii.gz"))}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The raw volumes that are read."""
    paths: list[Path] = []

    def reading(path: Path) -> tuple[Volume, tuple[int, ...]]:
        paths.append(path)
        return read_volume_counted(path)

    for module in (image_file, label_file):
        monkeypatch.setattr(module, "read_volume_counted", reading)
    return paths


def test_whole_files_are_kept_and_nothing_raw_is_read(
    image: Path, label: Path, known: CaseRecord, out: Path, prepare: Prepare, read: list[Path]
) -> None:
    before = contents(out)
    assert prepare(image, label, known=known) == CaseResult(known, is_kept=True)
    assert contents(out) == before
    assert read == []


def test_a_case_without_a_voxel_is_not_looked_at_again(
    image: Path, label: Path, write_volume: Write, box: Box, prepare: Prepare, read: list[Path]
) -> None:
    write_volume(label, box({}))
    known = prepare(image, label).record
    read.clear()
    assert prepare(image, label, known=known).is_kept
    assert read == []


def test_of_damaged_files_each_is_made_anew_and_the_others_stay(
    image: Path, label: Path, known: CaseRecord, out: Path, prepare: Prepare
) -> None:
    before = contents(out)
    assert len(before) == 3
    for path, (whole, _) in before.items():
        for damage in (whole[:-9], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], b"", None):
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage)
            result = prepare(image, label, known=known)
            assert (result.record, result.is_kept) == (known, False)
            after = contents(out)
            assert {p: content for p, (content, _) in after.items()} == {
                p: content for p, (content, _) in before.items()
            }
            assert {p for p in after if after[p] != before[p]} <= {path}
            before = after


def test_another_sound_file_in_the_place_of_a_prepared_one_is_replaced(
    image: Path,
    label: Path,
    known: CaseRecord,
    out: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Prepare,
) -> None:
    path = out / "labelsTr/liver/c1.nii.gz"
    write_volume(path, (organs == 2).astype(np.uint8))
    assert prepare(image, label, known=known).record == known
    assert np.array_equal(np.asarray(nibabel.load(path).dataobj), organs == 1)


@pytest.mark.parametrize("date", ["old", "new"])
def test_a_raw_file_that_was_replaced_counts_whatever_its_date(
    image: Path,
    label: Path,
    known: CaseRecord,
    out: Path,
    write_volume: Write,
    box: Box,
    prepare: Prepare,
    date: str,
) -> None:
    times = label.stat().st_mtime_ns, label.stat().st_mtime_ns
    write_volume(label, box({2: LIVER}))
    if date == "old":
        os.utime(label, ns=times)  # as copying programs do that keep dates
    record = prepare(image, label, known=known).record
    assert list(record.labels) == ["tumor"]
    assert record.labels["tumor"].volume_mm3 == 108.0
    assert not (out / "labelsTr/liver/c1.nii.gz").exists()


def test_a_replaced_image_is_prepared_anew(
    image: Path, label: Path, known: CaseRecord, out: Path, write_volume: Write, prepare: Prepare
) -> None:
    write_volume(image, np.arange(315, dtype=np.int16).reshape(9, 7, 5)[::-1])
    record = prepare(image, label, known=known).record
    assert record.content != known.content
    assert (out / "imagesTr/c1.nii.gz").read_bytes() == image.read_bytes()


def test_asking_for_other_classes_makes_the_case_anew(
    image: Path, label: Path, known: CaseRecord, out: Path, organs: np.ndarray, prepare: Prepare
) -> None:
    record = prepare(image, label, known=known, classes={"liver": (3,), "tumor": (1,)}).record
    assert list(record.labels) == ["tumor"]
    stored = nibabel.load(out / "labelsTr/tumor/c1.nii.gz")
    assert np.array_equal(np.asarray(stored.dataobj), organs == 1)
    assert not (out / "labelsTr/liver/c1.nii.gz").exists()


def test_a_case_that_lost_its_last_class_loses_its_image(
    image: Path, label: Path, known: CaseRecord, out: Path, prepare: Prepare
) -> None:
    record = prepare(image, label, known=known, classes={"liver": (8,), "tumor": (9,)}).record
    assert record.labels == {}
    assert list(out.rglob("*.nii.gz")) == []


def test_raw_files_that_moved_are_the_same(
    tmp_path: Path, image: Path, label: Path, known: CaseRecord, prepare: Prepare
) -> None:
    image.parent.rename(tmp_path / "moved")
    moved = [tmp_path / "moved" / path.name for path in (image, label)]
    assert prepare(*moved, known=known).is_kept


def test_notes_on_raw_files_outlive_the_second_run(
    image: Path, label: Path, write_volume: Write, prepare: Prepare
) -> None:
    data = np.random.default_rng(0).normal(size=(9, 7, 5))
    data[1, 2, 3] = np.nan
    write_volume(image, data)
    known = prepare(image, label, classes={"liver": (1,), "spleen": (7,)}).record
    kinds = [problem.kind for problem in known.problems]
    assert kinds == [Kind.NOT_FINITE, Kind.NO_CLASS, Kind.EMPTY_CLASS]
    again = prepare(image, label, classes={"liver": (1,), "spleen": (7,)}, known=known)
    assert again == CaseResult(known, is_kept=True)


def test_a_record_of_another_source_is_not_believed(
    image: Path, label: Path, known: CaseRecord, prepare: Prepare
) -> None:
    other = replace(known, source="0" * 64, content="stale")
    result = prepare(image, label, known=other)
    assert (result.record, result.is_kept) == (known, False)
