"""A table of methods as text: for the terminal, and as a Markdown, HTML, JSON or CSV file."""

import csv
import html
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from neurosam3d.evaluation.figures import Series, line_chart
from neurosam3d.evaluation.html_page import Section, chart, embedded_picture, page, paragraphs
from neurosam3d.evaluation.method_table import METRICS, Difference, MethodTable, Row, Score, Size
from neurosam3d.evaluation.result_files import plain_numbers
from neurosam3d.evaluation.statistics import MIN_DIFFERENT
from neurosam3d.evaluation.tables import (
    NOTHING,
    Table,
    markdown_text,
    short_clicks,
    show_count,
    show_number,
    show_p,
)
from neurosam3d.files import replacing

TITLES = {"dice": "Dice", "nsd": "NSD"}
_TITLE = "Methods on the same cases"
_PICTURE = (
    "Typical objects: evenly spaced in the order of the first method's last Dice. Each panel is "
    "the axial slice that cuts most of the truth, with the mask after the method's last click."
)
_CSV_COLUMNS = (
    *("method", "clicks", "dataset", "metric", "objects", "mean", "std", "seconds", "parameters"),
    *("trained", "against", "difference", "wins", "ties", "losses", "p", "p_holm"),
)


def write_method_table(
    folder: Path, table: MethodTable, *, picture: Path | None = None
) -> list[Path]:
    """Write `table.md`, `table.html`, `table.json` and `table.csv`; each appears whole or not.

    Numbers are not rounded in JSON and CSV.

    Args:
        folder: Where to write.
        table: The table.
        picture: A PNG file to show below it.

    Returns:
        The paths of the files.

    Raises:
        ValueError: If the picture cannot be read or is no PNG file.
    """
    texts = {
        "md": _markdown(table, None if picture is None else os.path.relpath(picture, folder)),
        "html": _html(table, picture),
        "json": _json(table),
        "csv": _csv(table),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"table.{suffix}")
        with replacing(paths[-1]) as partial:
            partial.write_text(text, encoding="utf-8")
    return paths


def score_table(table: MethodTable) -> Table:
    """Lay out the scores, the size and the speed; a method is named in its first row."""
    columns = ["method", "clicks", *_score_columns(table)]
    rows = []
    for row, is_first in _with_first(table):
        cells = [
            _show_score(row.scores.get(dataset, {}).get(metric))
            for dataset in table.sets
            for metric in METRICS
        ]
        size = _show_sizes(table.sizes[row.method]) if is_first else ""
        seconds = show_number(row.seconds, 2)
        rows.append([row.method * is_first, short_clicks(row.clicks), *cells, size, seconds])
    columns += ["million parameters", "seconds"]
    title = "Mean ± standard deviation over the objects"
    return Table(f"{title} of {', '.join(table.sets)}", columns, rows)


def difference_table(table: MethodTable) -> Table | None:
    """Lay out how each method differs from the first; None if there is nothing to compare."""
    rows = []
    for row, is_first in _with_first(table):
        if not any(row.differences.get(dataset) for dataset in table.sets):
            continue
        cells = []
        for dataset in table.sets:
            own = {one.metric: one for one in row.differences.get(dataset, ())}
            cells += [_show_difference(own.get(metric)) for metric in METRICS]
        against = next(one.against for own in row.differences.values() for one in own)
        name = row.method * is_first
        rows.append([name, short_clicks(row.clicks), short_clicks(against), *cells])
    if not rows:
        return None
    title = f"Difference to {table.methods[0]}, and p after Holm's correction"
    return Table(title, ["method", "clicks", "against", *_score_columns(table)], rows)


def _score_columns(table: MethodTable) -> list[str]:
    """Return a heading per data set and metric; a single data set need not be named."""
    names = [f"{dataset} " if len(table.sets) > 1 else "" for dataset in table.sets]
    return [f"{name}{TITLES[metric]}" for name in names for metric in METRICS]


def narrow_tables(table: MethodTable) -> list[Table]:
    """Return the tables of each data set alone, which fit a terminal."""
    parts = [replace(table, sets={name: own}) for name, own in table.sets.items()]
    tables = [shown for part in parts for shown in (score_table(part), difference_table(part))]
    return [shown for shown in tables if shown is not None]


def method_notes(table: MethodTable) -> list[str]:
    """Say what the figures are, how they were tested, and what limits the comparison."""
    judged = (
        f"{name} {show_count(own.objects, 'object')} of {show_count(own.scans, 'scan')}"
        for name, own in table.sets.items()
    )
    tests = sum(
        one.paired.p_value is not None
        for row in table.rows
        for own in row.differences.values()
        for one in own
    )
    texts = [
        f"A column is about the same objects from top to bottom: {', '.join(judged)}. An object's "
        "repeats count as one.",
        *table.remarks,
        "Seconds are the median over the objects of all data sets, up to the mask after that many "
        "clicks, image encoding included, on the machine that judged the method. One answer of a "
        "network without prompts holds all objects of a scan, and its time counts for each.",
        "Parameters are all weights of the network; in brackets those that its training changed, "
        "where the checkpoint says so.",
    ]
    if difference_table(table) is not None:
        holm = f" Holm's correction is over all {show_count(tests, 'test')}." if tests else ""
        texts.append(
            "Differences are method minus reference on the same objects, after as many clicks; "
            "where the reference has no such row, its first one. p: two-sided Wilcoxon signed-rank "
            f"test on each scan's mean difference; fewer than {MIN_DIFFERENT} scans that differ "
            f"give no p-value.{holm}"
        )
    return texts


def _with_first(table: MethodTable) -> list[tuple[Row, bool]]:
    """Return the rows, and whether each is the first of its method."""
    before = [None, *(row.method for row in table.rows)]
    return [(row, row.method != name) for row, name in zip(table.rows, before, strict=False)]


def _show_score(score: Score | None) -> str:
    if score is None or score.mean is None:
        return NOTHING
    return f"{score.mean:.3f}" if score.std is None else f"{score.mean:.3f} ± {score.std:.3f}"


def _show_sizes(sizes: Sequence[Size]) -> str:
    """Return the parameters in million; of several networks each."""
    return " / ".join(dict.fromkeys(map(_show_size, sizes))) or NOTHING


def _show_size(size: Size) -> str:
    total = f"{size.parameters / 1e6:.1f}"
    return total if size.trained is None else f"{total} ({size.trained / 1e6:.1f})"


def _show_difference(difference: Difference | None) -> str:
    if difference is None or difference.paired.mean is None:
        return NOTHING
    p = "" if difference.p_holm is None else f", p {show_p(difference.p_holm)}"
    return f"{difference.paired.mean:+.3f}{p}"


def _markdown(table: MethodTable, picture: str | None) -> str:
    tables = [score_table(table), difference_table(table)]
    parts = [f"# {_TITLE}", *(shown.markdown().strip() for shown in tables if shown)]
    if picture is not None:
        parts += ["### Pictures", f"![Typical objects]({Path(picture).as_posix()})", _PICTURE]
    parts += ["### How to read this", *map(markdown_text, method_notes(table))]
    return "\n\n".join(parts) + "\n"


def _html(table: MethodTable, picture: Path | None) -> str:
    differences = difference_table(table)
    remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in table.remarks)
    charts = "".join(_figure(table, dataset) for dataset in table.sets)
    sections = [
        Section("Scores", score_table(table).html()),
        Section("Differences", differences.html() if differences else ""),
        Section("Against the number of clicks", charts),
        Section("Pictures", embedded_picture(picture) + paragraphs([_PICTURE]) if picture else ""),
        Section("How to read this", paragraphs(method_notes(table))),
    ]
    box = f'<div class="say bound">{remarks}</div>' if remarks else ""
    lead = f"{', '.join(table.methods)} on {', '.join(table.sets)}"
    return page(_TITLE, lead, sections, remarks=box)


def _figure(table: MethodTable, dataset: str) -> str:
    """Draw the mean Dice on a data set; nothing if no method was asked more than once."""
    series = []
    for name in table.methods:
        means = {
            row.clicks: row.scores[dataset]["dice"].mean
            for row in table.rows
            if row.method == name and row.clicks >= 0 and dataset in row.scores
        }
        points = {clicks: (mean, None) for clicks, mean in means.items() if mean is not None}
        series.append(Series(name, points))
    if len({clicks for one in series for clicks in one.means}) < 2:
        return ""
    title = f"Dice on {dataset} against the number of clicks"
    return chart(line_chart(series, title=title), f"Mean {title}.")


def _json(table: MethodTable) -> str:
    content = {**asdict(table), "reference": table.methods[0], "notes": method_notes(table)}
    return json.dumps(plain_numbers(content), indent=1, ensure_ascii=False) + "\n"


def _csv(table: MethodTable) -> str:
    """Return a line per method, number of clicks, data set and metric."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row in table.rows:
        sizes = table.sizes[row.method]
        counts = [" / ".join(str(getattr(s, k)) for s in sizes) for k in ("parameters", "trained")]
        for dataset, scores in row.scores.items():
            differences = {one.metric: one for one in row.differences.get(dataset, ())}
            for metric, score in scores.items():
                cells = [row.method, row.clicks, dataset, metric]
                cells += [score.objects, score.mean, score.std, row.seconds, *counts]
                writer.writerow([*cells, *_difference_cells(differences.get(metric))])
    return lines.getvalue()


def _difference_cells(difference: Difference | None) -> Sequence[object]:
    if difference is None:
        return [""] * 7
    paired = difference.paired
    counts = paired.wins, paired.ties, paired.losses
    return [difference.against, paired.mean, *counts, paired.p_value, difference.p_holm]
