"""Templates: which files and folders they find, and what their placeholders stand for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d.data.prepare.raw_files import RawFiles, fill, placeholders

Touch = Callable[..., None]


def names(root: Path, template: str, **known: str) -> list[str]:
    return [str(path.relative_to(root)) for path, _ in RawFiles(root).find(template, known)]


def test_placeholders_take_the_names_apart(tmp_path: Path, touch: Touch) -> None:
    touch("imagesTr_T1/b_1.nii.gz", "imagesTr/a.nii", "imagesTr/x.txt", "images/c.nii")
    found = [fields for _, fields in RawFiles(tmp_path).find("imagesTr{sequence}/{case}{ext}")]
    assert found == [
        {"sequence": "", "case": "a", "ext": ".nii"},
        {"sequence": "_T1", "case": "b_1", "ext": ".nii.gz"},
    ]


def test_a_repeated_placeholder_stands_for_one_text(tmp_path: Path, touch: Touch) -> None:
    touch("s1/s1_t1.nii.gz", "s1/s2_t1.nii.gz", "s1/s1_s1.nii.gz", "s1/s1_s2.nii.gz")
    assert names(tmp_path, "{case}/{case}_t1.nii.gz") == ["s1/s1_t1.nii.gz"]
    assert names(tmp_path, "s1/{case}_{case}{ext}") == ["s1/s1_s1.nii.gz"]


def test_folders_hidden_files_and_deeper_files_are_passed_over(
    tmp_path: Path, touch: Touch
) -> None:
    touch("imagesTr/._a.nii.gz", "imagesTr/deeper/b.nii.gz", "imagesTr/c.nii.gz", ".x/d.nii.gz")
    (tmp_path / "imagesTr/d.nii.gz").mkdir()
    assert names(tmp_path, "imagesTr/{case}{ext}") == ["imagesTr/c.nii.gz"]
    assert names(tmp_path, "{folder}/{case}{ext}") == ["imagesTr/c.nii.gz"]


def test_a_template_that_ends_in_a_slash_finds_folders(tmp_path: Path, touch: Touch) -> None:
    touch("s2/dicom/1.dcm", "s1/dicom/1.dcm", "s3/dicom", "dicom.txt")
    assert names(tmp_path, "{case}/dicom/") == ["s1/dicom", "s2/dicom"]
    assert names(tmp_path, "s1/") == ["s1"]


def test_special_characters_are_themselves(tmp_path: Path, touch: Touch) -> None:
    touch("CTs [v1.0]/a.nii.gz", "CTs v/a.nii.gz", "CTs [v1.0]/a+nii.gz")
    assert names(tmp_path, "CTs [v1.0]/{case}.nii.gz") == ["CTs [v1.0]/a.nii.gz"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{case}_{class}{ext}", ["a_1_liver.nii.gz", "a_1_spleen.mha"]),
        ("{class}_{case}{ext}", ["liver_a_1.nii.gz"]),
        ("{class}-of-{case}.nii.gz", ["liver-of-a_1.nii.gz"]),
        ("{case}{ext}", ["a_1.mha", "a_1.nii.gz"]),
        ("{case}.nii.gz", ["a_1.nii.gz"]),
        ("{case}.nii", []),
        ("{rater}{case}.x{ext}", ["a_1.x.nii"]),
    ],
)
def test_what_is_known_narrows_the_search(
    tmp_path: Path, touch: Touch, template: str, expected: list[str]
) -> None:
    touch("a_1_liver.nii.gz", "a_1_spleen.mha", "a_10_liver.nii.gz", "a_1.nii.gz", "a_1.mha")
    touch("liver_a_1.nii.gz", "liver_a_10.nii.gz", "liver-of-a_1.nii.gz", "b_1.nii.gz", "a_1.txt")
    touch("a_1.x.nii")
    assert names(tmp_path, template, case="a_1") == expected


def test_every_folder_is_read_once(
    tmp_path: Path, touch: Touch, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(*(f"l/c{i}_{name}.nii.gz" for i in range(20) for name in "ab"))
    read: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (read.append(folder), scandir(folder))[1])
    files = RawFiles(tmp_path)
    found = [len(list(files.find("l/{case}_{class}{ext}", {"case": f"c{i}"}))) for i in range(20)]
    assert found == [2] * 20
    assert len(read) == len(set(read)) == 2


def test_a_folder_without_permission_is_remembered(
    tmp_path: Path, touch: Touch, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("s1/ct.nii.gz", "s2/ct.nii.gz")
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if folder.name == "s1":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    files = RawFiles(tmp_path)
    assert [path.parent.name for path, _ in files.find("{case}/ct{ext}")] == ["s2"]
    assert files.unreadable == [tmp_path / "s1"]


def test_filling_keeps_what_is_not_known() -> None:
    assert fill("{case}/{class}{ext}", {"case": "a"}) == "a/{class}{ext}"
    assert placeholders("{b}/{a}_{b}{ext}") == ("b", "a", "ext")
