"""Label files that cannot be read end in one sentence that names them, and in a kind."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurosam3d.data.prepare.dicom.dataset import MissingExtraError
from neurosam3d.data.prepare.dicom.labels import list_segments, read_segments
from neurosam3d.volume import Grid
from neurosam3d.volume_io.errors import VolumeFileError
from tests.data.prepare.dicom.miniature import (
    SHAPE,
    Geometry,
    square,
    write_rtstruct,
    write_seg,
    write_series,
)

READERS = [list_segments, lambda path: read_segments(path, Grid(SHAPE, np.diag([1.0, 2, 3, 1])))]


@pytest.fixture
def seg(tmp_path: Path) -> Path:
    """A DICOM-SEG file with one segment of 210 voxels."""
    slices = write_series(tmp_path / "ct")
    return write_seg(tmp_path / "seg.dcm", slices, np.ones((1, *SHAPE), dtype=np.uint8))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (None, "missing", "no such file or folder"),
        (b"", "empty", r"the file is empty \(0 bytes\)"),
        (b"no DICOM at all" * 20, "unsupported", "it is no DICOM file"),
        (
            b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0\x10\0\0\0",
            "damaged",
            "truncated or damaged",
        ),
    ],
)
def test_bad_files_are_told_apart(
    tmp_path: Path, read: Callable[[Path], object], content: bytes | None, kind: str, reason: str
) -> None:
    path = tmp_path / "label.dcm"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VolumeFileError, match=reason) as caught:
        read(path)
    assert caught.value.kind == kind
    assert str(caught.value).startswith(f"cannot read {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", READERS)
def test_an_image_is_no_label(tmp_path: Path, read: Callable[[Path], object]) -> None:
    write_series(tmp_path / "ct")
    with pytest.raises(VolumeFileError, match="an RTSTRUCT file, got CT Image Storage") as caught:
        read(tmp_path / "ct" / "s90.dcm")
    assert caught.value.kind == "unsupported"


def test_missing_pixels_are_noticed(seg: Path) -> None:
    seg.write_bytes(seg.read_bytes()[:-10])
    assert list_segments(seg) == {1: "Segment 1"}
    with pytest.raises(VolumeFileError, match=r"truncated or damaged .* of 28 bytes") as caught:
        READERS[1](seg)
    assert caught.value.kind == "damaged"


def test_truncated_contours_are_noticed_wherever_they_end(tmp_path: Path, axial: Geometry) -> None:
    contours = {f"R{number}": [square(axial, (1, 1), (3, 3), number)] for number in range(3)}
    path = write_rtstruct(tmp_path / "rt.dcm", contours)
    content = path.read_bytes()
    for end in range(1, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=f"{path}"):
            READERS[1](path)


@pytest.mark.parametrize("module", ["pydicom", "highdicom.seg"])
def test_missing_libraries_are_named_with_their_extra(
    seg: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[dicom\]'"):
        READERS[1](seg)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01])
def test_thresholds_out_of_range_are_refused(seg: Path, threshold: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and is at most 1, got {threshold}"):
        read_segments(seg, Grid(SHAPE, np.eye(4)), threshold=threshold)
