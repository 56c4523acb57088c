"""Raw layouts that need no class: nnU-Net v2, MSD and mask per class."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.prepare.layouts import list_raw_folder
from neurosam3d.data.prepare.listing import Listing

LABELS = {"0": "background", "1": "liver", "2": "left tumor"}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def describe(root: Path, **content: Any) -> None:
    (root / "dataset.json").write_text(json.dumps(content))


def rows(listing: Listing, set_name: str = "Tr") -> list[tuple[str, str, tuple[int, ...], str]]:
    return [
        (item.case, item.class_name, item.values, item.image.name)
        for item in listing.items[set_name]
    ]


def nnunet(root: Path, **changes: Any) -> None:
    content: dict[str, Any] = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1},
        "file_ending": ".nii.gz",
    }
    describe(root, **{**content, **changes})


def test_nnunet_pairs_cases_of_every_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "imagesTr/a_01_0000.nii.gz", "labelsTr/a_01.nii.gz")
    touch(tmp_path, "imagesTs/b_0000.nii.gz", "imagesTs/c_0000.nii.gz", "labelsTs/c.nii.gz")
    nnunet(tmp_path, labels={"background": 0, "organ": [1, 2, 3], "tumor": 2, "ignore": 4})
    with caplog.at_level(logging.INFO):
        listing = list_raw_folder(tmp_path, name="Liver")
    assert (listing.name, listing.modality, list(listing.items)) == ("Liver", ("CT",), ["Tr", "Ts"])
    assert rows(listing) == [
        ("a_01", "organ", (1, 2, 3), "a_01_0000.nii.gz"),
        ("a_01", "tumor", (2,), "a_01_0000.nii.gz"),
    ]
    assert [row[0] for row in rows(listing, "Ts")] == ["c", "c"]
    assert any("recognized nnU-Net v2" in message for message in caplog.messages)
    assert any(message.startswith("1 images of") for message in caplog.messages)


def test_nnunet_channels_are_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, *(f"imagesTr/a_000{i}.nrrd" for i in range(3)), "labelsTr/a.nrrd")
    names = {"0": "T1", "1": "T2", "2": "FLAIR"}
    nnunet(tmp_path, channel_names=names, file_ending=".nrrd")
    with caplog.at_level(logging.INFO):
        assert rows(list_raw_folder(tmp_path, name="A")) == [("a", "liver", (1,), "a_0000.nrrd")]
    assert "3 channels: channel 0 (T1) is used; --channel chooses another" in caplog.messages
    listing = list_raw_folder(tmp_path, name="A", channel=2)
    assert listing.modality == ("FLAIR",)
    assert [(item.image.name, item.channel) for item in listing.items["Tr"]] == [("a_0002.nrrd", 0)]
    with pytest.raises(ValueError, match=r"no channel 3; the images have 0 \(T1\), 1 \(T2\), 2"):
        list_raw_folder(tmp_path, name="A", channel=3)


def test_msd_follows_its_lists(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/l_1.nii.gz", "labelsTr/l_1.nii.gz", "imagesTs/l_2.nii.gz")
    touch(tmp_path, "imagesTs/l_3.nii.gz", "labelsTs/l_3.nii.gz", "imagesTr/unlisted.nii.gz")
    describe(
        tmp_path,
        modality={"0": "MRI", "1": "MRI"},
        labels=LABELS,
        training=[{"image": "./imagesTr/l_1.nii.gz", "label": "./labelsTr/l_1.nii.gz"}],
        test=["./imagesTs/l_2.nii.gz", "./imagesTs/l_3.nii.gz"],
    )
    listing = list_raw_folder(tmp_path, name="A", channel=1)
    assert rows(listing) == [
        ("l_1", "liver", (1,), "l_1.nii.gz"),
        ("l_1", "left_tumor", (2,), "l_1.nii.gz"),
    ]
    assert {row[0] for row in rows(listing, "Ts")} == {"l_3"}
    assert {item.channel for item in listing.items["Tr"]} == {1}
    assert listing.modality == ("MRI",)


def test_msd_lists_of_nnunet_v1_name_cases(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    describe(
        tmp_path,
        modality={"0": "T1", "1": "T2"},
        labels={"0": "background", "1": "liver"},
        training=[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    )
    listing = list_raw_folder(tmp_path, name="A", channel=1)
    assert rows(listing) == [("a", "liver", (1,), "a_0001.nii.gz")]
    assert listing.items["Tr"][0].channel == 0


def test_masks_per_class(tmp_path: Path) -> None:
    touch(tmp_path, "s1/ct.nii.gz", "s1/segmentations/left lung.nii.gz", "LICENSE")
    touch(tmp_path, "s2/scan.nii.gz", "s2/segmentations/liver.nii.gz", "notes/x.nii.gz")
    listing = list_raw_folder(tmp_path, name="A")
    assert rows(listing) == [
        ("s1", "left_lung", (1,), "ct.nii.gz"),
        ("s2", "liver", (1,), "scan.nii.gz"),
    ]
    assert all(item.binary for item in listing.items["Tr"])


def test_several_images_of_a_case_share_its_masks(tmp_path: Path) -> None:
    touch(tmp_path, "s1/t1.nii.gz", "s1/t2.nii.gz", "s1/segmentations/liver.nii.gz")
    items = list_raw_folder(tmp_path, name="A").items["Tr"]
    assert [(item.case, item.patient) for item in items] == [("s1_t1", "s1"), ("s1_t2", "s1")]


def test_an_unknown_layout_lists_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no known layout in") as error:
        list_raw_folder(tmp_path, name="A")
    for known in ("nnU-Net v2 (dataset.json", "MSD (dataset.json", "masks per class (<case>"):
        assert known in str(error.value)


def test_the_parent_of_a_raw_folder_points_to_it(tmp_path: Path) -> None:
    (tmp_path / "Dataset007_Liver").mkdir()
    nnunet(tmp_path / "Dataset007_Liver")
    with pytest.raises(ValueError, match="a known layout is in its folder Dataset007_Liver"):
        list_raw_folder(tmp_path, name="A")


def test_folders_without_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no raw folder .*missing"):
        list_raw_folder(tmp_path / "missing", name="A")
    nnunet(tmp_path)
    with pytest.raises(ValueError, match=r"no image with a label in .* read as nnU-Net v2"):
        list_raw_folder(tmp_path, name="A")
    describe(tmp_path, labels=LABELS, training=[{"label": "x"}])
    with pytest.raises(ValueError, match=r"unfit entry \{'label': 'x'}"):
        list_raw_folder(tmp_path, name="A")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        list_raw_folder(tmp_path, name="A")


@pytest.mark.parametrize("name", ["a/b", "", "../x"])
def test_a_name_must_be_a_folder_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    nnunet(tmp_path)
    with pytest.raises(ValueError, match="a dataset's name starts with a letter or digit"):
        list_raw_folder(tmp_path, name=name)
