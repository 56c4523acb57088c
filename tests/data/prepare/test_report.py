"""The report of a set: totals, kinds, every case, and a table that fits a terminal."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from neurosam3d.data.prepare.problems import MEANINGS, NOTES, Kind, Problem, group_by_kind
from neurosam3d.data.prepare.record import CaseRecord, LabelRecord
from neurosam3d.data.prepare.report import SetReport, show_problems, write_report


def note(case: str) -> Problem:
    return Problem(Kind.EMPTY_CLASS, "no voxel of spleen", case)


def prepared(case: str) -> CaseRecord:
    label = LabelRecord("2" * 64, 9.0)
    return CaseRecord(
        case=case,
        source="5" * 64,
        image_sha256="1" * 64,
        content="c" * 64,
        spacing=(2.0, 1.5, 3.0),
        labels={"liver": label, "tumor": label},
        empty=("spleen",),
        problems=(note(case),),
    )


LOST = Problem(Kind.DAMAGED, "b is skipped: cannot read b.nii.gz", "b")
ALONE = Problem(Kind.NO_LABEL, "d.nii.gz has no label", "d")
GENERAL = Problem(Kind.SAME_NAME, "the folder names nothing")
TWIN = Problem(Kind.DUPLICATE, "c shows the same as a of A_Tr", "c")


@pytest.fixture
def report() -> SetReport:
    records = (prepared("a"), CaseRecord("b", problems=(LOST,)), prepared("c"))
    return SetReport("A_Tr", records, (ALONE, GENERAL), (TWIN,), num_kept=1)


def test_totals(report: SetReport) -> None:
    assert (report.num_cases, report.num_entries, report.num_empty) == (2, 4, 2)
    assert (report.num_skipped, report.num_kept) == (2, 1)  # b, and d without label


def test_notes_alone_leave_a_set_complete(report: SetReport) -> None:
    assert not report.is_complete
    assert SetReport("A_Tr", (prepared("a"),), duplicates=(TWIN,)).is_complete
    assert not SetReport("A_Tr", (prepared("a"),), (ALONE,)).is_complete
    assert not SetReport("A_Tr", (CaseRecord("b", problems=(LOST,)),)).is_complete


def test_the_json_names_every_case_and_counts_every_kind(tmp_path: Path, report: SetReport) -> None:
    write_report(tmp_path / "A/report_Tr.json", report)
    content = json.loads((tmp_path / "A/report_Tr.json").read_text(encoding="utf-8"))
    assert content["set"] == "A_Tr"
    assert content["totals"] == {
        "cases": 2,
        "labels": 4,
        "empty_classes": 2,
        "empty_cases": 0,
        "skipped": 2,
    }
    assert content["problems"] == {
        "image without label": 1,
        "case name used twice": 1,
        "damaged file": 1,
        "class without a voxel": 2,
        "same image twice": 1,
    }
    assert content["general"] == [GENERAL.to_json()]
    cases = [(c["case"], c["status"], [p["kind"] for p in c["problems"]]) for c in content["cases"]]
    assert cases == [
        ("a", "prepared", ["class without a voxel"]),
        ("b", "skipped", ["damaged file"]),
        ("c", "prepared", ["class without a voxel", "same image twice"]),
        ("d", "skipped", ["image without label"]),
    ]
    assert content["cases"][1]["problems"][0]["sentence"] == LOST.sentence


def test_a_case_without_any_voxel_is_empty_and_not_prepared() -> None:
    nothing = replace(prepared("e"), labels={}, image_sha256="", content="")
    report = SetReport("A_Tr", (prepared("a"), nothing))
    assert (report.num_cases, report.num_empty_cases, report.num_skipped) == (1, 1, 0)
    assert report.is_complete
    content = report.to_json()
    assert (content["totals"]["cases"], content["totals"]["empty_cases"]) == (1, 1)
    assert [case["status"] for case in content["cases"]] == ["prepared", "empty"]


def test_the_json_says_nothing_about_the_run(report: SetReport) -> None:
    again = SetReport("A_Tr", report.records, (ALONE, GENERAL), (TWIN,), num_kept=2)
    assert again.to_json() == report.to_json()


def table(problems: list[Problem], width: int) -> list[str]:
    text = io.StringIO()
    show_problems(Console(file=text, width=width), "A_Tr", problems)
    return text.getvalue().splitlines()


def test_the_table_has_a_row_per_kind_with_the_first_names() -> None:
    problems = [note(case) for case in "abcda"] + [LOST, GENERAL]
    lines = table(problems, 120)
    assert lines[0].startswith("A_Tr")
    assert max(map(len, lines)) <= 120
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows == [
        ["1", "case name used twice", MEANINGS[Kind.SAME_NAME], ""],
        ["1", "damaged file", MEANINGS[Kind.DAMAGED], "b"],
        ["5", "class without a voxel", MEANINGS[Kind.EMPTY_CLASS], "a, b, c and 1 more"],
        ["", "", "no voxel of spleen", ""],  # the first of the notes
    ]


def test_a_narrow_terminal_wraps_cells() -> None:
    lines = table([Problem(Kind.DAMAGED, "", "a_long_name_of_a_case" * 3)], 60)
    assert max(map(len, lines)) <= 60
    assert "a_long_name" in "".join(lines)


def test_a_long_note_is_cut_short() -> None:
    lines = table([Problem(Kind.EMPTY_CLASS, f"no voxel of {'rib, ' * 99}", "a")], 160)
    assert any("no voxel of rib, rib" in line and " ... " in line for line in lines)
    assert len(lines) == 7


def test_there_is_no_table_of_nothing() -> None:
    assert table([], 120) == []


def test_every_kind_has_a_meaning_and_notes_are_kinds() -> None:
    assert MEANINGS.keys() == set(Kind)
    assert all(MEANINGS.values())
    assert set(Kind) > NOTES


def test_problems_are_grouped_in_the_order_of_the_kinds() -> None:
    groups = group_by_kind([TWIN, LOST, note("a"), TWIN])
    assert groups == {
        Kind.DAMAGED: [LOST],
        Kind.EMPTY_CLASS: [note("a")],
        Kind.DUPLICATE: [TWIN] * 2,
    }
