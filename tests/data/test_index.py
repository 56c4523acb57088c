"""Indexes: what is written, what is read back, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.index import Case, find_sets, read_index, write_index

ENTRY = {
    "image": "A/imagesTr/c1.nii.gz",
    "label": "A/labelsTr/liver/c1.nii.gz",
    "class": "liver",
    "volume": 108.0,
    "spacing": [2.0, 1.5, 3.0],
}


def make_case(root: Path, **changes: Any) -> Case:
    values: dict[str, Any] = {
        "image": root / "A/imagesTr/c1.nii.gz",
        "label": root / "A/labelsTr/liver/c1.nii.gz",
        "class_name": "liver",
        "volume_mm3": 108.0,
        "spacing": (2.0, 1.5, 3.0),
        "patient": "p1",
        "extra": {"modality": ["CT"], "site": 3},
    }
    return Case(**{**values, **changes})


def test_an_entry_has_the_documented_keys_and_relative_paths(tmp_path: Path) -> None:
    write_index(tmp_path / "A_Tr.json", [make_case(tmp_path)])
    (entry,) = json.loads((tmp_path / "A_Tr.json").read_text())
    assert entry == {**ENTRY, "patient": "p1", "modality": ["CT"], "site": 3}


def test_round_trip_keeps_every_field(tmp_path: Path) -> None:
    cases = [make_case(tmp_path), make_case(tmp_path, class_name="tumor", patient=None, extra={})]
    write_index(tmp_path / "A_Tr.json", cases)
    assert read_index(tmp_path / "A_Tr.json") == cases


def test_paths_are_absolute_also_for_a_relative_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_index(Path("A_Tr.json"), [make_case(Path())])
    assert read_index("A_Tr.json") == [make_case(tmp_path)]


def test_a_tree_can_be_moved(tmp_path: Path) -> None:
    write_index(tmp_path / "old/A_Tr.json", [make_case(tmp_path / "old")])
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert read_index(tmp_path / "new/A_Tr.json") == [make_case(tmp_path / "new")]


def test_the_group_is_the_patient_or_else_the_case(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    assert (case.case_id, case.group) == ("c1", "p1")
    assert make_case(tmp_path, patient=None).group == "c1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "must hold a list of entries, got dict"),
        (["x"], "entry 0 must be an object, got 'x'"),
        ([ENTRY, {"image": "x"}], "entry 1 lacks label, class, volume, spacing"),
        ([{**ENTRY, "spacing": "(2.0, 1.5, 3.0)"}], "needs a spacing of three positive numbers"),
        ([{**ENTRY, "spacing": [2, 3]}], r"got \[2, 3\]"),
        ([{**ENTRY, "spacing": [2, 3, 0]}], r"got \[2, 3, 0\]"),
        ([{**ENTRY, "volume": None}], "and None"),
        ([{**ENTRY, "volume": -1}], "and -1"),
    ],
)
def test_an_unfit_index_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "A_Tr.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_index(tmp_path / "A_Tr.json")


@pytest.mark.parametrize(
    "text",
    ["", "[", "[E", "[,E]", "[E,]", "[E E]", "[E}", "[] []", "[E]]", "[E] 1", '{"a"', "[\xff]"],
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "A_Tr.json"
    path.write_text(text.replace("E", json.dumps(ENTRY)), encoding="latin-1")
    with pytest.raises(ValueError, match=f"{path} is not valid JSON: "):
        read_index(path)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_layout_of_json_is_read(tmp_path: Path, indent: int | None, count: int) -> None:
    names = [f"Gehörgang {number}, [x]" for number in range(count)]
    text = json.dumps([{**ENTRY, "class": name} for name in names], indent=indent)
    path = tmp_path / "A_Tr.json"
    path.write_text(f"\ufeff \n{text}\n\n", encoding="utf-8")
    assert [case.class_name for case in read_index(path)] == names


def test_find_sets_reads_what_is_named(tmp_path: Path) -> None:
    write_index(tmp_path / "A_Tr.json", [make_case(tmp_path)])
    write_index(tmp_path / "B_Ts.json", [])
    assert find_sets(tmp_path, ["A_Tr", "B_Ts"]) == {"A_Tr": [make_case(tmp_path)], "B_Ts": []}


def test_find_sets_names_what_is_missing_what_is_there_and_the_command(tmp_path: Path) -> None:
    write_index(tmp_path / "A_Tr.json", [])
    with pytest.raises(ValueError, match="no index of") as error:
        find_sets(tmp_path, ["A_Tr", "A_Val", "C_Ts"])
    message = str(error.value)
    assert "no index of A_Val, C_Ts in" in message
    assert "(found there: A_Tr)" in message
    assert f"python data.py -dt Val --datasets A --out {tmp_path}" in message
    assert f"python data.py -dt Ts --raw DIR --name C --out {tmp_path}" in message
    assert f"python data.py --split val=0.2 --name A --out {tmp_path}" in message
    assert f"python data.py -dt Ts --datasets C --out {tmp_path}" in message


def test_find_sets_refuses_a_name_without_a_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'AMOS'"):
        find_sets(tmp_path, ["AMOS"])
