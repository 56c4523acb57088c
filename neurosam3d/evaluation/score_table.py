"""Scores of many objects as arrays, so that means and intervals of 10,000 are quick.

Shapes: n runs (one object in one repeat), k numbers of clicks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosam3d.evaluation.results import CaseResult

METRICS = (
    "dice",
    "nsd",
    "hd95",
    "iou",
    "assd",
    "volume_error",
    "seconds",
    "encode_seconds",
    "decode_seconds",
)


@dataclass(frozen=True)
class ScoreTable:
    """The rounds of many cases, a row per case and a column per number of clicks.

    Args:
        cases: The cases with at least one round, n of them.
        clicks: The numbers of clicks that occur, in ascending order, k of them.
        scores: Metric -> (n, k), NaN where a case has no such score.
        played: (n, k) whether a case has that round.
        prediction_empty: (n, k) whether the prediction had no voxel.
        truth_empty: (n,) whether the reference had none.
        scans: (n,) number of the scan.
        objects: (n,) number of the object; its repeats share it.
        repeats: (n,) which repeat it is.
    """

    cases: tuple[CaseResult, ...]
    clicks: tuple[int, ...]
    scores: dict[str, np.ndarray]
    played: np.ndarray
    prediction_empty: np.ndarray
    truth_empty: np.ndarray
    scans: np.ndarray
    objects: np.ndarray
    repeats: np.ndarray

    def rows(self, chosen: np.ndarray) -> "ScoreTable":
        """Return the rows that a boolean array (n,) chooses; the columns stay."""
        return ScoreTable(
            cases=tuple(case for case, keep in zip(self.cases, chosen, strict=True) if keep),
            clicks=self.clicks,
            scores={name: scores[chosen] for name, scores in self.scores.items()},
            played=self.played[chosen],
            prediction_empty=self.prediction_empty[chosen],
            truth_empty=self.truth_empty[chosen],
            scans=self.scans[chosen],
            objects=self.objects[chosen],
            repeats=self.repeats[chosen],
        )

    def missed(self) -> np.ndarray:
        """Tell (n, k) where exactly one of truth and prediction is empty."""
        differs = self.truth_empty[:, None] != self.prediction_empty
        # A table of figures tells misses by the distance alone.
        return (self.played & differs) | np.isinf(self.scores["hd95"])


def tabulate(cases: Sequence[CaseResult]) -> ScoreTable:
    """Lay out the rounds of cases as arrays; cases without a round are left out."""
    played_cases = tuple(case for case in cases if case.rounds)
    clicks = tuple(sorted({entry.clicks for case in played_cases for entry in case.rounds}))
    column = {number: place for place, number in enumerate(clicks)}
    shape = (len(played_cases), len(clicks))
    scores = {name: np.full(shape, np.nan) for name in METRICS}
    played, prediction_empty = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, case in enumerate(played_cases):
        for entry in case.rounds:
            place = row, column[entry.clicks]
            played[place], prediction_empty[place] = True, entry.prediction_empty
            for name in METRICS:
                value = getattr(entry, name)
                if value is not None:
                    scores[name][place] = value
    return ScoreTable(
        cases=played_cases,
        clicks=clicks,
        scores=scores,
        played=played,
        prediction_empty=prediction_empty,
        truth_empty=np.array([case.truth_empty for case in played_cases], bool),
        scans=number([case.scan for case in played_cases]),
        objects=number([(*case.object, case.label) for case in played_cases]),
        repeats=np.array([case.repeat for case in played_cases], int),
    )


def number(names: Sequence[Any]) -> np.ndarray:
    """Number things (n,) by the order of their names, so that the order of cases is no matter."""
    order = {name: place for place, name in enumerate(sorted(set(names)))}
    return np.array([order[name] for name in names], int)
