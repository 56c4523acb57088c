"""A comparison of methods as tables, and as a Markdown, HTML, JSON or CSV file."""

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from neurosam3d.evaluation.comparison import LOWER_IS_BETTER, Average, Comparison, Difference
from neurosam3d.evaluation.figures import Series, line_chart
from neurosam3d.evaluation.html_page import Section, chart, page, paragraphs
from neurosam3d.evaluation.html_report import with_intervals
from neurosam3d.evaluation.report_text import few_scans
from neurosam3d.evaluation.result_files import plain_numbers
from neurosam3d.evaluation.tables import (
    NOTHING,
    Table,
    markdown_text,
    short_clicks,
    show_clicks,
    show_count,
    show_mean,
    show_number,
    show_p,
)
from neurosam3d.files import replacing

TITLES = {"dice": "Dice", "nsd": "NSD", "hd95": "HD95 in mm"}
_TITLE = "Comparison of methods"


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison as the file's suffix says: .md, .html, .json or .csv.

    Numbers are not rounded in JSON and CSV. The file appears complete or not at all.

    Raises:
        ValueError: If the suffix is another.
    """
    check_suffix(path)
    text = _WRITERS[path.suffix.lower()](comparison)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_suffix(path: Path) -> None:
    """Refuse a name that says no format of a comparison.

    Raises:
        ValueError: If it does.
    """
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"a comparison is a {', '.join(_WRITERS)} file, got {path}")


def average_tables(comparison: Comparison) -> list[Table]:
    """Return a table per metric, a row per method and a column per number of clicks."""
    tables = []
    for metric in comparison.metrics:
        own = {(a.method, a.clicks): a for a in comparison.averages if a.metric == metric}
        rows = [
            [name, *(_show_average(own[name, clicks]) for clicks in comparison.clicks)]
            for name in comparison.methods
        ]
        note = "Mean and its 95% interval."
        if metric in LOWER_IS_BETTER:
            note = "Median over all objects, and how many were missed: their distance is infinite."
        columns = ["method", *map(show_clicks, comparison.clicks)]
        tables.append(Table(TITLES[metric], columns, rows, note=note))
    return tables


def difference_tables(comparison: Comparison) -> list[Table]:
    """Return a table per metric, a row per method and number of clicks."""
    columns = ["method", "clicks", "difference (95%)", "better", "equal", "worse"]
    columns += ["scans", "p", "p (Holm)"]
    tables = []
    for metric in comparison.metrics:
        own = [d for d in comparison.differences if d.metric == metric]
        rows = [_difference_row(difference) for difference in own]
        remarks = dict.fromkeys(
            f"{d.method}, {show_clicks(d.clicks)}: no p-value, as {d.paired.remark}."
            for d in own
            if d.paired.remark
        )
        title = f"{TITLES[metric]}: difference to {comparison.reference}"
        tables.append(Table(title, columns, rows, note=" ".join(remarks)))
    return tables


def notes(comparison: Comparison) -> list[str]:
    """Say what was compared, how it was tested, and what limits the comparison."""
    tests = sum(difference.paired.p_value is not None for difference in comparison.differences)
    return [
        f"All figures are of the {show_count(comparison.objects, 'object')} of "
        f"{show_count(comparison.scans, 'scan')} that every method has; an object's repeats count "
        "as one.",
        *comparison.remarks,
        "Differences are method minus reference, so above 0 is better for Dice and NSD and worse "
        "for HD95; means are of the objects with a finite score of both. Better, equal and worse "
        "count objects, and a miss is worse than any distance.",
        "Intervals are 95% bootstrap intervals: whole scans are drawn again, because the objects "
        f"of a scan are not independent. {few_scans(comparison.scans)}",
        "p: two-sided Wilcoxon signed-rank test on each scan's mean difference. Scans without a "
        "difference are left out, and ties share their mean rank; fewer than 6 scans that differ "
        f"give no p-value. Holm's correction is over all {show_count(tests, 'test')} made here; "
        "fewer metrics and numbers of clicks mean fewer tests.",
    ]


def _show_average(average: Average) -> str:
    if average.metric in LOWER_IS_BETTER:
        missed = f" ({average.missed} missed)" if average.missed else ""
        return f"{show_number(average.median, 2)}{missed}"
    return show_mean(average.mean, average.interval)


def _difference_row(difference: Difference) -> list[str]:
    paired = difference.paired
    mean = NOTHING
    if paired.mean is not None:
        mean = f"{paired.mean:+.3f}"
    if paired.interval is not None:
        mean += f" ({paired.interval[0]:+.3f} to {paired.interval[1]:+.3f})"
    counts = paired.wins, paired.ties, paired.losses, paired.scans
    return [
        difference.method,
        short_clicks(difference.clicks),
        mean,
        *map(str, counts),
        show_p(paired.p_value),
        show_p(difference.p_holm),
    ]


def _markdown(comparison: Comparison) -> str:
    tables = [*average_tables(comparison), *difference_tables(comparison)]
    parts = [
        f"# {_TITLE}",
        markdown_text(_lead(comparison)),
        *(table.markdown().strip() for table in tables),
        "### How to read this",
        *map(markdown_text, notes(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def _html(comparison: Comparison) -> str:
    figures = "".join(_figure(comparison, m) for m in comparison.metrics if m != "hd95")
    remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in comparison.remarks)
    sections = [
        Section("Scores", figures + "".join(t.html() for t in average_tables(comparison))),
        Section("Differences", "".join(t.html() for t in difference_tables(comparison))),
        Section("How to read this", paragraphs(notes(comparison))),
    ]
    box = f'<div class="say bound">{remarks}</div>' if remarks else ""
    return page(_TITLE, _lead(comparison), sections, remarks=box)


def _figure(comparison: Comparison, metric: str) -> str:
    own = [average for average in comparison.averages if average.metric == metric]
    series = [
        Series(
            name,
            {
                a.clicks: (a.mean, a.interval)
                for a in own
                if a.method == name and a.mean is not None
            },
        )
        for name in comparison.methods
    ]
    title = f"{TITLES[metric]} against the number of clicks"
    caption = f"Mean {title}{with_intervals(series)}."
    return chart(line_chart(series, title=title, unit=TITLES[metric]), caption)


def _lead(comparison: Comparison) -> str:
    others = [name for name in comparison.methods if name != comparison.reference]
    return f"{', '.join(others)} against {comparison.reference}"


def _json(comparison: Comparison) -> str:
    content = {**asdict(comparison), "notes": notes(comparison)}
    return json.dumps(plain_numbers(content), indent=1, ensure_ascii=False) + "\n"


def _csv(comparison: Comparison) -> str:
    """Return a line per method, metric and number of clicks; the reference has no difference."""
    differences = {(d.method, d.metric, d.clicks): d for d in comparison.differences}
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    header = "method metric clicks objects mean low high median missed difference"
    writer.writerow(
        [
            *header.split(),
            "difference_low",
            "difference_high",
            "wins",
            "ties",
            "losses",
            "p",
            "p_holm",
        ]
    )
    for average in comparison.averages:
        own = [average.method, average.metric, average.clicks, average.objects, average.mean]
        own += [*(average.interval or ("", "")), average.median, average.missed]
        found = differences.get((average.method, average.metric, average.clicks))
        writer.writerow([*own, *_difference_cells(found)])
    return lines.getvalue()


def _difference_cells(difference: Difference | None) -> Sequence[object]:
    if difference is None:
        return [""] * 8
    paired = difference.paired
    ends = paired.interval or ("", "")
    counts = paired.wins, paired.ties, paired.losses
    return [paired.mean, *ends, *counts, paired.p_value, difference.p_holm]


_WRITERS: Mapping[str, Callable[[Comparison], str]] = {
    ".md": _markdown,
    ".html": _html,
    ".json": _json,
    ".csv": _csv,
}
