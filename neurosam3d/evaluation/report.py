"""Results of an interactive evaluation: summaries, JSON, CSV and a table for the terminal."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from neurosam3d.files import replacing

if TYPE_CHECKING:
    from rich.table import Table

CSV_COLUMNS = ("dataset", "set", "class", "case", "clicks", "dice", "nsd", "hd95", "seconds")


@dataclass(frozen=True)
class RoundResult:
    """Scores of one case after some clicks; what was not computed is `None`.

    Args:
        clicks: Number of clicks given.
        dice: Dice, in 0..1.
        nsd: Surface Dice, in 0..1.
        hd95: 95 % Hausdorff distance in mm, infinite when exactly one mask is empty.
        seconds: Time the prediction took.
        prediction_empty: Whether the prediction had no voxel.
    """

    clicks: int
    dice: float
    nsd: float | None = None
    hd95: float | None = None
    seconds: float | None = None
    prediction_empty: bool = False


@dataclass(frozen=True)
class CaseResult:
    """One object of one scan, and how it was segmented click by click.

    Args:
        dataset: Name of the data set.
        set_name: Which part of it: Tr, Val or Ts.
        class_name: The object's class.
        case: Name of the scan.
        image: Path of the image.
        label: Path of the reference.
        rounds: Scores, fewest clicks first.
        truth_empty: Whether the reference had no voxel.
        group: Heading under which the case is summarised; empty: its data set.
    """

    dataset: str
    set_name: str
    class_name: str
    case: str
    image: str
    label: str
    rounds: tuple[RoundResult, ...]
    truth_empty: bool = False
    group: str = ""


def summarise(cases: Sequence[CaseResult]) -> dict[str, Any]:
    """Average the cases by number of clicks: all of them, per class, and per group.

    Every entry holds the number of cases, the mean `dice` and `nsd`, the median of `hd95`
    over all cases and its mean over the finite ones, and counts: `missed` (exactly one of the
    two masks is empty), `empty_truth` and `empty_prediction`. What no case computed is
    `None`.

    Returns:
        `{"by_clicks": {n: entry}, "by_class": {class: {n: entry}}, "by_group": {...}}`.
    """
    return {
        "by_clicks": _by_clicks(cases),
        "by_class": _split(cases, lambda case: case.class_name),
        "by_group": _split(cases, lambda case: case.group or case.dataset),
    }


def write_report(
    path: Path, cases: Sequence[CaseResult], *, protocol: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write `<path>.json` with everything and `<path>.csv` with one line per round.

    Both appear complete or not at all. An infinite distance is the text `inf`.

    Args:
        path: Where to write; a suffix `.json` or `.csv` is left out of the name.
        cases: The results.
        protocol: How they came about: click rule, checkpoint, seed and so on.

    Returns:
        The two files' paths.
    """
    # A name such as run_1.5mm has no suffix to take away.
    name = path.name.removesuffix(".json").removesuffix(".csv")
    json_path, csv_path = path.with_name(f"{name}.json"), path.with_name(f"{name}.csv")
    report = {
        "protocol": dict(protocol),
        "cases": [_case_entry(case) for case in cases],
        "summary": summarise(cases),
    }
    text = json.dumps(_infinite_as_text(report), indent=1, ensure_ascii=False, allow_nan=False)
    for file, content in ((json_path, text + "\n"), (csv_path, _csv_text(cases))):
        with replacing(file) as partial:
            partial.write_text(content, encoding="utf-8")
    return json_path, csv_path


def results_table(cases: Sequence[CaseResult], *, title: str = "Mean Dice by clicks") -> "Table":
    """Lay the mean Dice out for the terminal, one row per class and one for all.

    The caption counts what a mean hides: empty references, and cases of which exactly one of truth
    and last prediction is empty.

    Args:
        cases: The results.
        title: Heading of the table.
    """
    from rich.table import Table

    summary = summarise(cases)
    counts = list(summary["by_clicks"])
    empty = sum(case.truth_empty for case in cases)
    final = [(case.truth_empty, case.rounds[-1].prediction_empty) for case in cases if case.rounds]
    missed = sum(truth_empty != prediction_empty for truth_empty, prediction_empty in final)
    caption = f"{empty} empty references; {missed} missed after the last click"
    shown = counts if len(counts) <= 6 else [n for n in counts if n in (1, 2, 3, 5, counts[-1])]
    table = Table(title=title, caption=caption)
    table.add_column("class")
    for heading in ("cases", *map(_clicks_heading, shown)):
        table.add_column(heading, justify="right")
    for name, by_clicks in summary["by_class"].items():
        table.add_row(name, *_table_cells(by_clicks, shown))
    table.add_section()
    table.add_row("all", *_table_cells(summary["by_clicks"], shown))
    return table


def _table_cells(by_clicks: Mapping[int, Mapping[str, Any]], shown: Sequence[int]) -> list[str]:
    num_cases = max((entry["cases"] for entry in by_clicks.values()), default=0)
    scores = [f"{by_clicks[n]['dice']:.3f}" if n in by_clicks else "" for n in shown]
    return [str(num_cases), *scores]


def _clicks_heading(clicks: int) -> str:
    return f"{clicks} click" if clicks == 1 else f"{clicks} clicks"


def _split(
    cases: Sequence[CaseResult], key: Callable[[CaseResult], str]
) -> dict[str, dict[int, dict[str, Any]]]:
    names = sorted({key(case) for case in cases})
    return {name: _by_clicks([case for case in cases if key(case) == name]) for name in names}


def _by_clicks(cases: Sequence[CaseResult]) -> dict[int, dict[str, Any]]:
    counts = sorted({entry.clicks for case in cases for entry in case.rounds})
    return {
        n: _entry([(case, e) for case in cases for e in case.rounds if e.clicks == n])
        for n in counts
    }


def _entry(rounds: Sequence[tuple[CaseResult, RoundResult]]) -> dict[str, Any]:
    distances = [entry.hd95 for _, entry in rounds if entry.hd95 is not None]
    return {
        "cases": len(rounds),
        "dice": fmean(entry.dice for _, entry in rounds),
        "nsd": _mean(entry.nsd for _, entry in rounds),
        "hd95_median": median(distances) if distances else None,
        "hd95_mean": _mean(value for value in distances if math.isfinite(value)),
        "missed": sum(case.truth_empty != entry.prediction_empty for case, entry in rounds),
        "empty_truth": sum(case.truth_empty for case, _ in rounds),
        "empty_prediction": sum(entry.prediction_empty for _, entry in rounds),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _case_entry(case: CaseResult) -> dict[str, Any]:
    return {
        "dataset": case.dataset,
        "set": case.set_name,
        "class": case.class_name,
        "case": case.case,
        "image": case.image,
        "label": case.label,
        "group": case.group or case.dataset,
        "truth_empty": case.truth_empty,
        "rounds": [vars(entry) for entry in case.rounds],
    }


def _infinite_as_text(value: Any) -> Any:
    """Replace infinite numbers, which JSON does not know, by their names."""
    if isinstance(value, Mapping):
        return {key: _infinite_as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_infinite_as_text(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _csv_text(cases: Sequence[CaseResult]) -> str:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for case in cases:
        name = (case.dataset, case.set_name, case.class_name, case.case)
        for entry in case.rounds:
            writer.writerow((*name, entry.clicks, entry.dice, entry.nsd, entry.hd95, entry.seconds))
    return lines.getvalue()
