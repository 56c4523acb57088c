"""Several methods judged on the same objects: their means, and how each differs from one of them.

Shapes: n objects that all methods have, k numbers of clicks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from neurosam3d.evaluation.report_text import meaning
from neurosam3d.evaluation.result_files import mean_over_repeats
from neurosam3d.evaluation.results import LISTS, CaseResult, Results
from neurosam3d.evaluation.score_table import ScoreTable, number, tabulate
from neurosam3d.evaluation.statistics import (
    Interval,
    PairedDifference,
    bootstrap_intervals,
    holm,
    paired_difference,
)
from neurosam3d.evaluation.tables import show_clicks, show_count, show_value

METRICS = ("dice", "nsd", "hd95")
LOWER_IS_BETTER = ("hd95",)

# What tells one method from another, or a part of a run, and not how it was judged.
_OWN_KEYS = (
    "checkpoint",
    "checkpoint_sha256",
    "hyper_parameters",
    "model",
    "neurosam3d",
    "split_idx",
    "split_num",
    "missing_parts",
    "scans_sha256",
    *LISTS,
)


@dataclass(frozen=True)
class Average:
    """How a method did after some clicks, on the objects that all methods have.

    Args:
        method: Its name.
        metric: dice, nsd or hd95.
        clicks: The number of clicks.
        objects: Objects with that score.
        mean: Mean of the finite scores.
        interval: 95% bootstrap interval of the mean.
        median: Median of all scores, infinite ones included.
        missed: Objects of which exactly one of truth and prediction is empty.
    """

    method: str
    metric: str
    clicks: int
    objects: int
    mean: float | None
    interval: Interval | None
    median: float | None
    missed: int


@dataclass(frozen=True)
class Difference:
    """How a method differs from the reference after some clicks.

    Args:
        method: Its name.
        metric: dice, nsd or hd95.
        clicks: The number of clicks.
        paired: The difference, method minus reference.
        p_holm: Its p-value after Holm's correction over all tests of the comparison.
    """

    method: str
    metric: str
    clicks: int
    paired: PairedDifference
    p_holm: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Methods side by side.

    Args:
        methods: Their names.
        reference: The one that the others are compared with.
        metrics: What is compared.
        clicks: The numbers of clicks.
        objects: How many objects all methods have.
        scans: How many scans these belong to.
        averages: Per metric, method and number of clicks.
        differences: Per metric, method other than the reference, and number of clicks.
        remarks: What limits the comparison, a sentence each.
    """

    methods: tuple[str, ...]
    reference: str
    metrics: tuple[str, ...]
    clicks: tuple[int, ...]
    objects: int
    scans: int
    averages: tuple[Average, ...]
    differences: tuple[Difference, ...]
    remarks: tuple[str, ...]


def compare_methods(
    methods: Mapping[str, Results],
    *,
    reference: str | None = None,
    metrics: Sequence[str] = METRICS,
    clicks: Sequence[int] = (),
    seed: int = 0,
) -> Comparison:
    """Compare methods on the objects that all of them have.

    An object's repeats count as one, with the mean of their scores.

    Args:
        methods: Name -> results, at least two.
        reference: The method to compare the others with; by default the first.
        metrics: What to compare; what no method measured is left out.
        clicks: After how many clicks; by default every number that all methods have.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If there are fewer than two methods, a name is unknown, the methods share no
            object or no number of clicks, or one lacks a number that was asked for.
    """
    names = tuple(methods)
    reference = names[0] if reference is None and names else str(reference)
    _check_names(names, reference, metrics)
    cases = {name: by_object(name, results.cases) for name, results in methods.items()}
    common = sorted(set.intersection(*map(set, cases.values())))
    if not common:
        raise ValueError("methods are compared on the objects that all have, and there is none")
    tables = {name: tabulate([own[key] for key in common]) for name, own in cases.items()}
    scans = number([cases[reference][key].scan for key in common])  # (n,)
    shown = _shared_clicks(tables, clicks)
    measured = tuple(m for m in metrics if any(_is_measured(t, m) for t in tables.values()))
    return Comparison(
        methods=names,
        reference=reference,
        metrics=measured,
        clicks=shown,
        objects=len(common),
        scans=len(np.unique(scans)),
        averages=tuple(
            _average(name, table, metric, count, scans=scans, seed=seed)
            for metric, (name, table), count in product(measured, tables.items(), shown)
        ),
        differences=_differences(tables, reference, measured, shown, scans=scans, seed=seed),
        remarks=(*protocol_remarks(methods), *object_remarks(cases, set(common))),
    )


def _check_names(names: Sequence[str], reference: str, metrics: Sequence[str]) -> None:
    if len(names) < 2:
        raise ValueError(f"a comparison needs at least two methods, got {len(names)}")
    if reference not in names:
        raise ValueError(f"unknown reference {reference!r}; known: {', '.join(names)}")
    for metric in metrics:
        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")


def _is_measured(table: ScoreTable, metric: str) -> bool:
    return bool((~np.isnan(table.scores[metric])).any())


def _differences(
    tables: Mapping[str, ScoreTable],
    reference: str,
    metrics: Sequence[str],
    clicks: Sequence[int],
    *,
    scans: np.ndarray,
    seed: int,
) -> tuple[Difference, ...]:
    """Compare every method with the reference, and correct the p-values for their number."""
    differences = []
    others = [name for name in tables if name != reference]
    for metric, name, count in product(metrics, others, clicks):
        paired = paired_difference(
            scores_after(tables[name], metric, count),
            scores_after(tables[reference], metric, count),
            scans,
            lower_is_better=metric in LOWER_IS_BETTER,
            seed=seed,
        )
        differences.append(Difference(name, metric, count, paired))
    corrected = holm([difference.paired.p_value for difference in differences])
    return tuple(replace(d, p_holm=p) for d, p in zip(differences, corrected, strict=True))


def by_object(name: str, cases: Sequence[CaseResult]) -> dict[tuple[str, ...], CaseResult]:
    """Return results by object, an object's repeats as one with the mean of their scores.

    Raises:
        ValueError: If two objects have one name.
    """
    found: dict[tuple[str, ...], CaseResult] = {}
    for case in mean_over_repeats([case for case in cases if case.rounds]):
        if case.object in found:
            raise ValueError(f"the results of {name} have two objects that are called {case.name}")
        found[case.object] = case
    return found


def _shared_clicks(tables: Mapping[str, ScoreTable], wanted: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of clicks to compare at."""
    shared = sorted(set.intersection(*(set(table.clicks) for table in tables.values())))
    for name, table in tables.items():
        for count in wanted:
            if count not in table.clicks:
                known = ", ".join(map(show_clicks, table.clicks))
                raise ValueError(f"{name} has no score after {show_clicks(count)}; it has: {known}")
    if not shared:
        own = (f"{n} {', '.join(map(show_clicks, t.clicks))}" for n, t in tables.items())
        raise ValueError(f"methods must share a number of clicks, got {'; '.join(own)}")
    return tuple(sorted(set(wanted))) or tuple(shared)


def scores_after(table: ScoreTable, metric: str, clicks: int) -> np.ndarray:
    """Return a metric (n,) after some clicks, a number that the table has."""
    return table.scores[metric][:, table.clicks.index(clicks)]


def _average(
    name: str, table: ScoreTable, metric: str, clicks: int, *, scans: np.ndarray, seed: int
) -> Average:
    scores = scores_after(table, metric, clicks)
    known, finite = scores[~np.isnan(scores)], scores[np.isfinite(scores)]
    (interval,) = bootstrap_intervals(scores[:, None], scans, seed=seed)
    return Average(
        method=name,
        metric=metric,
        clicks=clicks,
        objects=len(known),
        mean=float(finite.mean()) if len(finite) else None,
        interval=interval,
        median=float(np.median(known)) if len(known) else None,
        missed=int(table.missed()[:, table.clicks.index(clicks)].sum()),
    )


def protocol_remarks(methods: Mapping[str, Results]) -> list[str]:
    """Say how methods were judged, and where not in the same way."""
    remarks = []
    known = {name: results.protocol for name, results in methods.items() if results.protocol}
    unknown = [name for name in methods if name not in known]
    if unknown:
        remarks.append(
            f"The file of {' and of '.join(unknown)} does not tell its protocol, so nothing shows "
            "whether it was judged like the others."
        )
    for said in dict.fromkeys(map(meaning, known.values())):
        names = [name for name, protocol in known.items() if meaning(protocol) == said]
        remarks.append(f"{' and '.join(names)}: {said}")
    keys = dict.fromkeys(key for protocol in known.values() for key in protocol)
    for key in (key for key in keys if key not in _OWN_KEYS):
        asked = {protocol.get("name") for protocol in known.values() if key in protocol}
        values = {  # a protocol that never tells has no such setting
            name: _said(protocol, key)
            for name, protocol in known.items()
            if protocol.get("name") in asked
        }
        if len(set(values.values())) > 1:
            own = ", ".join(f"{value} ({name})" for name, value in values.items())
            remarks.append(f"The protocols differ in {key}: {own}.")
    return remarks


def _said(protocol: Mapping[str, Any], key: str) -> str:
    return show_value(protocol[key]) if key in protocol else "not told"


def object_remarks(
    cases: Mapping[str, Mapping[tuple[str, ...], CaseResult]], common: set[tuple[str, ...]]
) -> list[str]:
    """Say which objects take no part because a method lacks them."""
    remarks = []
    for name, own in cases.items():
        lonely = sorted(set(own) - common)
        if lonely:
            remarks.append(
                f"{name} has {show_count(len(lonely), 'object')} that not all methods have, left "
                f"out here, such as {own[lonely[0]].name}."
            )
    return remarks
