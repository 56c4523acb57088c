"""Folders known by the names of their files: masks per class, KiTS, LiTS, Synapse/BTCV."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d.data.prepare.layouts import RawFolder, list_raw_folder
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.problems import Kind

Touch = Callable[..., None]


def cases(listing: Listing) -> list[tuple[str, str | None, str]]:
    """Case, patient and label file of every image."""
    found = {
        i.case: (i.case, i.patient, f"{i.seg.parent.name}/{i.seg.name}")
        for i in listing.items["Tr"]
    }
    return list(found.values())


def classes(listing: Listing) -> dict[tuple[int, ...], str]:
    return {item.values: item.class_name for item in listing.items["Tr"]}


def test_masks_per_class(tmp_path: Path, touch: Touch) -> None:
    touch("s1/ct.nii.gz", "s1/segmentations/left lung.nii.gz", "LICENSE")
    touch("s2/scan.nii.gz", "s2/segmentations/liver.nii.gz", "notes/x.nii.gz")
    listing = list_raw_folder(RawFolder(tmp_path, "A", threshold=0.7))
    assert [(i.case, i.class_name, i.values, i.image.name) for i in listing.items["Tr"]] == [
        ("s1", "left_lung", (1,), "ct.nii.gz"),
        ("s2", "liver", (1,), "scan.nii.gz"),
    ]
    assert {(i.binary, i.threshold, i.patient) for i in listing.items["Tr"]} == {(True, 0.7, None)}
    assert [(p.kind, p.case) for p in listing.problems["Tr"]] == [(Kind.NO_LABEL, "notes")]


def test_several_images_of_a_case_share_its_masks(tmp_path: Path, touch: Touch) -> None:
    touch("s1/t1.nii.gz", "s1/t2.nii.gz", "s1/segmentations/liver.nii.gz")
    items = list_raw_folder(RawFolder(tmp_path, "A", channel=1)).items["Tr"]
    assert [(i.case, i.patient, i.channel) for i in items] == [
        ("s1_t1", "s1", 1),
        ("s1_t2", "s1", 1),
    ]


def test_kits(tmp_path: Path, touch: Touch) -> None:
    touch("case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz")
    touch("case_00001/imaging.nii.gz", "case_00001/aggregated_MAJ_seg.nii.gz")
    touch("case_00001/aggregated_OR_seg.nii.gz", "case_00000/instances/kidney_1.nii.gz")
    touch("case_00002/imaging.nii.gz", "case_00003/segmentation.nii.gz", "kits.json")
    listing = list_raw_folder(RawFolder(tmp_path, "Kits"))
    assert cases(listing) == [
        ("case_00000", "case_00000", "case_00000/segmentation.nii.gz"),
        ("case_00001", "case_00001", "case_00001/aggregated_MAJ_seg.nii.gz"),
    ]
    assert classes(listing) == {(1,): "kidney", (2,): "tumor", (3,): "cyst"}
    assert listing.modality == ("CT",)
    assert [(p.kind, p.case) for p in listing.problems["Tr"]] == [
        (Kind.NO_LABEL, "case_00002"),
        (Kind.NO_IMAGE, ""),
    ]


@pytest.mark.parametrize(
    ("images", "labels"),
    [("", ""), ("Training Batch 1/", "Training Batch 1/"), ("volume_pt1/", "segmentations/")],
)
def test_lits(tmp_path: Path, touch: Touch, images: str, labels: str) -> None:
    touch(f"{images}volume-1.nii", f"{images}volume-10.nii", f"{images}volume-2.nii.gz")
    touch(*(f"{labels}segmentation-{i}.nii" for i in (1, 2, 10)))
    listing = list_raw_folder(RawFolder(tmp_path, "LiTS"))
    assert {(case, seg.rpartition("/")[2]) for case, _, seg in cases(listing)} == {
        ("volume-1", "segmentation-1.nii"),
        ("volume-10", "segmentation-10.nii"),
        ("volume-2", "segmentation-2.nii"),
    }
    assert classes(listing) == {(1,): "liver", (2,): "tumor"}
    assert listing.problems == {}


def btcv(touch: Touch, *numbers: str) -> None:
    touch(*(f"img/img{n}.nii.gz" for n in numbers), *(f"label/label{n}.nii.gz" for n in numbers))


def test_btcv_has_thirteen_organs(tmp_path: Path, touch: Touch) -> None:
    btcv(touch, "0001", "0002")
    listing = list_raw_folder(RawFolder(tmp_path, "BTCV"))
    assert cases(listing) == [
        ("img0001", None, "label/label0001.nii.gz"),
        ("img0002", None, "label/label0002.nii.gz"),
    ]
    assert len(classes(listing)) == 13
    assert classes(listing)[6,] == "liver"
    assert classes(listing)[10,] == "portal_vein_and_splenic_vein"


def test_a_btcv_folder_may_bring_its_own_classes_and_patients(tmp_path: Path, touch: Touch) -> None:
    btcv(touch, "0001", "0002", "0003")
    (tmp_path / "labels.json").write_text('{"1": "GTV mass"}')
    told = {"0001": "STS_002 CT", "0002": "STS_002 MR_T1"}
    (tmp_path / "cases.json").write_text(json.dumps(told))
    listing = list_raw_folder(RawFolder(tmp_path, "STS"))
    assert classes(listing) == {(1,): "GTV_mass"}
    assert [(i.case, i.patient, i.modality) for i in listing.items["Tr"]] == [
        ("img0001", "STS_002", "CT"),
        ("img0002", "STS_002", "MR_T1"),
        ("img0003", None, ""),
    ]
    assert listing.modality == ("CT", "MR_T1")
    given = list_raw_folder(RawFolder(tmp_path, "STS", labels={1: "mass"}))
    assert classes(given) == {(1,): "mass"}


def test_unfit_tables_beside_the_images_are_one_sentence(tmp_path: Path, touch: Touch) -> None:
    btcv(touch, "0001")
    (tmp_path / "cases.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"cases\.json must say which patient a number is"):
        list_raw_folder(RawFolder(tmp_path, "STS"))
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(ValueError, match=r"labels\.json: it names no class"):
        list_raw_folder(RawFolder(tmp_path, "STS"))
