"""Methods side by side: the objects they share, known differences, and what is said of them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from neurosam3d.evaluation.comparison import Comparison, compare_methods
from neurosam3d.evaluation.comparison_report import (
    average_tables,
    check_suffix,
    difference_tables,
    notes,
    write_comparison,
)
from neurosam3d.evaluation.results import Results, RoundResult
from tests.evaluation.made_up import PROTOCOL, case, many_cases

CASES = many_cases(["liver", "spleen"], 8)


def shifted(shift: float, **more: object) -> Results:
    """Return the same objects, every Dice moved by so much."""
    cases = [
        replace(c, rounds=tuple(replace(r, dice=r.dice + shift, hd95=r.hd95) for r in c.rounds))
        for c in CASES
    ]
    return Results({**PROTOCOL, **more}, cases)


BASE = shifted(0.0)


def compare(**others: Results) -> Comparison:
    return compare_methods({"base": BASE, **others})


def test_a_known_shift_is_found_with_its_sign() -> None:
    comparison = compare(better=shifted(0.001), worse=shifted(-0.01))
    found = {(d.method, d.clicks): d for d in comparison.differences if d.metric == "dice"}
    assert set(found) == {(m, c) for m in ("better", "worse") for c in (1, 2, 3)}
    better, worse = found["better", 2], found["worse", 2]
    assert better.paired.mean == pytest.approx(0.001)
    assert better.paired.interval == (pytest.approx(0.001), pytest.approx(0.001))
    assert (better.paired.wins, better.paired.losses) == (16, 0)
    assert (worse.paired.wins, worse.paired.losses) == (0, 16)
    assert worse.paired.mean == pytest.approx(-0.01)
    # Eight scans with one sign; Dice of two methods after three clicks make six tests.
    assert better.paired.p_value == pytest.approx(2 / 2**8, rel=0.5)
    assert better.p_holm == pytest.approx(6 * better.paired.p_value)


def test_the_same_results_do_not_differ() -> None:
    comparison = compare(same=BASE)
    for difference in comparison.differences:
        assert (difference.paired.mean, difference.paired.ties) == (0.0, 16)
        assert difference.paired.remark == "no scan differs"
        assert difference.p_holm is None


def test_means_are_of_the_objects_that_all_have() -> None:
    fewer = replace(BASE, cases=[c for c in CASES if c.case != "s0"])
    comparison = compare(fewer=fewer)
    assert (comparison.objects, comparison.scans) == (14, 7)
    means = {a.method: a.mean for a in comparison.averages if (a.metric, a.clicks) == ("dice", 1)}
    assert means["base"] == means["fewer"]
    assert comparison.remarks[-1] == (
        "base has 2 objects that not all methods have, left out here, such as AMOS Ts liver s0."
    )


def test_repeats_count_as_one_object() -> None:
    twice = [replace(c, repeat=r) for c in CASES for r in (0, 1)]
    comparison = compare(twice=Results(PROTOCOL, twice))
    assert comparison.objects == 16
    assert {d.paired.ties for d in comparison.differences} == {16}


def test_differing_protocols_are_told_but_not_what_names_a_method() -> None:
    other = shifted(0.1, seed=8, name="oracle_roi", checkpoint="b.ckpt", model="vit_l", extra=1)
    remarks = compare(other=other).remarks
    assert "The protocols differ in seed: 7 (base), 8 (other)." in remarks
    assert "The protocols differ in name: prompt_roi (base), oracle_roi (other)." in remarks
    assert any(remark.startswith("other: An upper bound") for remark in remarks)
    assert not any("ckpt" in remark or "vit_l" in remark for remark in remarks)


def test_what_a_protocol_does_not_know_is_no_difference() -> None:
    alike = shifted(0.1, extra=1)
    remark = "The protocols differ in extra: not told (base), 1 (other)."
    assert remark in compare(other=alike).remarks
    of_another = shifted(0.1, name="oracle_roi", extra=1)
    assert not any("extra" in one for one in compare(other=of_another).remarks)


def test_an_unknown_protocol_is_told() -> None:
    (remark, *_) = compare(bare=Results({}, CASES)).remarks
    assert remark.startswith("The file of bare does not tell its protocol")


def test_misses_are_counted_and_in_no_mean() -> None:
    def one(name: str, distance: float) -> Results:
        rounds = RoundResult(1, 0.5, None, distance)
        return Results(PROTOCOL, [case("a", "liver", rounds), case("b", name, rounds)])

    comparison = compare_methods(
        {"here": one("spleen", 3.0), "away": one("spleen", float("inf"))}, metrics=["hd95"]
    )
    here, away = comparison.averages
    assert (here.missed, here.median, here.mean) == (0, 3.0, 3.0)
    assert (away.missed, away.median, away.mean) == (2, float("inf"), None)
    (difference,) = comparison.differences
    assert (difference.paired.losses, difference.paired.pairs) == (2, 0)


def test_what_nobody_measured_is_left_out() -> None:
    bare = Results(PROTOCOL, [case("a", "liver", RoundResult(1, 0.5))])
    assert compare_methods({"a": bare, "b": bare}).metrics == ("dice",)


def test_reference_metrics_and_clicks_are_chosen() -> None:
    comparison = compare_methods(
        {"a": BASE, "b": shifted(0.01), "c": BASE}, reference="b", metrics=["dice"], clicks=[3, 1]
    )
    assert comparison.clicks == (1, 3)
    assert {d.method for d in comparison.differences} == {"a", "c"}
    assert len(comparison.averages) == 6


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        ({"a": BASE}, {}, "needs at least two methods, got 1"),
        ({}, {}, "needs at least two methods, got 0"),
        ({"a": BASE, "b": BASE}, {"reference": "c"}, "unknown reference 'c'; known: a, b"),
        ({"a": BASE, "b": BASE}, {"metrics": ["iou"]}, "unknown metric 'iou'; known: dice, nsd"),
        (
            {"a": BASE, "b": BASE},
            {"clicks": [9]},
            "a has no score after 9 clicks; it has: 1 click, 2 clicks, 3 clicks",
        ),
        (
            {"a": BASE, "b": Results({}, [case("x", "liver", RoundResult(1, 0.5))])},
            {},
            "compared on the objects that all have, and there is none",
        ),
        (
            {"a": BASE, "b": Results({}, [replace(CASES[0], rounds=(RoundResult(-1, 0.5),))])},
            {},
            "must share a number of clicks, got a 1 click, 2 clicks, 3 clicks; b best over clicks",
        ),
        (
            {"a": BASE, "b": Results({}, [CASES[0], replace(CASES[0], label="other")])},
            {},
            "the results of b have two objects that are called AMOS Ts liver s0",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    methods: dict[str, Results], options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare_methods(methods, **options)  # type: ignore[arg-type]


def test_tables_have_a_row_per_method() -> None:
    comparison = compare(better=shifted(0.001))
    dice, nsd, hd95 = average_tables(comparison)
    assert [row[0] for row in dice.rows] == ["base", "better"]
    assert list(dice.columns) == ["method", "1 click", "2 clicks", "3 clicks"]
    assert (nsd.title, hd95.title) == ("NSD", "HD95 in mm")
    table = difference_tables(comparison)[0]
    assert table.rows[0][:6] == ["better", "1", "+0.001 (+0.001 to +0.001)", "16", "0", "0"]
    assert table.rows[0][-1] == "0.023"
    same = difference_tables(compare(same=BASE))[0]
    assert same.rows[0][-2:] == ["-", "-"]
    assert same.note.startswith("same, 1 click: no p-value, as no scan differs.")


def test_notes_tell_tests_and_few_scans() -> None:
    said = " ".join(notes(compare(better=shifted(0.001))))
    assert "All figures are of the 16 objects of 8 scans" in said
    assert "Holm's correction is over all 3 tests made here" in said  # NSD and HD95 are the same
    assert "From 8 scans they come out too narrow" in said


def test_files_hold_the_comparison(tmp_path: Path) -> None:
    comparison = compare(**{"<b>": shifted(0.001, seed=8)})
    for suffix in (".md", ".html", ".json", ".csv"):
        write_comparison(tmp_path / f"c{suffix}", comparison)
    content = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert content["differences"][0]["paired"]["mean"] == pytest.approx(0.001)
    assert content["objects"] == 16
    header, *rows = csv.reader((tmp_path / "c.csv").read_text(encoding="utf-8").splitlines())
    lines = [dict(zip(header, row, strict=True)) for row in rows]
    assert len(lines) == 18  # two methods, three metrics, three numbers of clicks
    first = next(line for line in lines if line["method"] == "<b>")
    assert (first["metric"], first["clicks"], first["wins"]) == ("dice", "1", "16")
    assert float(first["difference"]) == pytest.approx(0.001)
    assert lines[0]["difference"] == ""
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2  # Dice and NSD
    assert "The protocols differ in seed" in page
    assert "<b>" not in page
    markdown = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert "| method | 1 click | 2 clicks | 3 clicks |" in markdown
    assert "&lt;b&gt; against base" in markdown


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match=r"is a \.md, \.html, \.json, \.csv file, got c\.pdf"):
        check_suffix(Path("c.pdf"))
