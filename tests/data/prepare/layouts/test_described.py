"""Folders with a dataset.json: nnU-Net v2 and MSD."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.prepare.layouts import RawFolder, list_raw_folder
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.problems import Kind

LABELS = {"0": "background", "1": "liver", "2": "left tumor"}
Touch = Callable[..., None]


def describe(root: Path, **content: Any) -> None:
    (root / "dataset.json").write_text(json.dumps(content))


def nnunet(root: Path, **changes: Any) -> None:
    content: dict[str, Any] = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1},
        "file_ending": ".nii.gz",
    }
    describe(root, **{**content, **changes})


def rows(listing: Listing, set_name: str = "Tr") -> list[tuple[str, str, tuple[int, ...], str]]:
    return [
        (item.case, item.class_name, item.values, item.image.name)
        for item in listing.items[set_name]
    ]


def kinds(listing: Listing, set_name: str = "Tr") -> list[tuple[Kind, str]]:
    return [(problem.kind, problem.case) for problem in listing.problems[set_name]]


def test_nnunet_pairs_cases_of_every_set(
    tmp_path: Path, touch: Touch, caplog: pytest.LogCaptureFixture
) -> None:
    touch("imagesTr/a_01_0000.nii.gz", "labelsTr/a_01.nii.gz", "labelsTr/a_02.nii.gz")
    touch("imagesTs/b_0000.nii.gz", "imagesTs/c_0000.nii.gz", "labelsTs/c.nii.gz")
    nnunet(tmp_path, labels={"background": 0, "organ": [1, 2, 3], "tumor": 2, "ignore": 4})
    with caplog.at_level(logging.INFO):
        listing = list_raw_folder(RawFolder(tmp_path, "Liver"))
    assert (listing.name, listing.modality, list(listing.items)) == ("Liver", ("CT",), ["Tr", "Ts"])
    assert rows(listing) == [
        ("a_01", "organ", (1, 2, 3), "a_01_0000.nii.gz"),
        ("a_01", "tumor", (2,), "a_01_0000.nii.gz"),
    ]
    assert [row[0] for row in rows(listing, "Ts")] == ["c", "c"]
    assert kinds(listing) == [(Kind.NO_IMAGE, "")]
    assert kinds(listing, "Ts") == [(Kind.NO_LABEL, "b")]
    assert (listing.root, listing.raw_folder) == (tmp_path.parent, tmp_path.name)
    assert any("recognized nnU-Net v2" in message for message in caplog.messages)


def test_nnunet_channels_are_files(
    tmp_path: Path, touch: Touch, caplog: pytest.LogCaptureFixture
) -> None:
    touch(*(f"imagesTr/a_000{i}.nrrd" for i in range(3)), "labelsTr/a.nrrd")
    names = {"0": "T1", "1": "T2", "2": "FLAIR"}
    nnunet(tmp_path, channel_names=names, file_ending=".nrrd")
    with caplog.at_level(logging.INFO):
        listing = list_raw_folder(RawFolder(tmp_path, "A"))
    assert rows(listing) == [("a", "liver", (1,), "a_0000.nrrd")]
    assert "3 channels: channel 0 (T1) is used; --channel chooses another" in caplog.messages
    listing = list_raw_folder(RawFolder(tmp_path, "A", channel=2))
    assert listing.modality == ("FLAIR",)
    assert [(item.image.name, item.channel) for item in listing.items["Tr"]] == [("a_0002.nrrd", 0)]
    with pytest.raises(ValueError, match=r"no channel 3; the images have 0 \(T1\), 1 \(T2\), 2"):
        list_raw_folder(RawFolder(tmp_path, "A", channel=3))


def test_a_given_table_goes_before_that_of_the_folder(tmp_path: Path, touch: Touch) -> None:
    touch("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    nnunet(tmp_path)
    listing = list_raw_folder(RawFolder(tmp_path, "A", labels={(4,): "spleen"}))
    assert [(i.class_name, i.values) for i in listing.items["Tr"]] == [("spleen", (4,))]


def test_msd_follows_its_lists(tmp_path: Path, touch: Touch) -> None:
    touch("imagesTr/l_1.nii.gz", "labelsTr/l_1.nii.gz", "imagesTs/l_2.nii.gz")
    touch("imagesTs/l_3.nii.gz", "labelsTs/l_3.nii.gz", "imagesTr/unlisted.nii.gz")
    touch("labelsTr/gone.nii.gz", "imagesTr/bare.nii.gz")
    listed = [(f"./imagesTr/{i}.nii.gz", f"./labelsTr/{i}.nii.gz") for i in ("l_1", "gone", "bare")]
    describe(
        tmp_path,
        modality={"0": "MRI", "1": "MRI"},
        labels=LABELS,
        training=[{"image": image, "label": label} for image, label in listed],
        test=["./imagesTs/l_2.nii.gz", "./imagesTs/l_3.nii.gz"],
    )
    listing = list_raw_folder(RawFolder(tmp_path, "A", channel=1))
    assert rows(listing) == [
        ("l_1", "liver", (1,), "l_1.nii.gz"),
        ("l_1", "left_tumor", (2,), "l_1.nii.gz"),
    ]
    assert {row[0] for row in rows(listing, "Ts")} == {"l_3"}
    assert {item.channel for item in listing.items["Tr"]} == {1}
    assert listing.modality == ("MRI",)
    assert kinds(listing) == [(Kind.NO_IMAGE, "gone"), (Kind.NO_LABEL, "bare")]
    assert kinds(listing, "Ts") == [(Kind.NO_LABEL, "l_2")]


def test_msd_images_of_one_name_are_left_out(tmp_path: Path, touch: Touch) -> None:
    names = ("p1/a.nii.gz", "p2/a.nii.gz", "p2/b.nii.gz")
    touch(*names, "l.nii.gz")
    pairs = [{"image": name, "label": "l.nii.gz"} for name in names]
    describe(tmp_path, labels=LABELS, training=pairs)
    listing = list_raw_folder(RawFolder(tmp_path, "A"))
    assert {row[0] for row in rows(listing)} == {"b"}
    assert kinds(listing) == [(Kind.SAME_NAME, "a")]


def test_msd_lists_of_nnunet_v1_name_cases(tmp_path: Path, touch: Touch) -> None:
    touch("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a_label.nii.gz")
    describe(
        tmp_path,
        modality={"0": "T1", "1": "T2"},
        labels={"0": "background", "1": "liver"},
        training=[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a_label.nii.gz"}],
    )
    listing = list_raw_folder(RawFolder(tmp_path, "A", channel=1))
    assert rows(listing) == [("a", "liver", (1,), "a_0001.nii.gz")]
    assert listing.items["Tr"][0].channel == 0


@pytest.mark.parametrize("entry", [{"label": "x"}, {"image": 3, "label": "x"}, 7])
def test_an_unfit_entry_is_one_sentence(tmp_path: Path, entry: object) -> None:
    describe(tmp_path, labels=LABELS, training=[entry])
    with pytest.raises(ValueError, match=r"dataset\.json: unfit entry"):
        list_raw_folder(RawFolder(tmp_path, "A"))
