"""Paths of the prepared tree, and names that can be folders."""

from pathlib import Path

import pytest

from neurosam3d.data.tree import (
    Tree,
    check_name,
    folder_name,
    read_json,
    split_set_name,
    write_json,
)


def test_paths_are_those_of_the_documented_tree() -> None:
    tree = Tree(Path("root"))
    assert tree.image("AMOS", "Val", "c1") == Path("root/AMOS/imagesVal/c1.nii.gz")
    label = tree.label("AMOS", "Ts", "left_kidney", "c1")
    assert label == Path("root/AMOS/labelsTs/left_kidney/c1.nii.gz")
    assert tree.dataset_json("AMOS") == Path("root/AMOS/dataset.json")
    assert tree.index("AMOS", "Tr") == Path("root/AMOS_Tr.json")
    assert tree.report("AMOS", "Val") == Path("root/AMOS/report_Val.json")
    assert tree.journal("AMOS", "Val") == Path("root/AMOS/.report_Val.jsonl")


@pytest.mark.parametrize(
    ("set_name", "parts"),
    [("AMOS_Tr", ("AMOS", "Tr")), ("my_own_Val", ("my_own", "Val")), ("A_Tr_Ts", ("A_Tr", "Ts"))],
)
def test_split_set_name(set_name: str, parts: tuple[str, str]) -> None:
    assert split_set_name(set_name) == parts


@pytest.mark.parametrize("set_name", ["AMOS", "AMOS_Test", "_Tr", "", "AMOS_tr"])
def test_split_set_name_refuses_other_names(set_name: str) -> None:
    with pytest.raises(ValueError, match=r"<NAME>_Tr, <NAME>_Val or <NAME>_Ts, got"):
        split_set_name(set_name)


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "a b", "_x", "a\\b"])
def test_a_dataset_name_must_be_a_folder_name(name: str) -> None:
    with pytest.raises(ValueError, match="got " + repr(name).replace("\\", r"\\")):
        check_name(name)


@pytest.mark.parametrize(
    ("class_name", "folder"),
    [
        ("left kidney", "left_kidney"),
        ("prostate/uterus", "prostate_uterus"),
        (" liver ", "liver"),
        ("../up", "_up"),
        ('a\\b:c*d?e"f<g>h|i', "a_b_c_d_e_f_g_h_i"),
        ("Gewebe (weiß)", "Gewebe_(weiß)"),
        ("GTV-1", "GTV-1"),
    ],
)
def test_folder_name(class_name: str, folder: str) -> None:
    assert folder_name(class_name) == folder


@pytest.mark.parametrize("class_name", ["", "  ", "..", "/", "_"])
def test_folder_name_needs_a_name(class_name: str) -> None:
    with pytest.raises(ValueError, match="needs a name with letters or digits"):
        folder_name(class_name)


def test_list_sets_names_the_indexes_only(tmp_path: Path) -> None:
    for name in ("B_Tr.json", "A_Val.json", "notes.json", "results_x.json", "A_Tr.txt"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "A").mkdir()
    (tmp_path / "A/dataset.json").write_text("{}")
    tree = Tree(tmp_path)
    assert tree.list_sets() == ["A_Val", "B_Tr"]
    assert tree.list_datasets() == ["A"]
    assert Tree(tmp_path / "missing").list_sets() == []


def test_json_round_trip_in_utf8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "weiß"})
    assert "weiß" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"name": "weiß"}


def test_unreadable_json_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"bad\.json is not valid JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(ValueError, match=r"cannot read .*none\.json: No such file"):
        read_json(tmp_path / "none.json")
