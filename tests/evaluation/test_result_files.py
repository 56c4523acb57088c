"""Files of results: what is written comes back, and what is no result is refused."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosam3d.evaluation.result_files import (
    CSV_COLUMNS,
    mean_over_repeats,
    plain_numbers,
    read_results,
    to_csv,
    to_json,
)
from neurosam3d.evaluation.results import CaseResult, RoundResult
from tests.evaluation.made_up import PROTOCOL, case

CASES = [
    case(
        "ä1",
        "liver",
        RoundResult(1, 0.1 + 0.2, 0.4, 8.0, 0.18, 2.5, -0.25, 0.6, 0.4, 0.1),
        RoundResult(2, 0.9),
        group="abdomen and thorax",
        volume_mm3=1234.5,
    ),
    case(
        "b, 1",
        "spleen",
        RoundResult(1, 0.0, 0.0, math.inf, prediction_empty=True),
        RoundResult(2, 1.0, volume_error=math.inf),
        dataset="BTCV",
        truth_empty=True,
        repeat=2,
    ),
]


def read(tmp_path: Path, name: str, text: str) -> Any:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_results(tmp_path / name)


def test_json_holds_everything_and_comes_back(tmp_path: Path) -> None:
    text = to_json(CASES, protocol=PROTOCOL, summary={"by_clicks": {1: {"hd95_median": math.inf}}})
    content = json.loads(text, parse_constant=pytest.fail)
    assert list(content) == ["protocol", "cases", "summary"]
    first, second = content["cases"]
    assert {"dataset", "set", "class", "case", "image", "label", "rounds", "repeat"} <= set(first)
    assert {"clicks", "dice", "nsd", "hd95", "seconds"} <= set(first["rounds"][0])
    assert (second["set"], second["class"], second["rounds"][0]["hd95"]) == ("Ts", "spleen", "inf")
    assert content["summary"] == {"by_clicks": {"1": {"hd95_median": "inf"}}}
    results = read(tmp_path, "r.json", text)
    assert results.cases == CASES  # no digit is lost
    assert results.protocol == PROTOCOL


def test_keys_of_others_are_allowed(tmp_path: Path) -> None:
    content = json.loads(to_json(CASES, protocol={}, summary={}))
    content["cases"][0]["scanner"] = content["cases"][0]["rounds"][0]["mood"] = "fine"
    assert read(tmp_path, "r.json", json.dumps(content)).cases == CASES


def test_csv_has_a_line_per_round_and_comes_back(tmp_path: Path) -> None:
    text = to_csv(CASES)
    header, *lines = csv.reader(text.splitlines())
    expected = "dataset,set,class,case,clicks,dice,nsd,hd95,seconds"
    assert header == list(CSV_COLUMNS) == expected.split(",")
    assert lines[0] == ["AMOS", "Ts", "liver", "ä1", "1", repr(0.1 + 0.2), "0.4", "8.0", "0.6"]
    assert lines[2] == ["BTCV", "Ts", "spleen", "b, 1", "1", "0.0", "0.0", "inf", ""]
    assert len(lines) == 4
    back = read(tmp_path, "r.csv", text)
    assert back.protocol == {}
    assert [c.object for c in back.cases] == [c.object for c in CASES]
    assert back.cases[1].rounds == (RoundResult(1, 0.0, 0.0, math.inf), RoundResult(2, 1.0))


def test_csv_has_the_mean_of_repeats() -> None:
    rounds = [(0.4, None, 3.0), (0.8, 0.6, math.inf)]
    cases = [
        case("a", "liver", RoundResult(1, *scores), RoundResult(2, 0.5), repeat=repeat)
        for repeat, scores in enumerate(rounds)
    ]
    (mean,) = mean_over_repeats(cases)
    assert mean.rounds[0] == RoundResult(1, pytest.approx(0.6), 0.6, math.inf)  # type: ignore[arg-type]
    assert (mean.repeat, mean.rounds[1].dice) == (0, 0.5)
    assert len(to_csv(cases).splitlines()) == 3


def test_a_mean_prediction_is_empty_if_all_are() -> None:
    def both(*empty: bool) -> CaseResult:
        played = [RoundResult(1, 0.0, prediction_empty=is_empty) for is_empty in empty]
        (mean,) = mean_over_repeats([case("a", "b", r, repeat=i) for i, r in enumerate(played)])
        return mean

    assert both(True, True).rounds[0].prediction_empty
    assert not both(True, False).rounds[0].prediction_empty


def test_numbers_of_numpy_and_paths_become_plain() -> None:
    value = {1: (np.float64(math.inf), np.int64(3), Path("a/b"), np.arange(2)), "x": None}
    assert plain_numbers(value) == {"1": ["inf", 3, "a/b", [0, 1]], "x": None}
    assert json.dumps(plain_numbers([np.float64(0.5), True])) == "[0.5, true]"


CASE = {"dataset": "d", "set": "Ts", "class": "c", "case": "n", "image": "i", "label": "l"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.json", "{", "it is no JSON"),
        ("r.json", "[]", "it has no 'cases'"),
        ("r.json", "{}", "it has no 'cases'"),
        ("r.json", '{"cases": 3}', "'cases' a list"),
        ("r.json", '{"cases": [], "protocol": {"left_out": [3]}}', "a list of mappings"),
        ("r.json", json.dumps({"cases": [CASE]}), "a case must be a mapping with a list 'rounds'"),
        ("r.json", '{"cases": [{"rounds": []}]}', "'dataset' of a case is missing or unfit"),
        ("r.json", json.dumps({"cases": [{**CASE, "rounds": [3]}]}), "with 'clicks', got 3"),
        ("r.json", json.dumps({"cases": [{**CASE, "rounds": [{"clicks": 1}]}]}), "a Dice in 0..1"),
        (
            "r.json",
            json.dumps({"cases": [{**CASE, "rounds": [{"clicks": 1, "dice": "inf"}]}]}),
            "a Dice in 0..1",
        ),
        (
            "r.json",
            json.dumps({"cases": [{**CASE, "rounds": [{"clicks": 1.5, "dice": 0.5}]}]}),
            "must be an integer, got 1.5",
        ),
        ("r.csv", "a,b\n", "its columns must be dataset,set,class,case,clicks,dice"),
        ("r.csv", ",".join(CSV_COLUMNS) + "\na,b\n", "line 2 has 2 columns"),
        (
            "r.csv",
            ",".join(CSV_COLUMNS) + "\na,b,c,d,1,much,,,\n",
            "line 2: a score must be a number, got 'much'",
        ),
        (
            "r.csv",
            ",".join(CSV_COLUMNS) + "\na,b,c,d,1,0.5,,,\na,b,c,d,1,0.5,,,\n",
            "line 3 repeats a b c d 1 clicks",
        ),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"holds no results of an evaluation: .*" + message):
        read(tmp_path, name, text)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"in a \.json, \.csv or \.py file, got r\.yaml"):
        read_results(Path("r.yaml"))
    with pytest.raises(ValueError, match=r"cannot read .*: No such file"):
        read_results(tmp_path / "none.json")
    (tmp_path / "r.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it is no text"):
        read_results(tmp_path / "r.csv")
