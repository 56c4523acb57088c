"""DICOM-SEG files: read back by highdicom, voxel by voxel, with what they say of the segments."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from neurosam3d.inference.dicom_seg import read_series, write_dicom_seg
from neurosam3d.volume import read_grid, read_volume
from tests.data.prepare.dicom.miniature import GEOMETRIES, LPS_TO_RAS, SHAPE, write_series


def _labels(seed: int = 3) -> np.ndarray:
    """Draw 0, 1 and 2 at random, with no voxel in the first slice and only 2 in the last."""
    labels = np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)
    labels[:, :, 0] = 0
    labels[:, :, -1] = 2
    return labels


def _write(folder: Path, path: Path, *, is_automatic: bool = False) -> None:
    write_dicom_seg(
        path,
        _labels(),
        names=("kidney_left", "Something new"),
        grid=read_grid(folder),
        series=read_series(folder),
        network="vit_tiny",
        parameters={"checkpoint": "last.ckpt"},
        is_automatic=is_automatic,
    )


@pytest.mark.parametrize("name", GEOMETRIES)
def test_voxels_come_back_where_they_were(tmp_path: Path, name: str) -> None:
    geometry = GEOMETRIES[name]
    slices = write_series(tmp_path / "ct", geometry)
    _write(tmp_path / "ct", tmp_path / "new" / "mask.dcm")
    seg = hd.seg.segread(tmp_path / "new" / "mask.dcm")
    # By the images that the frames refer to: slices first, then rows, columns, segments.
    planes = seg.get_pixels_by_source_instance(
        [image.SOPInstanceUID for image in slices], ignore_spatial_locations=False
    )
    for number in (1, 2):
        np.testing.assert_array_equal(planes[..., number - 1].T, _labels() == number)
    # And by their positions: every frame lies where the affine of the image says.
    to_index = np.linalg.inv(read_grid(tmp_path / "ct").affine) @ LPS_TO_RAS
    for frame, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        corner = group.PlanePositionSequence[0].ImagePositionPatient
        i, j, k = (to_index @ [*corner, 1])[:3]
        assert (i, j) == pytest.approx((0, 0), abs=1e-3)
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(seg.pixel_array[frame].T, _labels()[:, :, round(k)] == number)


def test_frames_of_one_file_are_matched_by_their_positions(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "slices", GEOMETRIES["oblique"])
    for image in slices:
        image.SliceThickness, image.ImageType = 2.5, ["ORIGINAL", "PRIMARY", "AXIAL"]
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(
        slices, series_instance_uid=hd.UID(), series_number=2, sop_instance_uid=hd.UID(),
        instance_number=1,
    )  # fmt: skip
    (tmp_path / "ct").mkdir()
    enhanced.save_as(tmp_path / "ct" / "all.dcm")
    scan = read_volume(tmp_path / "ct")
    write_dicom_seg(
        tmp_path / "mask.dcm",
        (scan.data[0].numpy() % 3 == 1).astype(np.uint8),
        names=("liver",),
        grid=scan.grid,
        series=read_series(tmp_path / "ct"),
        network="vit_tiny",
        parameters={},
        is_automatic=False,
    )
    seg = hd.seg.segread(tmp_path / "mask.dcm")
    frames = seg.get_pixels_by_source_frame(enhanced.SOPInstanceUID, range(1, 1 + len(slices)))
    np.testing.assert_array_equal(frames[..., 0], enhanced.pixel_array % 3 == 1)


def test_it_belongs_to_its_patient_and_says_what_it_is(tmp_path: Path) -> None:
    source = write_series(tmp_path / "ct", patient="P7")[0]
    _write(tmp_path / "ct", tmp_path / "mask.dcm")
    seg = hd.seg.segread(tmp_path / "mask.dcm")
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[keyword].value == source[keyword].value
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert (seg.Modality, seg.SegmentationType, seg.SegmentsOverlap) == ("SEG", "BINARY", "NO")
    kidney, new = (seg.get_segment_description(number) for number in (1, 2))
    assert (kidney.segment_label, new.segment_label) == ("kidney_left", "Something new")
    assert kidney.segmented_property_type == codes.SCT.Kidney
    assert kidney.segmented_property_category == codes.SCT.AnatomicalStructure
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert side[0].CodeMeaning == "Left"
    assert new.segmented_property_type == codes.SCT.Tissue
    assert kidney.algorithm_type.value == "SEMIAUTOMATIC"
    algorithm = kidney.algorithm_identification
    assert (algorithm.name, algorithm.parameters) == (
        "NeuroSAM3D vit_tiny",
        {"checkpoint": "last.ckpt"},
    )
    _write(tmp_path / "ct", tmp_path / "mask.dcm", is_automatic=True)
    seg = hd.seg.segread(tmp_path / "mask.dcm")
    assert seg.get_segment_description(1).algorithm_type.value == "AUTOMATIC"


def test_a_scan_made_anonymous_and_an_empty_mask(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    for keyword in ("PatientID", "PatientName", "StudyID", "StudyDate", "ReferringPhysicianName"):
        _edit(tmp_path / "ct", keyword, None)
    write_dicom_seg(
        tmp_path / "mask.dcm",
        np.zeros(SHAPE, np.uint8),
        names=("liver",),
        grid=read_grid(tmp_path / "ct"),
        series=read_series(tmp_path / "ct"),
        network="vit_tiny",
        parameters={},
        is_automatic=False,
    )
    seg = hd.seg.segread(tmp_path / "mask.dcm")
    assert seg.PatientID == ""
    assert not seg.pixel_array.any()


def _edit(folder: Path, keyword: str, value: object, *, only_first: bool = False) -> None:
    for file in sorted(folder.iterdir())[: 1 if only_first else None]:
        dataset = pydicom.dcmread(file)
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
        dataset.save_as(file)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: _edit(f, "SOPInstanceUID", ""), "no valid SOPInstanceUID; write NIfTI instead"),
        (
            lambda f: _edit(f, "FrameOfReferenceUID", None, only_first=True),
            "no valid FrameOfReferenceUID",
        ),
        (lambda f: _edit(f, "StudyInstanceUID", "none"), "no valid StudyInstanceUID"),
        (lambda f: _edit(f, "SOPInstanceUID", "1.2.3"), "several share one SOPInstanceUID"),
    ],
)
def test_an_input_without_usable_uids_is_offered_nifti(
    tmp_path: Path, edit: Callable[[Path], None], message: str
) -> None:
    write_series(tmp_path / "ct")
    edit(tmp_path / "ct")
    with pytest.raises(ValueError, match=message):
        read_series(tmp_path / "ct")


def test_what_is_no_series_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"for a DICOM folder, got the image .*scan"):
        read_series(tmp_path / "scan.nii.gz")
    write_series(tmp_path / "ct")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r"needs pydicom and highdicom: pip install"):
        read_series(tmp_path / "ct")


def test_no_slice_is_replaced(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    before = _contents(tmp_path / "ct")
    with pytest.raises(ValueError, match="must not replace a slice"):
        _write(tmp_path / "ct", sorted((tmp_path / "ct").iterdir())[2])
    assert _contents(tmp_path / "ct") == before
    _write(tmp_path / "ct", tmp_path / "ct" / "mask.dcm")  # beside them it is no slice
    assert read_grid(tmp_path / "ct").shape == SHAPE


def _contents(folder: Path) -> Sequence[bytes]:
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def test_labels_of_another_place_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    series, grid = read_series(tmp_path / "ct"), read_grid(tmp_path / "ct")
    for start, message in (((0, 0, 1), "2.50 mm off"), ((0, 0, 0), "got 6 for 5 planes")):
        other = grid.window(start, SHAPE if any(start) else (7, 5, 5))
        with pytest.raises(ValueError, match=message):
            write_dicom_seg(
                tmp_path / "mask.dcm",
                np.ones(other.shape, np.uint8),
                names=("liver",),
                grid=other,
                series=series,
                network="vit_tiny",
                parameters={},
                is_automatic=False,
            )
