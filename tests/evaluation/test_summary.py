"""Averages of known scores."""

import math
from dataclasses import replace

import numpy as np
import pytest

from neurosam3d.evaluation.groups import Groups
from neurosam3d.evaluation.results import RoundResult
from neurosam3d.evaluation.score_table import tabulate
from neurosam3d.evaluation.summary import LEGACY_LABEL, summarise, summarise_challenge
from tests.evaluation.made_up import case, many_cases

CASES = [
    case(
        "a1",
        "liver",
        RoundResult(1, 0.5, 0.4, 8.0, 0.3, 2.0, 0.1, 0.5, 0.4, 0.1),
        RoundResult(2, 0.9, 0.8, 2.0, 0.8, 1.0, -0.1, 0.1, None, 0.1),
    ),
    case("a2", "liver", RoundResult(1, 0.7, 0.6, 4.0), RoundResult(2, 0.6, 0.6, 4.0)),
    case(
        "b1",
        "spleen",
        RoundResult(1, 0.0, 0.0, math.inf, prediction_empty=True),
        RoundResult(2, 0.3, 0.2, 9.0),
        dataset="BTCV",
    ),
    case("b2", "thing", RoundResult(1, 1.0, prediction_empty=True), truth_empty=True),
]


def test_summary_by_clicks() -> None:
    first, second = summarise(CASES)["by_clicks"].values()
    interval, nsd_interval = first.pop("dice_interval"), first.pop("nsd_interval")
    assert interval[0] < 0.55 < interval[1]
    assert nsd_interval[0] < 1 / 3 < nsd_interval[1]
    assert first == {
        "cases": 4,
        "runs": 4,
        "dice": pytest.approx(2.2 / 4),
        "nsd": pytest.approx(1.0 / 3),
        "iou": 0.3,
        "hd95_median": 8.0,  # of 4, 8 and infinity
        "hd95_mean": 6.0,  # of the finite ones
        "assd_median": 2.0,
        "assd_mean": 2.0,
        "volume_error_median": 0.1,
        "volume_error_mean": 0.1,
        "missed": 1,
        "empty_truth": 1,
        "empty_prediction": 2,
        "seconds": 0.5,
        "encode_seconds": 0.4,
        "decode_seconds": 0.1,
        "spread": None,
    }
    assert (second["cases"], second["missed"], second["encode_seconds"]) == (3, 0, None)


def test_summary_by_class_data_set_and_group() -> None:
    summary = summarise(CASES)
    assert list(summary["by_class"]) == ["liver", "spleen", "thing"]
    assert summary["by_class"]["liver"][1]["dice"] == pytest.approx(0.6)
    assert list(summary["by_dataset"]) == ["AMOS", "BTCV"]
    assert summary["by_dataset"]["BTCV"][1]["hd95_median"] == math.inf
    assert summary["by_dataset"]["BTCV"][1]["hd95_mean"] is None
    assert summary["by_dataset"]["BTCV"][1]["dice_interval"] is None  # one scan
    assert list(summary["by_group"]) == ["abdomen and thorax", "other"]
    assert summary["by_group"]["other"][1]["nsd"] is None
    assert 2 not in summary["by_group"]["other"]
    assert summary["ungrouped"] == ["thing"]


def test_groups_may_be_the_users_own() -> None:
    groups = Groups(({"liver": "mine"},), frozenset())
    summary = summarise(
        [replace(c, group="theirs" if c.case == "b1" else "") for c in CASES], groups=groups
    )
    assert list(summary["by_group"]) == ["mine", "other", "theirs"]


def test_the_best_over_clicks_is_the_legacy_figure() -> None:
    legacy = summarise(CASES)["legacy"]
    assert legacy == {"label": LEGACY_LABEL, "dice": pytest.approx((0.9 + 0.7 + 0.3 + 1.0) / 4)}


def test_repeats_give_mean_and_spread() -> None:
    cases = [
        case(name, "liver", RoundResult(1, dice, prediction_empty=dice == 0), repeat=repeat)
        for name, repeat, dice in (("a", 0, 0.4), ("a", 1, 0.6), ("b", 0, 0.0), ("b", 1, 0.6))
    ]
    entry = summarise(cases)["by_clicks"][1]
    assert (entry["cases"], entry["runs"], entry["missed"]) == (2, 4, 1)
    assert entry["dice"] == pytest.approx(0.4)
    assert entry["spread"] == {
        "repeats": 2,
        "std": pytest.approx(np.std([0.2, 0.6], ddof=1)),
        "lowest": pytest.approx(0.2),
        "highest": pytest.approx(0.6),
    }
    assert entry["dice_interval"] == (pytest.approx(0.3), pytest.approx(0.5))  # of scans a and b


def test_the_order_of_cases_is_no_matter() -> None:
    cases = many_cases(["liver", "spleen"])
    there, back = summarise(cases)["by_clicks"][2], summarise(cases[::-1])["by_clicks"][2]
    assert there["dice_interval"] == pytest.approx(back["dice_interval"])


def test_no_case_is_a_summary_too() -> None:
    empty = case("a", "liver")
    for cases in ([], [empty]):
        summary = summarise(cases)
        assert (summary["by_clicks"], summary["by_class"], summary["ungrouped"]) == ({}, {}, [])
        assert summary["legacy"]["dice"] is None


def test_a_table_of_figures_tells_misses_by_the_distance() -> None:
    table = tabulate([case("a", "liver", RoundResult(1, 0.0, 0.0, math.inf), RoundResult(2, 0.5))])
    assert table.missed().tolist() == [[True, False]]


def test_scores_of_the_challenge_are_areas_over_five_clicks() -> None:
    def clicks(*dice: float) -> list[RoundResult]:
        return [RoundResult(n, d, d / 2) for n, d in enumerate(dice)]

    cases = [
        case("s1", "liver", *clicks(0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        case("s1", "spleen", *clicks(0.9, 1.0, 1.0, 1.0, 1.0, 1.0)),
        case("s2", "liver", *clicks(0.0, 0.5, 0.5, 0.5, 0.5, 0.5)),
        case("s3", "liver", *clicks(0.0, 0.5)),
    ]
    assert summarise_challenge(cases) == {
        "scans": 2,
        "dice_auc": pytest.approx(((2.4 + 4.0) / 2 + 2.0) / 2),
        "dice_final": pytest.approx((1.0 + 0.5) / 2),
        "nsd_auc": pytest.approx(((2.4 + 4.0) / 2 + 2.0) / 4),
        "nsd_final": pytest.approx((1.0 + 0.5) / 4),
    }
    assert summarise_challenge(cases[3:]) is None
    assert summarise_challenge([]) is None
