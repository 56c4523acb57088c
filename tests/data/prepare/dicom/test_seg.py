"""DICOM-SEG: every frame lies where its position says, whatever its order, kind and direction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset
from pydicom.pixels.utils import pack_bits

from neurosam3d.data.prepare.dicom.labels import list_segments, read_segments
from neurosam3d.data.prepare.problems import CaseError, Kind
from neurosam3d.volume import Grid, read_grid
from tests.data.prepare.dicom.miniature import (
    GEOMETRIES,
    SHAPE,
    Geometry,
    write_seg,
    write_series,
)


def grid_of(geometry: Geometry) -> Grid:
    return Grid(geometry.shape, geometry.affine)


def random_masks(seed: int = 0) -> np.ndarray:
    """Two overlapping masks, (2, columns, rows, slices); slices 0 and 3 have no frame at all."""
    masks = np.random.default_rng(seed).random((2, *SHAPE)) < 0.5
    masks[..., [0, 3]] = False
    masks[0, ..., 5] = masks[1, ..., 1] = False
    return masks.astype(np.uint8)


def shuffle_frames(dataset: Dataset) -> None:
    """Store the frames in another order, each with its own description."""
    order = np.random.default_rng(1).permutation(dataset.NumberOfFrames)
    frames = dataset.pixel_array[order]
    groups = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = [groups[int(index)] for index in order]
    dataset.PixelData = pack_bits(frames) if dataset.BitsAllocated == 1 else frames.tobytes()


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_lie_where_their_frames_say(tmp_path: Path, name: str, kind: str) -> None:
    geometry, masks = GEOMETRIES[name], random_masks()
    if kind == "LABELMAP":
        masks[0] &= 1 - masks[1]  # a voxel has one value
    slices = write_series(tmp_path / "ct", geometry)
    path = write_seg(tmp_path / "seg.dcm", slices, masks, kind=kind, edit=shuffle_frames)
    grid = read_grid(tmp_path / "ct")
    assert grid.same_as(grid_of(geometry))
    segments = read_segments(path, grid)
    assert list(segments.masks) == [1, 2]
    for number in (1, 2):
        assert segments.masks[number].dtype == torch.bool
        assert torch.equal(segments.masks[number][0], torch.from_numpy(masks[number - 1] > 0))
    assert segments.is_fractional == (kind == "FRACTIONAL")
    assert segments.notes == ()


def test_segments_are_named_as_stored(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "ct")
    path = write_seg(tmp_path / "s.dcm", slices, random_masks(), names=["GTV 1", "Lung/left"])
    assert list_segments(path) == {1: "GTV 1", 2: "Lung/left"}


@pytest.mark.parametrize(
    ("threshold", "voxels"),
    [(0.5, {(2, 1, 1), (3, 1, 1)}), (0.4, {(1, 1, 1), (2, 1, 1), (3, 1, 1)})],
)
def test_fractions_belong_from_the_threshold_on(
    tmp_path: Path, threshold: float, voxels: set[tuple[int, ...]]
) -> None:
    shares = np.zeros((1, *SHAPE))
    shares[0, 0:4, 1, 1] = [0.2, 0.4, 0.5, 1.0]
    slices = write_series(tmp_path / "ct")
    path = write_seg(tmp_path / "s.dcm", slices, shares, kind="FRACTIONAL", largest=200)
    mask = read_segments(path, read_grid(tmp_path / "ct"), threshold=threshold).masks[1][0]
    assert {tuple(index) for index in mask.nonzero().tolist()} == voxels


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_part_of_the_image_is_copied_to_its_place(tmp_path: Path, name: str) -> None:
    geometry = GEOMETRIES[name]
    corner = geometry.to_lps([(2, 1, 3)])[0]
    part = replace(geometry, shape=(4, 3, 2), origin=tuple(corner))
    masks = np.random.default_rng(2).integers(0, 2, (1, 4, 3, 2)).astype(np.uint8)
    masks[0, 0, 0], masks[0, 3, 2] = 1, 1
    path = write_seg(tmp_path / "s.dcm", write_series(tmp_path / "part", part), masks)
    whole = np.zeros(SHAPE, dtype=bool)
    whole[2:6, 1:4, 3:5] = masks[0] > 0
    found = read_segments(path, grid_of(geometry)).masks[1][0]
    assert torch.equal(found, torch.from_numpy(whole))


def test_other_axes_over_the_same_voxels_are_copied(tmp_path: Path) -> None:
    geometry, masks = GEOMETRIES["oblique"], random_masks()
    path = write_seg(tmp_path / "s.dcm", write_series(tmp_path / "ct", geometry), masks)
    turned = geometry.affine @ np.array(
        [[0, 0, -1, SHAPE[0] - 1], [1, 0, 0, 0], [0, -1, 0, SHAPE[2] - 1], [0, 0, 0, 1]]
    )  # axes: rows; slices backwards; columns backwards
    found = read_segments(path, Grid((SHAPE[1], SHAPE[2], SHAPE[0]), turned)).masks[1][0]
    expected = masks[0].transpose(1, 2, 0)[:, ::-1, ::-1] > 0
    assert torch.equal(found, torch.from_numpy(expected.copy()))


def test_another_voxel_size_takes_the_nearest_voxel(tmp_path: Path, axial: Geometry) -> None:
    masks = random_masks()
    path = write_seg(tmp_path / "s.dcm", write_series(tmp_path / "ct", axial), masks)
    grid = grid_of(axial).with_spacing((0.5, 2.0, 1.25))
    found = read_segments(path, grid).masks[1][0]
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    mapping = np.linalg.inv(axial.affine) @ grid.affine
    nearest = np.floor(np.round(index @ mapping[:3, :3].T + mapping[:3, 3], 9) + 0.5).astype(int)
    i, j, k = np.moveaxis(nearest, -1, 0)
    inside = (i >= 0) & (i < 7) & (j >= 0) & (j < 5) & (k >= 0) & (k < 6)
    expected = inside & (masks[0][i % 7, j % 5, k % 6] > 0)
    assert found.sum() > 50
    assert torch.equal(found, torch.from_numpy(expected))


def only_slices(*kept: int) -> np.ndarray:
    """One segment that fills column 2 of some slices."""
    masks = np.zeros((1, *SHAPE), dtype=np.uint8)
    masks[0, 2, :, kept] = 1
    return masks


def set_spacing(spacing: float | None) -> object:
    def edit(dataset: Dataset) -> None:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        if spacing is None:
            del measures.SpacingBetweenSlices
        else:
            measures.SpacingBetweenSlices = spacing

    return edit


@pytest.mark.parametrize("said", [2.5, 2.499, 1.0, 150.0, None])
def test_gaps_are_counted_in_slices_whatever_the_file_says(
    tmp_path: Path, axial: Geometry, said: float | None
) -> None:
    masks = only_slices(0, 2, 5)  # 2 and 3 slices apart: not multiples of the smallest gap
    slices = write_series(tmp_path / "ct", axial)
    path = write_seg(tmp_path / "s.dcm", slices, masks, edit=set_spacing(said))
    found = read_segments(path, grid_of(axial)).masks[1][0]
    assert torch.equal(found, torch.from_numpy(masks[0] > 0))


def test_a_single_frame_fills_one_slice(tmp_path: Path, axial: Geometry) -> None:
    slices = write_series(tmp_path / "ct", axial)
    path = write_seg(tmp_path / "s.dcm", slices, only_slices(4), edit=set_spacing(None))
    found = read_segments(path, grid_of(axial)).masks[1][0]
    assert found.sum(dim=(0, 1)).tolist() == [0, 0, 0, 0, 5, 0]


@pytest.mark.parametrize(("said", "ratio"), [(2.5, 3), (-2.5, 3), (None, 2.2)])
def test_thinner_slices_take_the_nearest_frame(
    tmp_path: Path, axial: Geometry, said: float | None, ratio: float
) -> None:
    slices = write_series(tmp_path / "ct", axial)
    path = write_seg(tmp_path / "s.dcm", slices, only_slices(0, 1, 2), edit=set_spacing(said))
    thin = Grid((7, 5, 14), axial.affine @ np.diag([1.0, 1.0, 1 / ratio, 1.0]))
    found = read_segments(path, thin).masks[1][0]
    expected = [5 if index / ratio < 2.5 else 0 for index in range(14)]
    assert found.sum(dim=(0, 1)).tolist() == expected


def test_a_segment_without_frames_is_empty(tmp_path: Path, axial: Geometry) -> None:
    masks = np.concatenate([only_slices(1), np.zeros((1, *SHAPE), dtype=np.uint8)])
    path = write_seg(tmp_path / "s.dcm", write_series(tmp_path / "ct", axial), masks)
    segments = read_segments(path, grid_of(axial))
    assert [int(segments.masks[number].sum()) for number in (1, 2)] == [5, 0]


def test_a_file_without_foreground_has_empty_segments(tmp_path: Path, axial: Geometry) -> None:
    slices, masks = write_series(tmp_path / "ct", axial), np.zeros((1, *SHAPE), dtype=np.uint8)
    path = write_seg(tmp_path / "s.dcm", slices, masks)
    assert int(read_segments(path, grid_of(axial)).masks[1].sum()) == 0


def test_a_file_beside_its_image_is_refused(tmp_path: Path, axial: Geometry) -> None:
    path = write_seg(tmp_path / "s.dcm", write_series(tmp_path / "ct", axial), only_slices(1))
    far = grid_of(axial).window((100, 0, 0), SHAPE)
    with pytest.raises(CaseError, match=r"s\.dcm does not overlap its image") as caught:
        read_segments(path, far)
    assert caught.value.kind is Kind.NO_OVERLAP


def drop_positions(dataset: Dataset) -> None:
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def move_a_frame(dataset: Dataset) -> None:
    place = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    x, y, z = place.ImagePositionPatient
    place.ImagePositionPatient = [x, y, z + 0.9]


def shift_a_frame(dataset: Dataset) -> None:
    place = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    x, y, z = place.ImagePositionPatient
    place.ImagePositionPatient = [x + 3, y, z]


def turn_a_frame(dataset: Dataset) -> None:
    frame = dataset.PerFrameFunctionalGroupsSequence[1]
    turn = Dataset()
    turn.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    frame.PlaneOrientationSequence = [turn]


def drop_type(dataset: Dataset) -> None:
    del dataset.SegmentationType


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (drop_positions, "have no position in the patient"),
        (move_a_frame, "lie at uneven distances"),
        (shift_a_frame, "lie at uneven distances"),
        (turn_a_frame, "differ in direction or spacing"),
        (drop_type, "lacks or contradicts what DICOM demands"),
    ],
)
def test_frames_that_lie_nowhere_are_refused(
    tmp_path: Path, axial: Geometry, edit: object, reason: str
) -> None:
    slices = write_series(tmp_path / "ct", axial)
    path = write_seg(tmp_path / "s.dcm", slices, only_slices(1, 2, 4), edit=edit)
    with pytest.raises(CaseError, match=reason) as caught:
        read_segments(path, grid_of(axial))
    assert caught.value.kind is Kind.BAD_LABEL
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
