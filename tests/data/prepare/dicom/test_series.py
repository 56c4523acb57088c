"""DICOM folders as raw data: labels find their images, patients and classes their names."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, RTPlanStorage

from neurosam3d.data.prepare.dicom import scan, series
from neurosam3d.data.prepare.dicom.dataset import sniff_class
from neurosam3d.data.prepare.dicom.series import holds_dicom_labels, list_dicom
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.problems import Kind
from neurosam3d.volume import read_volume
from tests.data.prepare.dicom.miniature import (
    GEOMETRIES,
    SHAPE,
    new_dataset,
    square,
    write_rtstruct,
    write_seg,
    write_series,
)

MASKS = np.ones((2, *SHAPE), dtype=np.uint8)
AXIAL = GEOMETRIES["axial"]
CONTOURS = {"GTV 1": [square(AXIAL, (1, 1), (3, 3), 2)], "Lung/left": None}


def sentences(listing: Listing) -> list[tuple[Kind, str]]:
    return [(problem.kind, problem.sentence) for problem in listing.problems.get("Tr", ())]


def test_series_and_labels_become_items(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    ct = write_series(raw / "a" / "ct", patient="LUNG 1")
    mr = write_series(raw / "b" / "mr", patient="P2", modality="MR")
    write_rtstruct(raw / "a" / "rt.dcm", CONTOURS, slices=ct)
    write_seg(raw / "b" / "seg.dcm", mr, MASKS, names=["Cyst", "Cyst"], kind="FRACTIONAL")
    listing = list_dicom(raw, name="Mix")
    found = [
        (item.image, item.seg, item.values, item.class_name, item.case, item.patient)
        for item in listing.items["Tr"]
    ]
    a = (raw / "a" / "ct", raw / "a" / "rt.dcm")
    assert found == [
        (*a, (3,), "GTV_1", "LUNG_1", "LUNG 1"),
        (*a, (5,), "Lung_left", "LUNG_1", "LUNG 1"),
        (raw / "b" / "mr", raw / "b" / "seg.dcm", (1, 2), "Cyst", "P2", "P2"),
    ]
    assert [item.threshold for item in listing.items["Tr"]] == [None, None, 0.5]
    assert [item.modality for item in listing.items["Tr"]] == ["CT", "CT", "MRI"]
    assert listing.modality == ("CT", "MRI")
    assert listing.labels == {(1, 2): "Cyst", (3,): "GTV_1", (5,): "Lung_left"}
    assert listing.raw == raw
    assert sentences(listing) == []
    back = Listing.from_json(listing.to_json(), source="dataset.json", folder=tmp_path)
    assert (back.items, back.problems) == (listing.items, listing.problems)


def test_channel_threshold_and_the_only_modality_are_passed_on(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "ct", modality="PT")
    write_seg(tmp_path / "seg.dcm", slices, MASKS, kind="FRACTIONAL")
    listing = list_dicom(tmp_path, name="X", channel=2, threshold=0.3)
    assert {(i.channel, i.threshold, i.modality) for i in listing.items["Tr"]} == {(2, 0.3, "")}
    assert listing.modality == ("PET",)


def drop_series(dataset: Dataset) -> None:
    """Leave the references to single images only."""
    images = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    del dataset.ReferencedSeriesSequence
    dataset.SourceImageSequence = images


def drop_references(dataset: Dataset) -> None:
    """Leave the space of the images only."""
    del dataset.ReferencedSeriesSequence
    dataset.pop("SourceImageSequence", None)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.pop("DerivationImageSequence", None)
    dataset.SharedFunctionalGroupsSequence[0].pop("DerivationImageSequence", None)


@pytest.mark.parametrize("edit", [lambda dataset: None, drop_series])
def test_a_label_belongs_to_the_series_it_refers_to(
    tmp_path: Path, edit: Callable[[Dataset], None]
) -> None:
    write_series(tmp_path / "one", frame="1.2.3")
    slices = write_series(tmp_path / "two", frame="1.2.3")
    write_seg(tmp_path / "seg.dcm", slices, MASKS, edit=edit)
    listing = list_dicom(tmp_path, name="X")
    assert {item.image for item in listing.items["Tr"]} == {tmp_path / "two"}
    no_label = f"no DICOM-SEG or RTSTRUCT file belongs to the series in {tmp_path / 'one'}"
    assert sentences(listing) == [(Kind.NO_LABEL, no_label)]


def test_else_it_belongs_to_the_only_series_in_its_space(tmp_path: Path) -> None:
    write_series(tmp_path / "far", frame="1.2.9")
    slices = write_series(tmp_path / "near", frame="1.2.3")
    write_seg(tmp_path / "seg.dcm", slices, MASKS, edit=drop_references)
    assert {i.image for i in list_dicom(tmp_path, name="X").items["Tr"]} == {tmp_path / "near"}
    write_series(tmp_path / "near2", frame="1.2.3")
    listing = list_dicom(tmp_path, name="X")
    assert listing.items == {}
    kind, sentence = sentences(listing)[0]
    assert kind is Kind.NO_IMAGE
    assert sentence == (
        f"{tmp_path / 'seg.dcm'} may belong to several series: "
        f"{tmp_path / 'near'} and {tmp_path / 'near2'}"
    )
    assert [kind for kind, _ in sentences(listing)[1:]] == [Kind.NO_LABEL] * 3


def drop_instances(dataset: Dataset) -> None:
    """Leave the series and the space."""
    drop_references(dataset)
    reference = Dataset()
    reference.SeriesInstanceUID = "1.2.3.1"
    dataset.ReferencedSeriesSequence = [reference]


def test_a_series_in_two_folders_is_a_choice_for_the_user(tmp_path: Path) -> None:
    write_series(tmp_path / "one", uid="1.2.3.1")
    slices = write_series(tmp_path / "two", uid="1.2.3.1")
    write_seg(tmp_path / "seg.dcm", slices, MASKS, edit=drop_instances)
    listing = list_dicom(tmp_path, name="X")
    assert listing.items == {}
    assert sentences(listing)[0] == (
        Kind.NO_IMAGE,
        f"{tmp_path / 'seg.dcm'} may belong to several series: "
        f"{tmp_path / 'one'} and {tmp_path / 'two'}",
    )


def test_of_the_series_in_one_space_only_those_that_are_read_count(tmp_path: Path) -> None:
    slices = write_series(tmp_path, frame="1.2.3")
    write_series(tmp_path, replace(AXIAL, shape=(7, 5, 2)), frame="1.2.3", prefix="scout")
    write_seg(tmp_path / "seg.dcm", slices, MASKS, edit=drop_references)
    listing = list_dicom(tmp_path, name="X")
    assert {item.image for item in listing.items["Tr"]} == {tmp_path}
    assert sentences(listing) == []


def test_a_label_of_no_series_is_told(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "elsewhere")
    write_rtstruct(tmp_path / "raw" / "rt.dcm", CONTOURS, slices=slices)
    listing = list_dicom(tmp_path / "raw", name="X")
    assert (listing.items, listing.modality, listing.labels) == ({}, ("unknown",), {})
    [(kind, sentence)] = sentences(listing)
    assert kind is Kind.NO_IMAGE
    assert "rt.dcm refers to no image series of the raw folder" in sentence


def test_of_several_series_in_a_folder_the_longest_is_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    long = write_series(folder, uid="1.2.3.1", prefix="a")
    short = write_series(folder, GEOMETRIES["sagittal"], uid="1.2.3.2", prefix="b")
    for path in sorted(folder.glob("b*"))[:2]:
        path.unlink()
    write_rtstruct(folder / "long.dcm", CONTOURS, slices=long)
    write_rtstruct(folder / "short.dcm", CONTOURS, slices=short)
    listing = list_dicom(tmp_path, name="X")
    assert {(i.image, i.seg) for i in listing.items["Tr"]} == {(folder, folder / "long.dcm")}
    [(kind, sentence)] = sentences(listing)
    assert kind is Kind.NO_IMAGE
    assert "short.dcm refers to the series 1.2.3.2" in sentence
    assert f"move it out of {folder} into a folder of its own" in sentence


def test_labels_may_lie_in_the_folder_of_their_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slices = write_series(tmp_path / "p", replace(AXIAL, shape=(7, 5, 1)))
    write_seg(tmp_path / "p" / "seg.dcm", slices, MASKS[..., :1])
    write_rtstruct(tmp_path / "p" / "rt.dcm", CONTOURS, slices=slices)
    plan = new_dataset(RTPlanStorage)
    plan.SeriesInstanceUID = "1.2.3.7"
    plan.save_as(tmp_path / "p" / "plan.dcm", enforce_file_format=True)
    listing = list_dicom(tmp_path, name="X")
    assert sentences(listing) == []
    assert {i.seg.name for i in listing.items["Tr"]} == {"rt.dcm", "seg.dcm"}
    # One file each: were they taken for images, there would be several series of one length.
    assert read_volume(tmp_path / "p").data[0, :, :, 0].T.flatten().tolist() == list(range(35))
    assert caplog.text == ""


def test_series_of_one_length_in_a_folder_are_told(tmp_path: Path) -> None:
    one = write_series(tmp_path, uid="1.2.3.1", prefix="a")
    write_series(tmp_path, uid="1.2.3.2", prefix="b")
    write_rtstruct(tmp_path / "rt.dcm", CONTOURS, slices=one)
    listing = list_dicom(tmp_path, name="X")
    assert listing.items == {}
    assert [kind for kind, _ in sentences(listing)] == [Kind.BAD_IMAGE, Kind.NO_IMAGE]
    assert "series of one length" in sentences(listing)[0][1]


def test_several_series_of_a_patient_are_called_after_their_folders(tmp_path: Path) -> None:
    for name in ("p/day 1/ct", "p/day 2/ct", "q/ct"):
        slices = write_series(tmp_path / name, patient=name[0].upper())
        write_rtstruct(tmp_path / name / "rt.dcm", CONTOURS, slices=slices)
    items = list_dicom(tmp_path, name="X").items["Tr"]
    cases = {(item.patient, item.case) for item in items}
    assert cases == {("P", "P_day_1_ct"), ("P", "P_day_2_ct"), ("Q", "Q")}


@pytest.mark.parametrize("unknown", ["", " ", "_?_"])
def test_without_an_identifier_the_patient_is_called_after_the_folder(
    tmp_path: Path, unknown: str
) -> None:
    slices = write_series(tmp_path / "s7" / "ct", patient=unknown)
    write_rtstruct(tmp_path / "s7" / "rt.dcm", CONTOURS, slices=slices)
    assert {(i.patient, i.case) for i in list_dicom(tmp_path, name="X").items["Tr"]} == {
        ("s7", "s7")
    }


def test_a_class_that_a_second_file_gives_again_is_left_out(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "ct")
    write_seg(tmp_path / "a.dcm", slices, MASKS, names=["Cyst", "Liver"])
    write_seg(tmp_path / "b.dcm", slices, MASKS, names=["Spleen", "Cyst"])
    listing = list_dicom(tmp_path, name="X")
    found = {(item.class_name, item.seg.name, item.values) for item in listing.items["Tr"]}
    assert found == {
        ("Cyst", "a.dcm", (1,)),
        ("Liver", "a.dcm", (2,)),
        ("Spleen", "b.dcm", (1,)),
    }
    assert listing.labels == {}  # number 1 is two classes
    [problem] = listing.problems["Tr"]
    assert (problem.kind, problem.case) == (Kind.BAD_LABEL, "P1")
    assert "b.dcm gives Cyst of" in problem.sentence
    assert "a.dcm counts" in problem.sentence


def test_segments_without_a_fit_name_are_told(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "ct")
    write_rtstruct(tmp_path / "rt.dcm", {"": None, "Lung": None}, slices=slices)
    write_rtstruct(tmp_path / "none.dcm", {}, slices=slices)
    listing = list_dicom(tmp_path, name="X")
    assert [item.class_name for item in listing.items["Tr"]] == ["Lung"]
    assert [kind for kind, _ in sentences(listing)] == [Kind.BAD_LABEL] * 2
    assert "none.dcm holds no segments" in sentences(listing)[0][1]
    assert "segment 3 of" in sentences(listing)[1][1]


def test_damaged_files_do_not_stop_the_listing(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "ct")
    write_rtstruct(tmp_path / "rt.dcm", CONTOURS, slices=slices)
    cut = write_rtstruct(tmp_path / "ct" / "cut.dcm", CONTOURS, slices=slices)
    cut.write_bytes(cut.read_bytes()[:700])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "void.dcm").touch()
    (tmp_path / "ct" / "s88.dcm").write_bytes(b"")  # told when the series is read
    (tmp_path / "notes.txt").write_text("no DICOM file")
    listing = list_dicom(tmp_path, name="X")
    assert len(listing.items["Tr"]) == 2
    assert [kind for kind, _ in sentences(listing)] == [Kind.DAMAGED, Kind.EMPTY_FILE]
    assert "cut.dcm" in sentences(listing)[0][1]
    assert "void.dcm" in sentences(listing)[1][1]


def test_other_files_have_no_kind(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    content = (tmp_path / "ct" / "s90.dcm").read_bytes()
    assert sniff_class(tmp_path / "ct" / "s90.dcm") == CTImageStorage
    (tmp_path / "other").write_bytes(content.replace(b"DICM", b"MCID", 1))
    assert sniff_class(tmp_path / "other") == sniff_class(tmp_path / "gone") == ""


def test_hidden_files_are_passed_over_and_links_followed_once(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "data" / "ct")
    write_rtstruct(tmp_path / "data" / "rt.dcm", CONTOURS, slices=slices)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / ".trash").symlink_to(tmp_path / "data")
    assert not holds_dicom_labels(raw)
    (raw / "p1").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "again").symlink_to(raw)
    assert holds_dicom_labels(raw)
    listing = list_dicom(raw, name="X")
    assert {i.image for i in listing.items["Tr"]} == {raw / "p1" / "ct"}


def test_label_files_are_recognized_by_their_first_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = write_series(tmp_path / "a" / "ct")
    (tmp_path / "a" / "scan.nii.gz").write_bytes(b"volume")
    assert not holds_dicom_labels(tmp_path)
    write_rtstruct(tmp_path / "b" / "structures", CONTOURS, slices=slices)
    write_series(tmp_path / "c" / "ct")
    sniffed = []

    def note(path: Path) -> str:
        sniffed.append(os.path.relpath(path, tmp_path)[0])
        return sniff_class(path)

    monkeypatch.setattr(series, "sniff_class", note)
    monkeypatch.setattr(scan, "read_dataset", None)  # no header is parsed
    assert holds_dicom_labels(tmp_path)
    assert sniffed == ["a"] * 6 + ["b"]
