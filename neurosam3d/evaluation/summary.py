"""Averages of an evaluation: by number of clicks, over all and per class, data set and group.

Shapes: n runs (one object in one repeat), k numbers of clicks.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np

from neurosam3d.evaluation.cvpr25 import NUM_CLICKS, area_under_clicks
from neurosam3d.evaluation.groups import Groups, shipped_groups
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.score_table import ScoreTable, tabulate
from neurosam3d.evaluation.statistics import bootstrap_intervals, spread_over_repeats

LEGACY_LABEL = "legacy: best over clicks, an upper bound that no user meets"

ByClicks = dict[int, dict[str, Any]]


def summarise(
    cases: Sequence[CaseResult], *, groups: Groups | None = None, seed: int = 0
) -> dict[str, Any]:
    """Average the cases by number of clicks: over all, per class, per data set and per group.

    An entry holds the number of objects, `cases`, and of `runs`, an object counting once per
    repeat. Means are over the runs: `dice`, `nsd` and `iou`, the first two with the 95% bootstrap
    interval `dice_interval`, `nsd_interval` over scans, and the seconds. Distances and the volume
    error can be infinite, so they have a median over all runs and a mean of the finite ones, as in
    `hd95_median` and `hd95_mean`. `missed` (exactly one of truth and prediction is empty),
    `empty_truth` and `empty_prediction` count runs; `spread` tells how the repeats' mean Dice
    differs. What no case has is `None`.

    Args:
        cases: The results.
        groups: Anatomical groups of the cases that have none; by default the shipped ones.
        seed: Seed of the bootstrap.

    Returns:
        `{"by_clicks": {n: entry}, "by_class": {class: {n: entry}}, "by_dataset": ..., "by_group":
        ..., "ungrouped": [class], "legacy": {"label", "dice"}}`. The first three levels are sorted;
        `ungrouped` lists the classes that are in the group "other" for want of an entry; `legacy`
        holds the best Dice over the clicks, as older reports do, None without a case.
    """
    groups = groups or shipped_groups()
    table = tabulate(groups.assign(cases))
    best = np.max(table.scores["dice"], axis=1, initial=0.0, where=table.played)
    return {
        "by_clicks": _by_clicks(table, seed),
        "by_class": _split(table, lambda case: case.class_name, seed),
        "by_dataset": _split(table, lambda case: case.dataset, seed),
        "by_group": _split(table, lambda case: case.group, seed),
        "ungrouped": groups.unknown(table.cases),
        "legacy": {"label": LEGACY_LABEL, "dice": _mean(best)},
    }


def summarise_challenge(cases: Sequence[CaseResult]) -> dict[str, Any] | None:
    """Average the scores of the CVPR25 challenge over the classes of a scan, then over the scans.

    Args:
        cases: The results; those without all five clicks are left out.

    Returns:
        The number of `scans`, and `dice_auc`, `nsd_auc`, `dice_final` and `nsd_final`, `None` where
        a metric was not measured; None if no case has all clicks.
    """
    table = tabulate(cases)
    numbers = range(1, NUM_CLICKS + 1)
    if not set(numbers) <= set(table.clicks):
        return None
    columns = [table.clicks.index(clicks) for clicks in numbers]
    table = table.rows(table.played[:, columns].sum(1) == NUM_CLICKS)
    means: dict[str, Any] = {"scans": len(np.unique(table.scans))}
    for metric in ("dice", "nsd"):
        scores = table.scores[metric][:, columns]  # (n, clicks)
        areas = np.array([area_under_clicks(row) for row in scores])
        means[f"{metric}_auc"] = _mean_over_scans(areas, table.scans)
        means[f"{metric}_final"] = _mean_over_scans(scores[:, -1], table.scans)
    return means if means["scans"] else None


def _mean_over_scans(values: np.ndarray, scans: np.ndarray) -> float | None:
    means = [_mean(values[scans == scan]) for scan in np.unique(scans)]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if known else None


def _split(table: ScoreTable, key: Callable[[CaseResult], str], seed: int) -> dict[str, ByClicks]:
    names = np.array([key(case) for case in table.cases], dtype=object)
    return {name: _by_clicks(table.rows(names == name), seed) for name in sorted(set(names))}


def _by_clicks(table: ScoreTable, seed: int) -> ByClicks:
    """Return an entry per number of clicks that the table's cases have had."""
    values = np.hstack([table.scores["dice"], table.scores["nsd"]])  # (n, 2k)
    intervals = bootstrap_intervals(values, table.scans, seed=seed)
    missed, num_clicks = table.missed(), len(table.clicks)
    entries = {}
    for column, clicks in enumerate(table.clicks):
        played = table.played[:, column]
        if not played.any():
            continue
        score = {name: scores[played, column] for name, scores in table.scores.items()}
        spread = spread_over_repeats(score["dice"], table.repeats[played])
        entries[clicks] = {
            "cases": len(np.unique(table.objects[played])),
            "runs": int(played.sum()),
            "dice": _mean(score["dice"]),
            "dice_interval": intervals[column],
            "nsd": _mean(score["nsd"]),
            "nsd_interval": intervals[num_clicks + column],
            "iou": _mean(score["iou"]),
            "hd95_median": _median(score["hd95"]),
            "hd95_mean": _mean(score["hd95"]),
            "assd_median": _median(score["assd"]),
            "assd_mean": _mean(score["assd"]),
            "volume_error_median": _median(score["volume_error"]),
            "volume_error_mean": _mean(score["volume_error"]),
            "missed": int(missed[played, column].sum()),
            "empty_truth": int(table.truth_empty[played].sum()),
            "empty_prediction": int(table.prediction_empty[played, column].sum()),
            "seconds": _mean(score["seconds"]),
            "encode_seconds": _mean(score["encode_seconds"]),
            "decode_seconds": _mean(score["decode_seconds"]),
            "spread": asdict(spread) if spread else None,
        }
    return entries


def _mean(values: np.ndarray) -> float | None:
    """Average the finite values."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _median(values: np.ndarray) -> float | None:
    """Return the median of what is known, infinite values included."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None
