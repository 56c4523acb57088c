"""Which layout a folder has, and what is said if it has none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d.data.prepare.layouts import LAYOUTS, RawFolder, list_raw_folder, recognize

Touch = Callable[..., None]
NNUNET = {"channel_names": {"0": "CT"}, "labels": {"liver": 1}, "file_ending": ".nii.gz"}


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (["sub-1/anat/sub-1_T1w.nii.gz", "derivatives/x/y.txt"], "BIDS"),
        (["sub-1/anat/sub-1_T1w.nii.gz", "dataset_description.json"], "BIDS"),
        (["bert/mri/orig.mgz"], "FreeSurfer"),
        (["mri/aseg.mgz"], "FreeSurfer"),
        (["case_00000/imaging.nii.gz"], "KiTS"),
        (["volume-0.nii"], "LiTS"),
        (["Training Batch 1/volume-0.nii"], "LiTS"),
        (["img/img0001.nii.gz"], "Synapse/BTCV"),
        (["s0001/ct.nii.gz", "s0001/segmentations/liver.nii.gz"], "masks per class"),
        (["sub-1/anat/sub-1_T1w.nii.gz"], None),
        (["fsaverage/mri/orig.mgz"], None),
        (["scans/a.nii.gz", "labels/a.nii.gz"], None),
        (["Task02_Heart/imagesTr/a.nii.gz", "Task02_Heart/labelsTr/a.nii.gz"], None),
    ],
)
def test_files_tell_the_layout(
    tmp_path: Path, touch: Touch, files: list[str], layout: str | None
) -> None:
    touch(*files)
    found = recognize(tmp_path)
    assert (found and found.name) == layout


def test_an_unknown_layout_lists_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no known layout in .*--layout FILE\.yaml$") as error:
        list_raw_folder(RawFolder(tmp_path, "A"))
    assert len(LAYOUTS) == 9
    for layout in LAYOUTS:
        assert f"{layout.name} ({layout.description})" in str(error.value)


def test_the_parent_of_a_raw_folder_points_to_it(tmp_path: Path, touch: Touch) -> None:
    touch("Dataset007_Liver/dataset.json", "another/file.txt")
    (tmp_path / "Dataset007_Liver/dataset.json").write_text(json.dumps(NNUNET))
    with pytest.raises(ValueError, match="a known layout is in its folder Dataset007_Liver"):
        list_raw_folder(RawFolder(tmp_path, "A"))


def test_folders_without_use_are_refused(tmp_path: Path, touch: Touch) -> None:
    with pytest.raises(ValueError, match=r"no raw folder .*missing"):
        list_raw_folder(RawFolder(tmp_path / "missing", "A"))
    touch("imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(NNUNET))
    message = r"no image with a label in .* read as nnU-Net v2 .*; A_Tr: image without label: 2, "
    with pytest.raises(ValueError, match=message) as error:
        list_raw_folder(RawFolder(tmp_path, "A"))
    assert "\n" not in str(error.value)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        list_raw_folder(RawFolder(tmp_path, "A"))


def test_options_without_use_are_refused(tmp_path: Path, touch: Touch) -> None:
    touch("s1/ct.nii.gz", "s1/segmentations/liver.nii.gz")
    with pytest.raises(ValueError, match="--labels is of no use here: masks per class"):
        list_raw_folder(RawFolder(tmp_path, "A", labels={1: "liver"}))
    touch("kits/case_00000/imaging.nii.gz", "kits/case_00000/segmentation.nii.gz")
    with pytest.raises(ValueError, match="--threshold is of no use here: labels of KiTS are int"):
        list_raw_folder(RawFolder(tmp_path / "kits", "A", threshold=0.5))


@pytest.mark.parametrize("name", ["a/b", "", "../x"])
def test_a_name_must_be_a_folder_name(tmp_path: Path, touch: Touch, name: str) -> None:
    touch("s1/ct.nii.gz", "s1/segmentations/liver.nii.gz")
    with pytest.raises(ValueError, match="a dataset's name starts with a letter or digit"):
        list_raw_folder(RawFolder(tmp_path, name))
