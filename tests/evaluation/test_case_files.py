"""Which scans plain folders hold, in every layout that is documented."""

import json
from pathlib import Path

import numpy as np
import pytest

from neurosam3d.evaluation.case_files import LabelFile, Scan, keep_apart, list_folder, read_classes
from tests.evaluation.scans import block, write

EMPTY = np.zeros((2, 3, 4), dtype=np.uint8)


def touch(root: Path, names: str) -> Path:
    for name in names.split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names_of(scans: list[Scan]) -> list[tuple[str, str, str, str, str]]:
    return [(s.dataset, s.set_name, s.case, s.image.name, s.labels[0].path.name) for s in scans]


def test_decathlon_folder_with_its_classes(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "Task09",
        """imagesTs/b.nii.gz imagesTs/a.nii.gz imagesTs/._a.nii.gz labelsTs/a.nii.gz
        labelsTs/b.nii.gz imagesTr/c.nii.gz labelsTr/c.nii.gz""",
    )
    labels = {"0": "background", "1": "spleen", "2": "vessels", "3": "vessels"}
    (root / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    scans = list_folder(root)
    assert names_of(scans) == [
        ("Task09", "Ts", "a", "a.nii.gz", "a.nii.gz"),
        ("Task09", "Ts", "b", "b.nii.gz", "b.nii.gz"),
    ]
    assert scans[0].labels[0].classes == {"spleen": (1,), "vessels": (2, 3)}
    assert names_of(list_folder(root, set_name="Tr"))[0][1:3] == ("Tr", "c")


def test_nnunet_folder_takes_one_channel(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "Dataset007_X",
        """labelsTs/x_01.mha imagesTs/x_01_0000.mha imagesTs/x_01_0001.mha
        labelsTs/y_0501.nrrd imagesTs/y_0501.nrrd""",
    )
    names = [("x_01", "x_01_0000.mha"), ("y_0501", "y_0501.nrrd")]
    assert [(s.case, s.image.name) for s in list_folder(root)] == names
    (second, whole) = list_folder(root, channel=1)
    assert second.image.name == "x_01_0001.mha"
    assert (whole.image.name, whole.channel) == ("y_0501.nrrd", 1)


def test_sam_med3d_layout_has_masks_of_a_class(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        """liver/AMOS/imagesTs/1.nii.gz liver/AMOS/labelsTs/1.nii.gz
        spleen/AMOS/imagesTs/1.nii.gz spleen/AMOS/labelsTs/1.nii.gz""",
    )
    scans = list_folder(root)
    assert [(s.dataset, s.case, s.labels[0].mask_of) for s in scans] == [
        ("AMOS", "1", "liver"),
        ("AMOS", "1", "spleen"),
    ]


def test_folders_without_a_set_and_one_level_deeper(tmp_path: Path) -> None:
    root = touch(tmp_path / "scans", "images/1.nii labels/1.nii.gz")
    assert names_of(list_folder(root)) == [("scans", "Ts", "1", "1.nii", "1.nii.gz")]
    assert [scan.dataset for scan in list_folder(tmp_path)] == ["scans"]


def test_any_two_folders_or_files(tmp_path: Path) -> None:
    touch(
        tmp_path, "ct/1.nii.gz truth/1.nii.gz truth/other.nii.gz ct/series/1.dcm truth/series.nrrd"
    )
    scans = list_folder(tmp_path / "ct", labels=tmp_path / "truth", set_name="Val")
    assert names_of(scans) == [
        ("ct", "Val", "1", "1.nii.gz", "1.nii.gz"),
        ("ct", "Val", "series", "series", "series.nrrd"),
    ]
    pair = list_folder(tmp_path / "ct/1.nii.gz", labels=tmp_path / "truth/other.nii.gz")
    assert names_of(pair) == [("ct", "Ts", "1", "1.nii.gz", "other.nii.gz")]


def test_what_has_no_counterpart_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(tmp_path, "images/1.nii.gz labels/1.nii.gz labels/2.nii.gz")
    touch(root, " ".join(f"images/alone{n}.nii.gz" for n in range(4)))
    assert len(list_folder(root)) == 1
    first, second = caplog.messages
    assert first.startswith("4 images of")
    assert first.endswith("alone0.nii.gz, alone1.nii.gz, alone2.nii.gz, ...")
    assert second.startswith("1 labels of")


def test_same_names_are_kept_apart(tmp_path: Path) -> None:
    root = touch(tmp_path, "images/a.nii.gz images/a.nrrd labels/a.nii.gz")
    assert [scan.case for scan in list_folder(root)] == ["a", "a_2"]
    label = (LabelFile(Path("l")),)
    scans = [Scan("D", "Ts", case, Path(case), label) for case in ("a", "a_2", "a", "a")]
    assert [scan.case for scan in keep_apart(scans)] == ["a", "a_2", "a_3", "a_4"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ({"background": 0, "liver": 1, "ignore": 3}, {"liver": (1,)}),
        ({"background": 0, "whole": [1, 2], "core": 2}, {"whole": (1, 2), "core": (2,)}),
        ({"0": "bg", "12": "aorta"}, {"aorta": (12,)}),
    ],
)
def test_label_tables(labels: dict[str, object], classes: object, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": labels}), encoding="utf-8")
    assert read_classes(path) == classes


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"labels": {"liver": {"x": 1}}}'])
def test_an_unfit_table_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r'dataset\.json must hold "labels" as'):
        read_classes(path)


def test_nothing_to_evaluate_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must lie in an existing folder, got .*nowhere"):
        list_folder(tmp_path / "nowhere")
    write(tmp_path / "images" / "a.nii.gz", block())
    with pytest.raises(ValueError, match=r"imagesVal and labelsVal, images and labels"):
        list_folder(tmp_path, set_name="Val")
    write(tmp_path / "labels" / "b.nii.gz", EMPTY)
    with pytest.raises(ValueError, match=r"an image of .*images must have a label of its name in"):
        list_folder(tmp_path)
