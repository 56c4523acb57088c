"""Intervals, spreads and paired tests, with answers from theory and by hand."""

import math

import numpy as np
import pytest

from neurosam3d.evaluation.statistics import (
    bootstrap_intervals,
    holm,
    paired_difference,
    spread_over_repeats,
)

NAN, INF = math.nan, math.inf


def test_the_interval_is_that_of_the_mean_of_scans() -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(0.7, 0.1, size=(400, 1))
    ((low, high),) = bootstrap_intervals(values, np.arange(400))
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_objects_of_one_scan_do_not_count_as_independent() -> None:
    per_scan = np.random.default_rng(3).normal(0.7, 0.1, size=(20, 1))
    ((low, high),) = bootstrap_intervals(per_scan, np.arange(20))
    copies = np.repeat(per_scan, 50, axis=0)  # 50 objects that say the same thing
    assert bootstrap_intervals(copies, np.repeat(np.arange(20), 50)) == [
        (pytest.approx(low), pytest.approx(high))
    ]


def test_scans_count_by_their_objects() -> None:
    values = np.array([[0.0], [1.0], [1.0], [1.0]])
    ((low, high),) = bootstrap_intervals(values, np.array([4, 9, 9, 9]))
    assert (low, high) == (0.0, 1.0)  # one scan or the other, drawn twice


def test_a_seed_decides_and_the_order_of_objects_does_not() -> None:
    generator = np.random.default_rng(1)
    values, scans = generator.random((60, 2)), generator.integers(9, size=60)
    first = bootstrap_intervals(values, scans, seed=4)
    order = generator.permutation(60)
    assert bootstrap_intervals(values[order], scans[order], seed=4) == [
        (pytest.approx(low), pytest.approx(high)) for low, high in first
    ]
    assert bootstrap_intervals(values, scans, seed=5) != first


def test_too_few_scans_have_no_interval_and_gaps_are_no_zeros() -> None:
    values = np.array([[0.5, 0.5, NAN], [0.6, NAN, NAN], [0.7, 0.9, NAN]])
    one, two, three = bootstrap_intervals(values, np.array([0, 1, 0]))
    assert one is not None
    assert (two, three) == (None, None)
    values = np.array([[0.5], [NAN], [0.5]])
    assert bootstrap_intervals(values, np.arange(3)) == [(0.5, 0.5)]


@pytest.mark.parametrize("shape", [(0, 0), (0, 2)])
def test_nothing_has_no_interval(shape: tuple[int, int]) -> None:
    assert bootstrap_intervals(np.zeros(shape), np.zeros(0)) == [None] * shape[1]


def test_many_scans_are_drawn_in_pieces_of_the_same_law() -> None:
    values = np.arange(3000.0)[:, None] / 3000  # more than one piece
    ((low, high),) = bootstrap_intervals(values, np.arange(3000))
    half = 1.96 * values.std() / math.sqrt(3000)
    assert (low, high) == (
        pytest.approx(0.5 - half, abs=0.1 * half),
        pytest.approx(0.5 + half, abs=0.1 * half),
    )


def test_the_spread_is_that_of_the_repeats_means() -> None:
    spread = spread_over_repeats(
        np.array([0.5, 0.7, 0.6, 1.0, NAN, 0.9]), np.array([0, 0, 1, 1, 1, 2])
    )
    assert spread is not None
    assert (spread.repeats, spread.lowest, spread.highest) == (3, pytest.approx(0.6), 0.9)
    assert spread.std == pytest.approx(np.std([0.6, 0.8, 0.9], ddof=1))
    assert spread_over_repeats(np.array([0.5, 0.6]), np.array([0, 0])) is None


def test_pairs_are_counted_and_averaged() -> None:
    mine = np.array([0.9, 0.5, 0.7, 0.4, NAN])
    theirs = np.array([0.8, 0.5, 0.5, 0.6, 0.1])
    result = paired_difference(mine, theirs, np.array([0, 0, 1, 2, 2]))
    assert (result.pairs, result.scans) == (4, 3)
    assert (result.wins, result.ties, result.losses) == (2, 1, 1)
    assert result.mean == pytest.approx(0.1 / 4)
    assert result.p_value is None
    assert result.remark == "3 scans differ, and below 6 no p-value can fall under 0.05"


def test_the_exact_p_value_of_six_scans_is_that_of_the_signs() -> None:
    better = np.linspace(0.51, 0.56, 6)
    result = paired_difference(better, np.full(6, 0.5), np.arange(6))
    assert result.p_value == pytest.approx(2 / 2**6)  # all six signs alike
    reverse = paired_difference(np.full(6, 0.5), better, np.arange(6))
    assert reverse.p_value == result.p_value


def test_scans_and_not_objects_are_tested() -> None:
    better = np.repeat(np.linspace(0.51, 0.56, 6), 30)
    result = paired_difference(better, np.full(180, 0.5), np.repeat(np.arange(6), 30))
    assert (result.pairs, result.p_value) == (180, pytest.approx(2 / 2**6))


def test_differences_that_cancel_in_a_scan_are_none() -> None:
    mine = np.array([0.3, 0.1] * 8)
    theirs = np.array([0.1, 0.3] * 8)
    result = paired_difference(mine, theirs, np.repeat(np.arange(8), 2))
    assert (result.wins, result.losses) == (8, 8)
    assert (result.p_value, result.remark) == (None, "no scan differs")


def test_a_miss_loses_against_any_distance_and_is_in_no_mean() -> None:
    mine, theirs = np.array([3.0, INF, INF, 2.0]), np.array([5.0, 9.0, INF, INF])
    result = paired_difference(mine, theirs, np.arange(4), lower_is_better=True)
    assert (result.wins, result.ties, result.losses) == (2, 1, 1)
    assert (result.pairs, result.mean) == (1, -2.0)


def test_no_pair_is_said_plainly() -> None:
    result = paired_difference(np.array([NAN]), np.array([1.0]), np.array([0]))
    assert (result.pairs, result.mean, result.interval, result.ties) == (0, None, None, 0)


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),  # 0.04 itself, but not below the smaller one's
        pytest.approx(0.06),
    ]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
