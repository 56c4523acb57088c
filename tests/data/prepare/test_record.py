"""Records of prepared cases: JSON and back, the journal of a run that was killed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.prepare.record import (
    CaseRecord,
    Journal,
    LabelRecord,
    read_prepared,
    read_records,
)


def note(case: str) -> Problem:
    # Text may hold what some programs take for the end of a line.
    return Problem(Kind.SEVERAL_CHANNELS, "c\u2028.nii.gz has 3 channels; number 0 is stored", case)


NOTE = note("c1")
RECORD = CaseRecord(
    case="c1",
    source="5" * 64,
    image_sha256="1" * 64,
    content="c" * 64,
    spacing=(0.1, 1.5, 1 / 3),
    labels={"léver": LabelRecord("2" * 64, 0.3 - 0.1), "tumor": LabelRecord("3" * 64, 18.0)},
    empty=("spleen",),
    problems=(NOTE,),
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "new/.report_Tr.jsonl")


def test_a_record_survives_json_exactly() -> None:
    assert CaseRecord.from_json(json.loads(json.dumps(RECORD.to_json()))) == RECORD


def test_only_complete_cases_are_believed() -> None:
    lost = Problem(Kind.DAMAGED, "c1 is without spleen: cannot read spleen.nii.gz", "c1")
    assert RECORD.is_complete
    assert not replace(RECORD, problems=(NOTE, lost)).is_complete
    skipped = CaseRecord("c1", problems=(lost,))
    assert (skipped.is_skipped, skipped.is_complete) == (True, False)
    assert skipped.to_json() == {
        "case": "c1",
        "status": "skipped",
        "problems": [{"kind": "damaged file", "sentence": lost.sentence}],
    }
    assert CaseRecord.from_json(skipped.to_json()) is None


def test_duplicates_are_looked_for_anew() -> None:
    twin = Problem(Kind.DUPLICATE, "c1 shows the same as c2 of A_Tr", "c1")
    assert CaseRecord.from_json(replace(RECORD, problems=(NOTE, twin)).to_json()) == RECORD


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"liver": {}}},
        {"labels": 3},
        {"labels": {"liver": 3}},
        {"spacing": ["wide", 1.0, 1.0]},
        {"spacing": [1.0, 1.0]},
        {"problems": [{"kind": "a new kind", "sentence": ""}]},
        {"problems": None},
    ],
)
def test_an_unfit_record_is_no_record(change: dict[str, object]) -> None:
    assert CaseRecord.from_json(RECORD.to_json() | change) is None


def test_text_of_any_kind_is_no_record() -> None:
    for content in (None, [], "c1", 3, {}, {"case": "c1"}):
        assert CaseRecord.from_json(content) is None


def test_the_journal_gives_back_what_was_appended(journal: Journal) -> None:
    assert journal.read() == {}
    other = replace(RECORD, case="c2", problems=(note("c2"),))
    newer = replace(other, content="d" * 64)
    lost = Problem(Kind.DAMAGED, "c3 is without spleen: cannot read spleen.nii.gz", "c3")
    part = replace(RECORD, case="c3", problems=(lost,))
    for record in (RECORD, other, newer, part):
        journal.append(record)
    assert journal.read() == {"c1": RECORD, "c2": newer}


def test_a_line_that_was_cut_off_costs_only_itself(journal: Journal) -> None:
    journal.append(RECORD)
    whole = journal.path.read_bytes()
    journal.append(replace(RECORD, case="c2"))
    line = journal.path.read_bytes()[len(whole) :]
    for kept in range(0, len(line), 5):  # cut wherever a kill may cut
        journal.path.write_bytes(whole + line[:kept])
        journal.append(replace(RECORD, case="c3"))
        assert journal.read().keys() == {"c1", "c3"}


def test_a_report_gives_back_its_complete_cases(tmp_path: Path) -> None:
    path = tmp_path / "report_Tr.json"
    assert read_records(path) == {}
    entries = [RECORD.to_json(), CaseRecord("c2").to_json()]
    lost = Problem(Kind.DAMAGED, "c3 is without spleen: cannot read spleen.nii.gz", "c3")
    part = replace(RECORD, case="c3", problems=(lost,))
    entries.append(part.to_json())
    path.write_text(json.dumps({"cases": entries}), encoding="utf-8")
    assert read_records(path) == {"c1": RECORD}
    assert read_prepared(path) == [RECORD, part]
    for text in ("", "[]", "{}", '{"cases": 3}', path.read_text(encoding="utf-8")[:99]):
        path.write_text(text, encoding="utf-8")
        assert read_records(path) == {}
        assert read_prepared(path) == []
