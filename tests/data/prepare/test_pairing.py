"""Templates: which files they find, and which labels belong to which images."""

import logging
from pathlib import Path

import pytest

from neurosam3d.data.prepare.pairing import Source, find_files, pair_sources

LABELS = {0: "background", 1: "left kidney", (1, 2): "both"}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def pairs(root: Path, *sources: Source) -> list[tuple[str, str, str, str]]:
    return [
        (item.case, item.class_name, *(str(p.relative_to(root)) for p in (item.image, item.seg)))
        for item in pair_sources(root, sources, labels=LABELS)
    ]


def test_placeholders_take_the_names_apart(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr_T1/b_1.nii.gz", "imagesTr/a.nii", "imagesTr/x.txt", "images/c.nii")
    found = [fields for _, fields in find_files(tmp_path, "imagesTr{sequence}/{case}{ext}")]
    assert found == [
        {"sequence": "", "case": "a", "ext": ".nii"},
        {"sequence": "_T1", "case": "b_1", "ext": ".nii.gz"},
    ]


def test_a_repeated_placeholder_stands_for_one_text(tmp_path: Path) -> None:
    touch(tmp_path, "s1/s1_t1.nii.gz", "s1/s2_t1.nii.gz")
    found = [path.name for path, _ in find_files(tmp_path, "{case}/{case}_t1.nii.gz")]
    assert found == ["s1_t1.nii.gz"]


def test_folders_hidden_files_and_deeper_files_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/._a.nii.gz", "imagesTr/deeper/b.nii.gz", "imagesTr/c.nii.gz")
    (tmp_path / "imagesTr/d.nii.gz").mkdir()
    found = [fields["case"] for _, fields in find_files(tmp_path, "imagesTr/{case}{ext}")]
    assert found == ["c"]


def test_a_folder_name_with_special_characters_is_itself(tmp_path: Path) -> None:
    touch(tmp_path, "CTs [v1.0]/a.nii.gz", "CTs v/a.nii.gz")
    assert len(list(find_files(tmp_path, "CTs [v1.0]/{case}.nii.gz"))) == 1


def test_one_item_per_class_in_the_order_of_the_cases(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}Tr/{case}.nii.gz" for folder in ("i", "l") for case in "ba"))
    assert pairs(tmp_path, Source("iTr/{case}{ext}", "lTr/{case}{ext}")) == [
        ("a", "left_kidney", "iTr/a.nii.gz", "lTr/a.nii.gz"),
        ("a", "both", "iTr/a.nii.gz", "lTr/a.nii.gz"),
        ("b", "left_kidney", "iTr/b.nii.gz", "lTr/b.nii.gz"),
        ("b", "both", "iTr/b.nii.gz", "lTr/b.nii.gz"),
    ]


def test_images_without_a_label_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "i/a.nii.gz", "i/b.nii.gz", "i/c.nii.gz", "l/b.nii.gz")
    with caplog.at_level(logging.WARNING):
        found = pairs(tmp_path, Source("i/{case}{ext}", "l/{case}{ext}"))
    assert {case for case, *_ in found} == {"b"}
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("2 images of ")


def test_sequences_of_a_subject_are_cases_of_one_patient(tmp_path: Path) -> None:
    touch(tmp_path, "i_T1/s1.nii.gz", "i_T2/s1.nii.gz", "l/s1.nii.gz")
    source = Source(
        "i{sequence}/{case}{ext}",
        "l/{case}{ext}",
        labels={1: "tumor"},
        case="{case}{sequence}",
        patient="{case}",
    )
    items = pair_sources(tmp_path, [source], labels=LABELS)
    assert [(i.case, i.patient, i.class_name) for i in items] == [
        ("s1_T1", "s1", "tumor"),
        ("s1_T2", "s1", "tumor"),
    ]


def test_mask_files_name_their_classes_and_belong_to_one_case(tmp_path: Path) -> None:
    touch(tmp_path, "s1/ct.nii.gz", "s1/masks/left lung.nii.gz", "s1/masks/aorta.nii.gz")
    touch(tmp_path, "s10/ct.nii.gz", "s10/masks/liver.nii.gz")
    source = Source("{case}/ct.nii.gz", "{case}/masks/{class}.nii.gz")
    items = pair_sources(tmp_path, [source], labels={})
    assert [(i.case, i.class_name, i.values, i.binary) for i in items] == [
        ("s1", "aorta", (1,), True),
        ("s1", "left_lung", (1,), True),
        ("s10", "liver", (1,), True),
    ]


def test_excluded_images_and_second_labels_of_a_class_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.nii.gz", "i/b.nii.gz", "i/b_FLAIR.nii.gz")
    touch(tmp_path, "manual/a.nii.gz", "auto/a.nii.gz", "auto/b.nii.gz", "auto/b_FLAIR.nii.gz")
    table = {1: "tumor"}
    manual = Source("i/{case}{ext}", "manual/{case}{ext}", labels=table)
    auto = Source("i/{case}{ext}", "auto/{case}{ext}", labels=table, exclude=("FLAIR",))
    assert [found[3] for found in pairs(tmp_path, manual, auto)] == [
        "manual/a.nii.gz",
        "auto/b.nii.gz",
    ]
