"""Summaries of known scores, and the files written from them."""

import csv
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from neurosam3d.evaluation.report import (
    CSV_COLUMNS,
    CaseResult,
    RoundResult,
    results_table,
    summarise,
    write_report,
)


def _case(
    name: str, class_name: str, rounds: tuple[RoundResult, ...], **more: object
) -> CaseResult:
    fields = {"dataset": "AMOS", "set_name": "Ts", "image": f"i/{name}", "label": f"l/{name}"}
    return CaseResult(class_name=class_name, case=name, rounds=rounds, **{**fields, **more})


CASES = [
    _case("ä1", "liver", (RoundResult(1, 0.5, 0.4, 8.0, 0.1), RoundResult(2, 0.9, 0.8, 2.0, 0.1))),
    _case("a2", "liver", (RoundResult(1, 0.7, 0.6, 4.0, 0.1), RoundResult(2, 0.7, 0.6, 4.0, 0.1))),
    _case(
        "b1",
        "spleen",
        (RoundResult(1, 0.0, 0.0, math.inf, prediction_empty=True), RoundResult(2, 0.3, 0.2, 9.0)),
        dataset="BTCV",
    ),
    _case(
        "b2", "spleen", (RoundResult(1, 1.0, prediction_empty=True),), truth_empty=True, group="MR"
    ),
]


def test_summary_by_clicks() -> None:
    first, second = summarise(CASES)["by_clicks"].values()
    assert first == {
        "cases": 4,
        "dice": pytest.approx(2.2 / 4),
        "nsd": pytest.approx(1.0 / 3),
        "hd95_median": 8.0,  # of 4, 8 and infinity
        "hd95_mean": 6.0,  # of the finite ones
        "missed": 1,
        "empty_truth": 1,
        "empty_prediction": 2,
    }
    assert second["cases"] == 3
    assert second["missed"] == 0


def test_summary_by_class_and_group() -> None:
    summary = summarise(CASES)
    assert list(summary["by_class"]) == ["liver", "spleen"]
    assert summary["by_class"]["liver"][1]["dice"] == pytest.approx(0.6)
    assert summary["by_class"]["spleen"][2]["dice"] == pytest.approx(0.3)
    assert list(summary["by_group"]) == ["AMOS", "BTCV", "MR"]
    assert summary["by_group"]["MR"][1]["nsd"] is None
    assert summary["by_group"]["BTCV"][1]["hd95_median"] == math.inf
    assert summary["by_group"]["BTCV"][1]["hd95_mean"] is None


def test_files_hold_every_round(tmp_path: Path) -> None:
    target = tmp_path / "new" / "run_1.5mm"
    json_path, csv_path = write_report(target, CASES, protocol={"method": "ritm", "seed": 7})
    assert (json_path.name, csv_path.name) == ("run_1.5mm.json", "run_1.5mm.csv")
    report = json.loads(json_path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert report["protocol"] == {"method": "ritm", "seed": 7}
    assert report["cases"][0]["case"] == "ä1"
    assert {"dataset", "set", "class", "case", "image", "label", "rounds"} <= set(
        report["cases"][0]
    )
    assert report["cases"][2]["rounds"][0]["hd95"] == "inf"
    assert report["summary"]["by_group"]["BTCV"]["1"]["hd95_median"] == "inf"
    assert report["summary"]["by_clicks"]["2"]["dice"] == pytest.approx(1.9 / 3)
    lines = list(csv.reader(csv_path.read_text(encoding="utf-8").splitlines()))
    assert lines[0] == list(CSV_COLUMNS)
    assert lines[1] == ["AMOS", "Ts", "liver", "ä1", "1", "0.5", "0.4", "8.0", "0.1"]
    assert lines[5] == ["BTCV", "Ts", "spleen", "b1", "1", "0.0", "0.0", "inf", ""]
    assert lines[7] == ["AMOS", "Ts", "spleen", "b2", "1", "1.0", "", "", ""]
    assert len(lines) == 8
    assert sorted(path.name for path in target.parent.iterdir()) == [csv_path.name, json_path.name]


def test_a_suffix_is_no_part_of_the_name_and_old_files_survive_a_failure(tmp_path: Path) -> None:
    json_path, _ = write_report(tmp_path / "run.json", CASES, protocol={})
    assert json_path == tmp_path / "run.json"
    before = json_path.read_bytes()
    with pytest.raises(TypeError):
        write_report(tmp_path / "run", CASES, protocol={"what": object()})
    assert json_path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_table_shows_classes_clicks_and_what_a_mean_hides() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(results_table(CASES))
    text = capture.get()
    lines = [line.split() for line in text.splitlines()]
    assert ["│", "liver", "│", "2", "│", "0.600", "│", "0.800", "│"] in lines
    assert ["│", "all", "│", "4", "│", "0.550", "│", "0.633", "│"] in lines
    assert "1 empty references; 0 missed after the last click" in " ".join(text.split())


def test_long_sessions_are_shown_at_selected_clicks() -> None:
    rounds = tuple(RoundResult(n, n / 10) for n in range(1, 11))
    table = results_table([_case("a", "liver", rounds)])
    headings = [str(column.header) for column in table.columns]
    assert headings[2:] == ["1 click", "2 clicks", "3 clicks", "5 clicks", "10 clicks"]


def test_no_case_is_a_report_too(tmp_path: Path) -> None:
    assert summarise([]) == {"by_clicks": {}, "by_class": {}, "by_group": {}}
    json_path, _ = write_report(tmp_path / "none", [], protocol={})
    assert json.loads(json_path.read_text(encoding="utf-8"))["cases"] == []
    assert results_table([]).row_count == 1
