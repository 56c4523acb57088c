"""Anatomical groups: every class that the catalogue knows has one, and users change them."""

from pathlib import Path

import pytest

from neurosam3d.data.prepare.catalogue import RECORDS
from neurosam3d.data.prepare.labels import LabelTable, flat_table
from neurosam3d.data.tree import folder_name
from neurosam3d.evaluation.groups import Groups, read_groups, shipped_groups
from neurosam3d.evaluation.results import RoundResult
from tests.evaluation.made_up import case

GROUPS = {
    "abdomen and thorax",
    "bone",
    "brain",
    "cardiac",
    "gland",
    "muscle",
    "seen lesion",
    "unseen lesion",
    "other",
}
# The classes of the second version of TotalSegmentator's data; {side} is left and right.
TOTALSEGMENTATOR = """
    adrenal_gland_{side} aorta atrial_appendage_left autochthon_{side} brachiocephalic_trunk
    brachiocephalic_vein_{side} brain clavicula_{side} colon common_carotid_artery_{side}
    costal_cartilages duodenum esophagus femur_{side} gallbladder gluteus_maximus_{side}
    gluteus_medius_{side} gluteus_minimus_{side} heart hip_{side} humerus_{side}
    iliac_artery_{side} iliac_vena_{side} iliopsoas_{side} inferior_vena_cava kidney_cyst_{side}
    kidney_{side} liver lung_lower_lobe_{side} lung_middle_lobe_right lung_upper_lobe_{side}
    pancreas portal_vein_and_splenic_vein prostate pulmonary_vein rib_{side}_1 rib_{side}_12 sacrum
    scapula_{side} skull small_bowel spinal_cord spleen sternum stomach subclavian_artery_{side}
    superior_vena_cava thyroid_gland trachea urinary_bladder vertebrae_C1 vertebrae_T12
    vertebrae_L5 vertebrae_S1
"""


def classes_of(name: str) -> set[str]:
    record = RECORDS[name]
    sources = [*record.sources.values(), *record.release.values()]
    tables: list[LabelTable] = [record.labels]
    tables += [source.labels for group in sources for source in group if source.labels]
    return {class_name for table in tables for class_name in flat_table(table).values()}


@pytest.mark.parametrize("name", RECORDS)
def test_every_class_of_the_catalogue_has_a_group(name: str) -> None:
    groups = shipped_groups()
    found = {c: groups.find(folder_name(c), name) for c in classes_of(name)}
    assert {c for c, group in found.items() if group not in GROUPS} == set()
    assert found == {c: groups.find(c, name) for c in found}  # by its folder or by its label


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_class_of_totalsegmentator_has_a_group(side: str) -> None:
    names = [name.format(side=side) for name in TOTALSEGMENTATOR.split()]
    found = {name: shipped_groups().find(name, "TotalSegmentator") for name in names}
    assert {name for name, group in found.items() if group not in GROUPS - {"other"}} == set()


@pytest.mark.parametrize(
    ("class_name", "dataset", "group"),
    [
        ("Left Kidney", "AMOS", "abdomen and thorax"),
        ("kidney_right", "X", "abdomen and thorax"),
        ("rib_left_10", "X", "bone"),
        ("left ventricle", "MultiModalWholeHeart", "cardiac"),
        ("Left-Lateral-Ventricle", "X", "brain"),
        ("17", "ADNI", "brain"),
        ("17", "X", None),
        ("ctx-lh-insula", "X", "brain"),
        ("prostate", "ProstateMRI", "gland"),
        ("Psoas", "HealthyTotalBody", "muscle"),
        ("tumor", "LiTS", "seen lesion"),
        ("tumor", "Hospital", "unseen lesion"),
        ("nodule", "LIDC", "unseen lesion"),
        ("Tmax", "CTStroke", "unseen lesion"),
        ("Tmax", "X", None),
        ("Torso fat", "HealthyTotalBody", "other"),
    ],
)
def test_known_classes(class_name: str, dataset: str, group: str | None) -> None:
    assert shipped_groups().find(class_name, dataset) == group


def test_the_more_particular_entry_counts() -> None:
    table = {"rib *": "a", "rib 1": "b", "x/rib *": "c", "rib * tip": "d"}
    groups = Groups((table,), frozenset())
    assert [groups.find(*name) for name in (("rib_2",), ("rib 1",), ("rib 1", "X"))] == [
        "a",
        "b",
        "c",
    ]
    assert groups.find("rib_2_tip") == "d"


def test_a_users_file_adds_and_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("groups: {pelvis: [hip, sacrum]}\nseen_lesions: [LIDC]\n", encoding="utf-8")
    groups = read_groups(file)
    assert groups.find("hip_left", "X") == "pelvis"
    assert groups.find("femur_left", "X") == "bone"
    assert groups.find("nodule", "LIDC") == "seen lesion"
    assert groups.find("tumor", "LiTS") == "unseen lesion"  # the list is the user's now


def test_a_users_file_replaces(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("replace: true\ngroups: {one: [hip]}\nlesions: [tumor]\n", encoding="utf-8")
    groups = read_groups(file)
    assert (groups.find("hip"), groups.find("liver")) == ("one", None)
    assert groups.find("tumor", "LiTS") == "unseen lesion"


def test_cases_get_groups_and_unknown_classes_are_listed() -> None:
    played = RoundResult(1, 0.5)
    cases = [
        case("a", "liver", played),
        case("a", "thing", played),
        case("a", "skin", played),
        case("a", "thing 2", played, group="mine"),
    ]
    groups = shipped_groups()
    assert [c.group for c in groups.assign(cases)] == [
        "abdomen and thorax",
        "other",
        "other",
        "mine",
    ]
    assert groups.unknown(groups.assign(cases)) == groups.unknown(cases) == ["thing"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: [a, b]", "'groups' must map a group to its classes, got"),
        ("groups: {a: liver}", "'a' must be a list of names, got 'liver'"),
        ("groups: {a: [[liver]]}", "'a' must be a list of names"),
        ("seen_lesions: LIDC", "'seen_lesions' must be a list of names, got 'LIDC'"),
        ("group: {}", "unknown key 'group'; known: groups, lesions, seen_lesions, replace"),
        ("groups: {a: [liver], b: [Liver_left]}", "'liver' is in two groups: a, b"),
        ("- a", "must hold keys and values, got"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_unfit_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_groups(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.yaml: No such file"):
        read_groups(tmp_path / "none.yaml")
