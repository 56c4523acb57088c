"""Label files of every kind, on the image's grid."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from neurosam3d.data.prepare.label_file import read_labels
from neurosam3d.data.prepare.problems import CaseError, Kind
from neurosam3d.volume import Grid

Write = Callable[..., Path]
AFFINE = np.array([[2.0, 0, 0, -10], [0, 1.5, 0, 4], [0, 0, 3.0, 7], [0, 0, 0, 1]])
GRID = Grid((9, 7, 5), AFFINE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "label.nii.gz"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_type_gives_masks_and_counts(
    path: Path, write_volume: Write, organs: np.ndarray, dtype: type
) -> None:
    labels = read_labels(write_volume(path, organs.astype(dtype)), GRID, threshold=None)
    for values, expected in [
        ((1,), organs == 1),
        ((2,), organs == 2),
        ((1, 2), organs > 0),
        ((2, 2, 9), organs == 2),
        ((9,), organs > 9),
        (None, organs > 0),
    ]:
        mask = labels.mask(values)
        assert (mask.dtype, mask.shape) == (torch.bool, (1, 9, 7, 5))
        assert np.array_equal(mask[0].numpy(), expected)
        assert labels.count(values) == expected.sum()
    assert labels.problems == ()


def test_masks_lie_in_memory_as_files_do(
    path: Path, write_volume: Write, organs: np.ndarray
) -> None:
    labels = read_labels(write_volume(path, organs), GRID, threshold=None)
    assert labels.mask((1,)).stride()[1:] == (1, 9, 63)


@pytest.mark.parametrize("high", [255, 256, 65_535, 65_536, 614_454_277])
def test_values_of_any_size_are_found(path: Path, write_volume: Write, high: int) -> None:
    data = np.zeros((9, 7, 5), np.int32)
    data[0, 0, :3], data[1, 1, 1] = high, 3
    labels = read_labels(write_volume(path, data), GRID, threshold=None)
    assert (labels.count((high,)), labels.count((3,)), labels.count(None)) == (3, 1, 4)
    assert labels.count((high % 256 or 1,)) == (3 if high == 255 else 0)
    assert np.array_equal(labels.mask((high, 3))[0].numpy(), data > 0)


def test_negative_values_belong_to_no_class(path: Path, write_volume: Write) -> None:
    data = np.zeros((9, 7, 5), np.int16)
    data[0, 0, 0], data[0, 0, 1] = -1, 1
    labels = read_labels(write_volume(path, data), GRID, threshold=None)
    assert (labels.count(None), labels.count((255,)), labels.count((65_535,))) == (1, 0, 0)


def test_whole_numbers_in_a_float_file_are_labels(
    path: Path, write_volume: Write, organs: np.ndarray
) -> None:
    nearly = organs.astype(np.float64) - 1e-5
    labels = read_labels(write_volume(path, nearly), GRID, threshold=None)
    assert np.array_equal(labels.mask((2,))[0].numpy(), organs == 2)
    assert labels.problems == ()


def test_fractions_need_a_threshold_and_say_it(path: Path, write_volume: Write) -> None:
    data = np.zeros((9, 7, 5), np.float32)
    data[1, 1, 1], data[2, 2, 2], data[3, 3, 3], data[4, 4, 4] = 0.29, 0.3, 0.31, 1
    write_volume(path, data)
    with pytest.raises(CaseError, match=r"holds integers, .* holds fractions") as caught:
        read_labels(path, GRID, threshold=None)
    assert caught.value.kind is Kind.BAD_LABEL
    labels = read_labels(path, GRID, threshold=0.3)
    assert np.array_equal(labels.mask((1,))[0].numpy(), data >= np.float32(0.3))
    assert labels.count((1,)) == 3
    (note,) = labels.problems
    assert note.kind is Kind.FRACTIONAL
    sentence = "label.nii.gz holds fractions; voxels of at least 0.3 belong to the class"
    assert note.sentence == sentence


def test_a_binary_file_with_a_threshold_needs_no_note(
    path: Path, write_volume: Write, organs: np.ndarray
) -> None:
    labels = read_labels(write_volume(path, np.uint8(organs == 1)), GRID, threshold=0.5)
    assert (labels.count((1,)), labels.problems) == (12, ())


@pytest.mark.parametrize("value", [1.2, 255.0, -0.5])
def test_fractions_lie_between_0_and_1(path: Path, write_volume: Write, value: float) -> None:
    data = np.zeros((9, 7, 5), np.float32)
    data[1, 1, 1] = value
    with pytest.raises(CaseError, match=f"between 0 and 1, .* holds .*{value:g}"):
        read_labels(write_volume(path, data), GRID, threshold=0.5)


def test_fractions_of_another_grid_are_interpolated_before_the_threshold(
    path: Path, write_volume: Write
) -> None:
    # Twice as fine along axis 0 and half a fine voxel on: a coarse voxel's centre lies between
    # two fine ones, and is the mean of both.
    data = np.zeros((18, 7, 5), np.float32)
    data[4, 3, 2], data[5, 3, 2], data[10, 3, 2], data[11, 3, 2] = 0.8, 0.4, 0.8, 0.0
    affine = AFFINE @ np.diag([0.5, 1, 1, 1.0])
    affine[:3, 3] = AFFINE[:3, 3] - AFFINE[:3, 0] / 4
    labels = read_labels(write_volume(path, data, affine), GRID, threshold=0.5)
    assert labels.mask((1,)).nonzero().tolist() == [[0, 2, 3, 2]]


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_labels_beside_the_image_are_refused(
    path: Path, write_volume: Write, organs: np.ndarray, threshold: float | None
) -> None:
    affine = AFFINE.copy()
    affine[1, 3] += 7 * 1.5
    write_volume(path, (organs == 1).astype(np.uint8), affine)
    with pytest.raises(CaseError, match="does not overlap its image") as caught:
        read_labels(path, GRID, threshold=threshold)
    assert caught.value.kind is Kind.NO_OVERLAP
    # Nothing lies beside the image where there is nothing.
    write_volume(path, np.zeros_like(organs), affine)
    assert read_labels(path, GRID, threshold=threshold).count(None) == 0


def test_voxels_that_are_not_finite_are_background_and_noted(
    path: Path, write_volume: Write, organs: np.ndarray
) -> None:
    data = organs.astype(np.float32)
    data[1, 2, 1], data[0, 0, :3] = np.nan, np.inf
    labels = read_labels(write_volume(path, data), GRID, threshold=None)
    assert labels.count((1,)) == 11
    (note,) = labels.problems
    assert note.kind is Kind.NOT_FINITE
    assert note.sentence == "label.nii.gz has 4 NaN or infinite voxels; they are set to 0"


@dataclass
class Segments:
    masks: dict[int, torch.Tensor]
    is_fractional: bool
    notes: tuple[str, ...] = ()


@pytest.fixture
def segments(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the DICOM reader: two segments that overlap in one voxel."""
    first, second = (torch.zeros(1, 9, 7, 5, dtype=torch.bool) for _ in range(2))
    first[0, 1, 1, :3] = second[0, 1, 1, 2:] = True
    seen = SimpleNamespace(found=Segments({1: first, 4: second}, False), asked=None)

    def read_segments(path: Path, grid: Grid, *, threshold: float = 0.5) -> Segments:
        seen.asked = (path, grid, threshold)
        return seen.found

    module = ModuleType("neurosam3d.data.prepare.dicom.labels")
    module.read_segments = read_segments  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return seen


def test_dicom_segments_may_overlap(tmp_path: Path, segments: SimpleNamespace) -> None:
    labels = read_labels(tmp_path / "seg.DCM", GRID, threshold=None)
    assert segments.asked == (tmp_path / "seg.DCM", GRID, 0.5)
    counts = [labels.count(values) for values in [(1,), (4,), (1, 4), (9,), None]]
    assert counts == [3, 3, 5, 0, 5]
    assert torch.equal(labels.mask((4,)), segments.found.masks[4])
    assert labels.problems == ()


def test_dicom_segments_say_their_threshold_and_what_was_left_out(
    tmp_path: Path, segments: SimpleNamespace
) -> None:
    segments.found.is_fractional = True
    segments.found.notes = ("seg.dcm has 2 open contours, left out",)
    labels = read_labels(tmp_path / "seg.dcm", GRID, threshold=0.25)
    assert segments.asked[2] == 0.25
    assert [note.kind for note in labels.problems] == [Kind.PARTIAL_LABEL, Kind.FRACTIONAL]
    assert labels.problems[0].sentence == "seg.dcm has 2 open contours, left out"
    assert "voxels of at least 0.25 belong to the class" in labels.problems[1].sentence


def test_a_dicom_file_without_segments_is_refused(
    tmp_path: Path, segments: SimpleNamespace
) -> None:
    segments.found.masks.clear()
    with pytest.raises(CaseError, match=r"seg\.dcm holds no segments"):
        read_labels(tmp_path / "seg.dcm", GRID, threshold=None)
