"""RTSTRUCT: contours fill the slices they lie in, whatever the axes of the grid."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset

from neurosam3d.data.prepare.dicom.labels import list_segments, read_segments
from neurosam3d.data.prepare.problems import CaseError, Kind
from neurosam3d.volume import Grid, Volume, read_grid, restore
from tests.data.prepare.dicom.miniature import (
    GEOMETRIES,
    SHAPE,
    Geometry,
    square,
    write_rtstruct,
    write_series,
)


def grid_of(geometry: Geometry) -> Grid:
    return Grid(geometry.shape, geometry.affine)


def ring(geometry: Geometry) -> tuple[list[np.ndarray], np.ndarray]:
    """A block of 5 x 4 voxels in slices 2 and 3, with a hole of 2 x 1 in slice 3; and its mask."""
    contours = [
        square(geometry, (1, 0), (5, 3), 3),
        square(geometry, (2, 1), (3, 1), 3),
        square(geometry, (1, 0), (5, 3), 2),
    ]
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:6, 0:4, 2:4] = True
    mask[2:4, 1, 3] = False
    assert mask.sum() == 38
    return contours, mask


@pytest.mark.parametrize("name", GEOMETRIES)
def test_contours_fill_their_slices_but_for_holes(tmp_path: Path, name: str) -> None:
    geometry = GEOMETRIES[name]
    contours, mask = ring(geometry)
    write_series(tmp_path / "ct", geometry)
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": contours})
    segments = read_segments(path, read_grid(tmp_path / "ct"))
    assert list(segments.masks) == [3]
    assert torch.equal(segments.masks[3][0], torch.from_numpy(mask))
    assert not segments.is_fractional
    assert segments.notes == ()


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0), (0, 1, 2)])
def test_slices_may_run_along_any_axis(
    tmp_path: Path, name: str, order: tuple[int, int, int]
) -> None:
    geometry = GEOMETRIES[name]
    contours, mask = ring(geometry)
    flips = np.diag([-1.0, 1.0, -1.0, 1.0])
    flips[:3, 3] = SHAPE[0] - 1, 0, SHAPE[2] - 1
    turn = np.eye(4)[:, [*order, 3]]
    d, h, w = (SHAPE[axis] for axis in order)
    grid = Grid((d, h, w), geometry.affine @ flips @ turn)
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": contours})
    expected = restore(Volume(torch.from_numpy(mask)[None], geometry.affine), grid).data
    assert torch.equal(read_segments(path, grid).masks[3], expected)


def test_the_voxel_count_is_the_area_of_an_oblique_outline(tmp_path: Path) -> None:
    fine = Geometry(shape=(120, 100, 3), spacing=(0.6, 0.4))
    corners = np.array([(10.2, 8.7, 1), (101.3, 20.1, 1), (80.9, 90.4, 1), (22.6, 71.8, 1)])
    u, v = corners[:, 0], corners[:, 1]
    area = abs(np.sum(u * np.roll(v, -1) - v * np.roll(u, -1))) / 2  # voxels
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [fine.to_lps(corners)]})
    assert int(read_segments(path, grid_of(fine)).masks[3].sum()) == pytest.approx(area, rel=5e-3)


def count_by_slice(tmp_path: Path, contours: list[np.ndarray], geometry: Geometry) -> list[int]:
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": contours})
    mask = read_segments(path, grid_of(geometry)).masks[3][0]
    return mask.sum(dim=(0, 1)).tolist()


@pytest.mark.parametrize(
    ("at", "slice_number"), [(2.4, 2), (1.6, 2), (2.5, 3), (2.4999999, 3), (-0.4, 0), (5.4, 5)]
)
def test_a_contour_between_slices_goes_to_the_nearest(
    tmp_path: Path, axial: Geometry, at: float, slice_number: int
) -> None:
    counts = count_by_slice(tmp_path, [square(axial, (1, 1), (2, 3), at)], axial)
    assert counts == [6 if number == slice_number else 0 for number in range(6)]


def test_planes_half_way_between_slices_stay_apart(tmp_path: Path, axial: Geometry) -> None:
    contours = [square(axial, (0, 0), (1, 1), at) for at in (1.5002, 2.4998, 3.5)]
    assert count_by_slice(tmp_path, contours, axial) == [0, 0, 4, 4, 4, 0]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_corners_on_centres_fill_the_same_voxels_in_every_direction(
    tmp_path: Path, name: str
) -> None:
    geometry = GEOMETRIES[name]
    contour = geometry.to_lps([(1, 1, 2), (4, 1, 2), (4, 3, 2), (1, 3, 2)])
    assert count_by_slice(tmp_path, [contour], geometry) == [0, 0, 6, 0, 0, 0]


def test_of_two_planes_on_one_slice_the_nearest_counts(tmp_path: Path, axial: Geometry) -> None:
    contours = [
        square(axial, (0, 0), (3, 3), 1.7),
        square(axial, (0, 0), (5, 3), 2.1),
        square(axial, (1, 1), (2, 2), 2.05),  # in the plane of the one before: a hole
    ]
    assert count_by_slice(tmp_path, contours, axial) == [0, 0, 20, 0, 0, 0]


def test_slices_between_contours_stay_empty(tmp_path: Path, axial: Geometry) -> None:
    contours = [square(axial, (0, 0), (1, 1), at) for at in (1, 4)]
    assert count_by_slice(tmp_path, contours, axial) == [0, 4, 0, 0, 4, 0]


def test_what_lies_outside_the_image_is_left_out(tmp_path: Path, axial: Geometry) -> None:
    contours = [
        square(axial, (-3, -3), (1, 0), 0),
        square(axial, (5, 3), (90, 90), 5),
        square(axial, (1, 1), (2, 2), 6),
        square(axial, (1, 1), (2, 2), -1),
    ]
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": contours})
    segments = read_segments(path, grid_of(axial))
    assert segments.masks[3][0].nonzero().tolist() == [
        *([0, 0, 0], [1, 0, 0]),
        *([5, 3, 5], [5, 4, 5], [6, 3, 5], [6, 4, 5]),
    ]
    assert segments.notes == ("GTV: contours beyond the first or last slice of the image ignored",)


def test_regions_may_overlap_or_have_no_contours(tmp_path: Path, axial: Geometry) -> None:
    regions = {
        "GTV 1": [square(axial, (1, 1), (2, 2), 2)],
        "Lung/left": [square(axial, (0, 0), (3, 3), 2)],
        "Couch": [],
        "Heart": None,
        "Table": [square(axial, (90, 1), (99, 2), 2)],
    }
    path = write_rtstruct(tmp_path / "rt.dcm", regions)
    assert list_segments(path) == {3: "GTV 1", 5: "Lung/left", 7: "Couch", 9: "Heart", 11: "Table"}
    masks = read_segments(path, grid_of(axial)).masks
    counts = {number: int(mask.sum()) for number, mask in masks.items()}
    assert counts == {3: 4, 5: 16, 7: 0, 9: 0, 11: 0}


def test_points_and_open_contours_are_ignored_and_told(tmp_path: Path, axial: Geometry) -> None:
    found = [square(axial, (1, 1), (2, 2), 2)] * 4 + [axial.to_lps([(1, 1, 2), (4, 4, 2)])]
    kinds = ["CLOSED_PLANAR", "OPEN_PLANAR", "OPEN_PLANAR", "POINT", "CLOSED_PLANAR"]
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": found}, kinds=kinds)
    segments = read_segments(path, grid_of(axial))
    assert int(segments.masks[3].sum()) == 4
    assert segments.notes == (
        "GTV: 2 contours of type OPEN_PLANAR ignored",
        "GTV: 1 contour of type POINT ignored",
        "GTV: 1 contour with fewer than 3 points ignored",
    )


def test_numbers_may_be_filled_up_with_zero_bytes(tmp_path: Path, axial: Geometry) -> None:
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [square(axial, (1, 1), (2, 2), 2)]})
    content = path.read_bytes()
    assert content.count(b"12.25000000 ") == 1  # the last of the contour's numbers
    path.write_bytes(content.replace(b"12.25000000 ", b"12.25000000\0"))
    assert int(read_segments(path, grid_of(axial)).masks[3].sum()) == 4


def drop_contours(dataset: Dataset) -> None:
    del dataset.ROIContourSequence


def cut_a_contour(dataset: Dataset) -> None:
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData)[:-1]


@pytest.mark.parametrize(
    ("edit", "at", "kind", "reason"),
    [
        (drop_contours, 2, Kind.BAD_LABEL, "holds no contours"),
        (cut_a_contour, 2, Kind.BAD_LABEL, "lacks or contradicts what DICOM demands"),
        (lambda dataset: None, 40, Kind.NO_OVERLAP, "does not overlap its image"),
    ],
)
def test_files_without_usable_contours_are_refused(
    tmp_path: Path, axial: Geometry, edit: object, at: int, kind: Kind, reason: str
) -> None:
    contours = {"GTV": [square(axial, (1, 1), (2, 2), at)]}
    path = write_rtstruct(tmp_path / "rt.dcm", contours, edit=edit)
    with pytest.raises(CaseError, match=reason) as caught:
        read_segments(path, grid_of(axial))
    assert caught.value.kind is kind
    assert str(path) in str(caught.value)


def test_contours_across_the_slices_are_refused(tmp_path: Path, axial: Geometry) -> None:
    slanted = axial.to_lps([(0, 0, 1), (6, 0, 4), (6, 4, 4), (0, 4, 1)])
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [slanted]})
    with pytest.raises(CaseError, match=r"one of GTV in .*rt\.dcm crosses 3\.0"):
        read_segments(path, grid_of(axial))
