"""Methods and data sets in one table, as the paper of 3DSAM-adapter has it (arXiv:2306.13465).

A row per method and number of clicks; per data set Dice and surface Dice, mean and standard
deviation. A method may lack a data set. Of each data set only those objects count that all methods
with that data set have, so that a column is about the same objects from top to bottom.

Shapes: n objects of a data set, k numbers of clicks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurosam3d.evaluation.adapter3d_protocol import NAME as ADAPTER3D
from neurosam3d.evaluation.comparison import (
    by_object,
    object_remarks,
    protocol_remarks,
    scores_after,
)
from neurosam3d.evaluation.results import BEST_OVER_CLICKS, Results
from neurosam3d.evaluation.score_table import ScoreTable, number, tabulate
from neurosam3d.evaluation.statistics import PairedDifference, holm, paired_difference
from neurosam3d.evaluation.tables import show_clicks, show_names, show_value

METRICS = ("dice", "nsd")
_SHOWN_BY_ROWS = ("datasets", "num_clicks", "num_prompts")  # settings that the table itself tells
AT_ONCE = (ADAPTER3D,)  # protocols whose rounds are sessions of their own, all clicks at once
ALWAYS_SHOWN = (BEST_OVER_CLICKS, 0)  # numbers of clicks of methods that leave no choice


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Args:
        parameters: How many numbers its weights are.
        trained: How many of them its training changed; None if nothing tells.
    """

    parameters: int
    trained: int | None = None


@dataclass(frozen=True)
class MethodResults:
    """What is known of one method.

    Args:
        name: What it is called.
        results: Data set -> results; without those that it was not judged on.
        sizes: Those of its networks, each once; a method may have one per data set.
        note: What a reader must know of it.
    """

    name: str
    results: Mapping[str, Results]
    sizes: Sequence[Size] = ()
    note: str = ""


@dataclass(frozen=True)
class Score:
    """A metric of one method on one data set after some clicks.

    Args:
        objects: Objects with that score.
        mean: Its mean over them; None if there is none.
        std: Its standard deviation over them, with `objects - 1` in the denominator; None below 2.
    """

    objects: int
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class Difference:
    """How a row differs from the first method on one data set.

    Args:
        metric: dice or nsd.
        against: The reference's number of clicks.
        paired: The difference, method minus reference.
        p_holm: Its p-value after Holm's correction over all tests of the table.
    """

    metric: str
    against: int
    paired: PairedDifference
    p_holm: float | None = None


@dataclass(frozen=True)
class Row:
    """A method after some clicks.

    Args:
        method: Its name.
        clicks: The number of clicks.
        scores: Data set -> metric -> score; without the data sets that it lacks.
        differences: Data set -> its differences to the first method; empty for that itself.
        seconds: Median time per object up to that click; None if nobody took it.
    """

    method: str
    clicks: int
    scores: Mapping[str, Mapping[str, Score]]
    differences: Mapping[str, Sequence[Difference]] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Judged:
    """The part of a data set that a column is about."""

    objects: int
    scans: int


@dataclass(frozen=True)
class MethodTable:
    """Methods side by side.

    Args:
        sets: Data set -> what of it was compared, in the order of the columns.
        rows: The rows, those of a method together and fewest clicks first.
        sizes: Method -> how large its networks are.
        remarks: What limits the comparison, a sentence each.
    """

    sets: Mapping[str, Judged]
    rows: Sequence[Row]
    sizes: Mapping[str, Sequence[Size]]
    remarks: Sequence[str]

    @property
    def methods(self) -> list[str]:
        """The names of the methods; the others are compared with the first."""
        return list(self.sizes)


_Tables = Mapping[str, Mapping[str, ScoreTable]]  # data set -> method -> scores


def tabulate_methods(
    methods: Sequence[MethodResults],
    *,
    sets: Sequence[str],
    clicks: Sequence[int],
    seed: int = 0,
) -> MethodTable:
    """Put methods into one table.

    An object's repeats count as one, with the mean of their scores.

    Args:
        methods: The methods; the others are compared with the first.
        sets: The data sets, a column each.
        clicks: After how many clicks. Results without prompts, and those that tell the best over
            the clicks only, have a row anyway.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If no method has a data set, or those that have it share no object of it.
    """
    tables: dict[str, dict[str, ScoreTable]] = {}
    remarks = []
    for dataset in sets:
        tables[dataset], lonely = _shared_objects(methods, dataset)
        remarks += lonely
    rows = [row for method in methods for row in _rows_of(method, tables, clicks)]
    return MethodTable(
        sets={dataset: _extent(own) for dataset, own in tables.items()},
        rows=_compare(rows, tables, methods[0].name, seed=seed),
        sizes={method.name: method.sizes for method in methods},
        remarks=[
            *(f"{method.name}: {method.note}" for method in methods if method.note),
            *_gaps(methods, rows, sets=sets, clicks=clicks),
            *protocol_remarks({m.name: Results(_shared_protocol(m), ()) for m in methods}),
            *remarks,
        ],
    )


def _shared_objects(
    methods: Sequence[MethodResults], dataset: str
) -> tuple[dict[str, ScoreTable], list[str]]:
    """Return the scores of the objects that all methods have, and say which objects others lack."""
    cases = {
        method.name: by_object(method.name, method.results[dataset].cases)
        for method in methods
        if dataset in method.results
    }
    cases = {name: own for name, own in cases.items() if own}
    if not cases:
        raise ValueError(f"a column needs results, and no method has any of {dataset}")
    common = sorted(set.intersection(*map(set, cases.values())))
    if not common:
        raise ValueError(
            f"methods are compared on the objects that all have, and {', '.join(cases)} share none "
            f"of {dataset}"
        )
    tables = {name: tabulate([own[key] for key in common]) for name, own in cases.items()}
    return tables, object_remarks(cases, set(common))


def _extent(tables: Mapping[str, ScoreTable]) -> Judged:
    """Count what the tables of one data set are about: all are of the same objects."""
    table = next(iter(tables.values()))
    return Judged(len(table.cases), len({case.scan for case in table.cases}))


def _rows_of(method: MethodResults, tables: _Tables, clicks: Sequence[int]) -> list[Row]:
    """Return the rows of a method without its differences."""
    own = {name: table[method.name] for name, table in tables.items() if method.name in table}
    known = sorted({count for table in own.values() for count in table.clicks})
    rows = []
    for count in (count for count in known if count in clicks or count in ALWAYS_SHOWN):
        having = {name: table for name, table in own.items() if count in table.clicks}
        scores = {
            name: {metric: _score(scores_after(table, metric, count)) for metric in METRICS}
            for name, table in having.items()
        }
        seconds = [
            _seconds_until(table, count, at_once=_is_at_once(method.results[name]))
            for name, table in having.items()
        ]
        rows.append(Row(method.name, count, scores, seconds=_median(np.concatenate(seconds))))
    return rows


def _score(values: np.ndarray) -> Score:
    """Sum up the scores (n,) of the objects, NaN where there is none."""
    known = values[~np.isnan(values)]
    return Score(
        objects=len(known),
        mean=float(known.mean()) if len(known) else None,
        std=float(known.std(ddof=1)) if len(known) > 1 else None,
    )


def _is_at_once(results: Results) -> bool:
    return results.protocol.get("name") in AT_ONCE


def _seconds_until(table: ScoreTable, clicks: int, *, at_once: bool) -> np.ndarray:
    """Return the time (n,) that an object took until its mask after some clicks, NaN if unknown.

    Args:
        table: The scores.
        clicks: The number of clicks.
        at_once: Whether each number of clicks was a session of its own, all given at once.
    """
    seconds = table.scores["seconds"]  # (n, k)
    counts = np.array(table.clicks)
    counted = counts == clicks if at_once else (counts >= 0) & (counts <= clicks)
    chosen = seconds[:, counted]
    # An object that is right needs no further click, and then nobody takes the time.
    return np.where(np.isnan(chosen).all(1), np.nan, np.nansum(chosen, axis=1))


def _median(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _compare(rows: Sequence[Row], tables: _Tables, reference: str, *, seed: int) -> list[Row]:
    """Add to the rows how they differ from the reference, with p-values corrected together.

    A row is compared with the reference after as many clicks; where the reference has no such row,
    with its first, so that a method without prompts meets one that got a single click.
    """
    known = [row.clicks for row in rows if row.method == reference]
    compared = []
    for row in rows:
        differences = {}
        for dataset in row.scores if row.method != reference and known else ():
            against = row.clicks if row.clicks in known else known[0]
            differences[dataset] = _differences(tables[dataset], row, reference, against, seed=seed)
        compared.append(replace(row, differences=differences))
    return _correct(compared)


def _differences(
    tables: Mapping[str, ScoreTable], row: Row, reference: str, against: int, *, seed: int
) -> list[Difference]:
    """Compare a row with the reference on one data set; nothing where the reference lacks it."""
    if reference not in tables or against not in tables[reference].clicks:
        return []
    table, other = tables[row.method], tables[reference]
    scans = number([case.scan for case in table.cases])  # (n,)
    differences = []
    for metric in METRICS:
        pair = scores_after(table, metric, row.clicks), scores_after(other, metric, against)
        differences.append(Difference(metric, against, paired_difference(*pair, scans, seed=seed)))
    return differences


def _correct(rows: Sequence[Row]) -> list[Row]:
    """Correct all p-values of a table by Holm's rule."""
    tests = [one for row in rows for own in row.differences.values() for one in own]
    corrected = iter(holm([one.paired.p_value for one in tests]))
    return [
        replace(
            row,
            differences={
                dataset: [replace(one, p_holm=next(corrected)) for one in own]
                for dataset, own in row.differences.items()
            },
        )
        for row in rows
    ]


def _gaps(
    methods: Sequence[MethodResults],
    rows: Sequence[Row],
    *,
    sets: Sequence[str],
    clicks: Sequence[int],
) -> list[str]:
    """Say which cells are empty: data sets and numbers of clicks that a method lacks."""
    remarks = []
    for method in methods:
        own = [row for row in rows if row.method == method.name]
        having = {dataset for row in own for dataset in row.scores}
        if lacking := [dataset for dataset in sets if dataset not in having]:
            remarks.append(f"{method.name} was not judged on {show_names(lacking)}: no figures.")
        counts = {row.clicks for row in own}
        missing = [count for count in clicks if count not in counts]
        if missing and not counts <= set(ALWAYS_SHOWN):
            said = ", ".join(map(show_clicks, missing))
            remarks.append(f"{method.name} has no scores after {said}: no such row.")
    return remarks


def _shared_protocol(method: MethodResults) -> dict[str, Any]:
    """Return a method's protocol: a setting that differs between its data sets says each."""
    protocols = {name: results.protocol for name, results in method.results.items()}
    shared: dict[str, Any] = {}
    for key in dict.fromkeys(key for own in protocols.values() for key in own):
        if key in _SHOWN_BY_ROWS:
            continue
        said = {name: show_value(own.get(key)) for name, own in protocols.items()}
        if len(set(said.values())) == 1:
            shared[key] = next(iter(protocols.values())).get(key)
        else:
            shared[key] = ", ".join(f"{value} on {name}" for name, value in said.items())
    return shared
