"""The journal of an unfinished evaluation, cut off at every byte."""

import math
from pathlib import Path

import pytest

from neurosam3d.evaluation.journal import Journal, key_of
from neurosam3d.evaluation.results import CaseResult, RoundResult

PROTOCOL = {"name": "prompt_roi", "seed": 5, "spacing": [1.5, 1.5, 2.0], "labels": None}


def result(case: str, repeat: int = 0) -> CaseResult:
    rounds = (RoundResult(1, 1 / 3, 0.25, math.inf, seconds=0.5), RoundResult(2, 0.1 + 0.2))
    names = ("AMOS", "Ts", "Größe", case, "i.nii.gz", "l.nii.gz")
    return CaseResult(*names, rounds, repeat=repeat, volume_mm3=12.5)


def fill(path: Path) -> Journal:
    journal = Journal.start(path, PROTOCOL)
    journal.add(result("a"))
    journal.add(result("a", 1))
    journal.close("scan a", [{"reason": "small"}])
    journal.add(result("b"))
    return journal


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "x.journal.jsonl"
    written = fill(path)
    again = Journal.start(path, PROTOCOL)
    assert again.results == written.results
    assert list(again.results) == [key_of(result("a")), key_of(result("a", 1)), key_of(result("b"))]
    assert again.left_out == {"scan a": [{"reason": "small"}]}
    again.remove()
    assert Journal.start(path, PROTOCOL).results == {}


def test_a_journal_cut_at_any_byte_loses_only_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    fill(path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        journal = Journal.start(path, PROTOCOL)
        num_lines = whole[:end].count(b"\n") - 1
        assert len(journal.results) == [0, 1, 2, 2, 3][num_lines]
        journal.add(result("c"))
        assert len(Journal.start(path, PROTOCOL).results) == len(journal.results)


def test_another_protocol_is_refused_unless_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    fill(path)
    other = {**PROTOCOL, "seed": 6}
    with pytest.raises(ValueError, match="seed 5, got 6; give the result another name, or --rest"):
        Journal.start(path, other)
    assert Journal.start(path, other, restart=True).results == {}
    assert Journal.start(path, other).results == {}
    path.write_text("no journal\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.jsonl must be the journal of an evaluation"):
        Journal.start(path, other)


def test_a_damaged_line_is_left_out_and_its_scan_is_opened_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.journal.jsonl"
    fill(path)
    content = bytearray(path.read_bytes())
    content[content.index(b'"repeat": 1') + 1] = 0xFF
    path.write_bytes(content)
    again = Journal.start(path, PROTOCOL)
    assert list(again.results) == [key_of(result("a")), key_of(result("b"))]
    assert again.left_out == {}  # nobody knows any longer that all of scan a is done
    assert caplog.messages == [f"{path} is damaged; what is lost of it is judged again"]
    assert Journal.start(path, PROTOCOL).results == again.results
    assert len(caplog.messages) == 1
