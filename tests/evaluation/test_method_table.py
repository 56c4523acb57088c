"""A table of methods: figures by hand, what is compared with what, and every gap told."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.evaluation.method_report import (
    difference_table,
    method_notes,
    narrow_tables,
    score_table,
    write_method_table,
)
from neurosam3d.evaluation.method_table import MethodResults, MethodTable, Size, tabulate_methods
from neurosam3d.evaluation.results import CaseResult, Results, RoundResult
from tests.evaluation.made_up import PROTOCOL, case, many_cases


def rounds(
    dices: Sequence[float], *, first: int = 1, seconds: float | None = 1.0
) -> list[RoundResult]:
    numbered = enumerate(dices, start=first)
    return [RoundResult(n, d, d / 2, 3.0, seconds=seconds) for n, d in numbered]


def method(
    called: str, cases: Sequence[CaseResult], *, sizes: Sequence[Size] = (), **protocol: Any
) -> MethodResults:
    """Return a method with the results of each data set apart."""
    sets = dict.fromkeys(one.dataset for one in cases)
    told = {**PROTOCOL, **protocol}
    own = {name: Results(told, [one for one in cases if one.dataset == name]) for name in sets}
    return MethodResults(called, own, sizes)


def two_methods() -> list[MethodResults]:
    """Return a promptable method on two data sets, and one without prompts on the first."""
    clicked = [
        case("a", "liver", *rounds([0.5, 0.7, 0.8])),
        case("b", "liver", *rounds([0.7, 0.7, 0.9], seconds=2.0)),
        case("c", "tumour", *rounds([0.1, 0.2, 0.4]), dataset="KiTS"),
    ]
    automatic = [
        case("a", "liver", *rounds([0.6], first=0, seconds=5.0)),
        case("b", "liver", *rounds([1.0], first=0, seconds=5.0)),
    ]
    return [
        method("clicks", clicked, sizes=[Size(12_340_000, 1_500_000)]),
        method("none", automatic, name="automatic", spacing=[1.0, 1.0, 1.0]),
    ]


def table_of(methods: Sequence[MethodResults], **options: Any) -> MethodTable:
    return tabulate_methods(methods, **{"sets": ["AMOS", "KiTS"], "clicks": [1, 3], **options})


def test_means_deviations_sizes_and_seconds_are_those_by_hand() -> None:
    table = score_table(table_of(two_methods()))
    assert table.columns[2:6] == ["AMOS Dice", "AMOS NSD", "KiTS Dice", "KiTS NSD"]
    # Seconds until the third click: 3, 6 and 3.
    assert table.rows == [
        ["clicks", "1", "0.600 ± 0.141", "0.300 ± 0.071", "0.100", "0.050", "12.3 (1.5)", "1.00"],
        ["", "3", "0.850 ± 0.071", "0.425 ± 0.035", "0.400", "0.200", "", "3.00"],
        ["none", "0", "0.800 ± 0.283", "0.400 ± 0.141", "-", "-", "-", "5.00"],
    ]


def test_without_a_row_of_as_many_clicks_the_first_one_is_compared() -> None:
    table = difference_table(table_of(two_methods()))
    assert table is not None
    assert table.rows == [["none", "0", "1", "+0.200", "+0.100", "-", "-"]]


def test_a_method_with_clicks_meets_one_without_in_every_row() -> None:
    table = difference_table(table_of(two_methods()[::-1]))
    assert table is not None
    assert [row[:4] for row in table.rows] == [
        ["clicks", "1", "0", "-0.200"],
        ["", "3", "0", "+0.050"],
    ]


def test_p_values_are_corrected_over_the_whole_table() -> None:
    methods = [
        method(name, many_cases(["liver"], 12, shift=shift))
        for name, shift in (("a", 0.0), ("b", 0.05), ("c", 0.1))
    ]
    table = table_of(methods, sets=["AMOS"])
    tests = [one for row in table.rows for own in row.differences.values() for one in own]
    assert len(tests) == 2 * 2 * 2  # methods, clicks, metrics
    assert all(one.paired.p_value == pytest.approx(2 / 2**12) for one in tests)
    assert all(one.p_holm == pytest.approx(8 * 2 / 2**12) for one in tests)
    assert "Holm's correction is over all 8 tests." in method_notes(table)[-1]


def test_all_that_limits_the_comparison_is_told() -> None:
    methods = two_methods()
    lonely = case("z", "liver", *rounds([0.9, 0.9, 0.9]))
    amos = methods[0].results["AMOS"]
    results = {**methods[0].results, "AMOS": Results(amos.protocol, [*amos.cases, lonely])}
    methods[0] = MethodResults("clicks", results, note="trained on everything")
    table = table_of(methods, clicks=[1, 10])
    told = " ".join(table.remarks)
    assert "clicks: trained on everything" in told
    assert "none was not judged on KiTS: no figures." in told
    assert "clicks has no scores after 10 clicks: no such row." in told
    assert "clicks has 1 object that not all methods have, left out here, such as" in told
    assert "The protocols differ in spacing: 1.5, 1.5, 3.0 (clicks), 1.0, 1.0, 1.0 (none)." in told
    assert table.sets["AMOS"].objects == 2  # and so the figures are of the other two


def test_a_setting_that_changes_with_the_data_set_says_each() -> None:
    one = method("a", [case("a", "liver", *rounds([0.5]))])
    cases = [case("a", "liver", *rounds([0.5])), case("c", "x", *rounds([0.5]), dataset="KiTS")]
    two = method("b", cases)
    two = MethodResults(
        "b",
        {
            name: Results({**own.protocol, "spacing": side}, own.cases)
            for (name, own), side in zip(two.results.items(), (2.0, 3.0), strict=True)
        },
    )
    told = " ".join(table_of([one, two]).remarks)
    assert "spacing: 1.5, 1.5, 3.0 (a), 2.0 on AMOS, 3.0 on KiTS (b)." in told


def test_sessions_of_their_own_do_not_add_up() -> None:
    cases = [case("a", "liver", *rounds([0.5, 0.6, 0.7]))]
    at_once = method("a", cases, name="adapter3d")
    rows = table_of([at_once, method("b", cases)], sets=["AMOS"]).rows
    assert [(row.method, row.clicks, row.seconds) for row in rows] == [
        ("a", 1, 1.0),
        ("a", 3, 1.0),
        ("b", 1, 1.0),
        ("b", 3, 3.0),
    ]


def test_clicks_that_nobody_had_to_make_take_no_time() -> None:
    first, second, third = rounds([1.0, 1.0, 1.0])
    still = [RoundResult(one.clicks, 1.0, 1.0) for one in (second, third)]
    (one, three) = table_of([method("a", [case("a", "liver", first, *still)])], sets=["AMOS"]).rows
    assert (one.seconds, three.seconds) == (1.0, 1.0)


def test_objects_and_data_sets_that_nobody_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="no method has any of LiTS"):
        table_of(two_methods(), sets=["LiTS"])
    apart = [method(name, [case(name, "liver", *rounds([0.5]))]) for name in "ab"]
    with pytest.raises(ValueError, match="a, b share none of AMOS"):
        table_of(apart, sets=["AMOS"])


def test_a_data_set_alone_fits_a_terminal() -> None:
    tables = narrow_tables(table_of(two_methods()))
    assert [shown.columns[-4:-2] for shown in tables] == [
        ["Dice", "NSD"],
        ["clicks", "against"],
        ["Dice", "NSD"],
    ]
    assert tables[1].columns[-2:] == ["Dice", "NSD"]


def test_every_file_holds_the_table(tmp_path: Path) -> None:
    paths = write_method_table(tmp_path, table_of(two_methods()))
    texts = {path.suffix: path.read_text(encoding="utf-8") for path in paths}
    assert set(texts) == {".md", ".html", ".json", ".csv"}
    assert "0.850 ± 0.071" in texts[".md"]
    assert "0.850 ± 0.071" in texts[".html"]
    content = json.loads(texts[".json"])
    assert content["reference"] == "clicks"
    assert content["rows"][1]["scores"]["AMOS"]["dice"]["mean"] == pytest.approx(0.85)
    lines = list(csv.DictReader(texts[".csv"].splitlines()))
    assert len(lines) == 2 * 2 * 2 + 2  # rows, data sets, metrics; and one row on one data set
    last = lines[-2]
    assert (last["method"], last["clicks"], last["metric"]) == ("none", "0", "dice")
    assert float(last["difference"]) == pytest.approx(0.2)
    assert lines[0]["trained"] == "1500000"
