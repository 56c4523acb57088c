"""The HTML report of an evaluation: one file with everything in it."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosam3d.evaluation.figures import Series, box_plots, line_chart, small_charts
from neurosam3d.evaluation.html_page import Section, chart, embedded_picture, page, paragraphs
from neurosam3d.evaluation.legacy_figures import published_tables
from neurosam3d.evaluation.report_text import explanations, headline, is_bound, meaning
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.score_table import tabulate
from neurosam3d.evaluation.summary import ByClicks
from neurosam3d.evaluation.summary_tables import (
    challenge_table,
    further_table,
    left_out_table,
    overall_table,
    protocol_table,
    seconds_table,
    split_tables,
    worst_cases,
    worst_table,
)
from neurosam3d.evaluation.tables import Table


def html_report(
    title: str,
    cases: Sequence[CaseResult],
    *,
    protocol: Mapping[str, Any],
    summary: Mapping[str, Any],
    pictures: Sequence[Path] = (),
) -> str:
    """Return the text of an HTML file that shows an evaluation.

    Args:
        title: Its title.
        cases: The results.
        protocol: How they came about.
        summary: Their averages, as `summarise` returns them.
        pictures: PNG files of the worst objects.

    Raises:
        ValueError: If a picture cannot be read or is no PNG file.
    """
    by_clicks = summary["by_clicks"]
    groups, datasets, classes = (table.html(with_title=False) for table in split_tables(summary))
    kind = "say bound" if is_bound(protocol) else "say"
    remarks = f'<div class="{kind}"><p>{html.escape(meaning(protocol))}</p></div>'
    settings = protocol_table(protocol).html(with_title=False) if protocol else ""
    overall = _shown(challenge_table(summary.get("cvpr25"))) + _shown(overall_table(by_clicks))
    worst = worst_cases(cases)
    shown = "".join(map(embedded_picture, pictures))
    sections = [
        Section("Protocol", settings + _shown(left_out_table(protocol))),
        Section("Results", _score_chart(by_clicks) + overall),
        Section("Anatomical groups", groups + _group_charts(summary)),
        Section("Data sets", datasets),
        Section("Classes", _class_boxes(cases) + classes),
        Section("Published figures", "".join(map(_shown, published_tables(summary)))),
        Section("Further metrics", _shown(further_table(by_clicks), with_title=False)),
        Section("Seconds per interaction", _shown(seconds_table(by_clicks), with_title=False)),
        Section(
            "Worst objects", (worst_table(worst).html(with_title=False) if worst else "") + shown
        ),
        Section("How to read this", paragraphs(explanations(protocol, summary, cases))),
    ]
    return page(title, headline(summary, cases), sections, remarks=remarks)


def _shown(table: Table | None, *, with_title: bool = True) -> str:
    return table.html(with_title=with_title) if table else ""


def dice_series(name: str, by_clicks: ByClicks, metric: str = "dice") -> Series:
    """Return a line of the mean of a metric that has an interval: dice or nsd."""
    means = {
        clicks: (entry[metric], entry[f"{metric}_interval"])
        for clicks, entry in by_clicks.items()
        if entry[metric] is not None
    }
    return Series(name, means)


def with_intervals(series: Sequence[Series]) -> str:
    """Return what a caption says of intervals, if there are any."""
    points = [point for line in series for point in line.means.values()]
    return ", with 95% intervals" if any(interval for _, interval in points) else ""


def _score_chart(by_clicks: ByClicks) -> str:
    series = [dice_series("Dice", by_clicks), dice_series("NSD", by_clicks, "nsd")]
    measured = [line for line in series if line.means]
    title = " and ".join(line.name for line in measured) + " against the number of clicks"
    caption = f"Mean {title}{with_intervals(measured)}."
    return chart(line_chart(measured, title=title, unit="mean"), caption)


def _group_charts(summary: Mapping[str, Any]) -> str:
    groups = summary["by_group"]
    if len(groups) < 2:
        return ""
    series = [dice_series(name, by_clicks) for name, by_clicks in groups.items()]
    caption = (
        f"Mean Dice against the number of clicks per anatomical group{with_intervals(series)}; the "
        "dashed line is the mean of all objects."
    )
    overall = dice_series("all", summary["by_clicks"])
    return chart(small_charts(series, overall, title="Dice by anatomical group"), caption)


def _class_boxes(cases: Sequence[CaseResult]) -> str:
    table = tabulate(cases)
    if not table.cases:
        return ""
    last = len(table.clicks) - 1 - table.played[:, ::-1].argmax(1)
    final = table.scores["dice"][range(len(table.cases)), last]  # (n,)
    names = [case.class_name for case in table.cases]
    values = {name: final[[other == name for other in names]] for name in set(names)}
    caption = (
        "Dice in the last round, a box per class: median and quartiles, whiskers to the outermost "
        "value within 1.5 times the length of the box, dots beyond. Below 5 values there are dots "
        "only."
    )
    return chart(box_plots(values, title="Dice in the last round per class"), caption)
