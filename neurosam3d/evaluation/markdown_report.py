"""The report of an evaluation as Markdown, which GitHub and editors show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosam3d.evaluation.legacy_figures import published_tables
from neurosam3d.evaluation.report_text import explanations, headline, meaning
from neurosam3d.evaluation.results import CaseResult
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
from neurosam3d.evaluation.tables import markdown_text


def markdown_report(
    title: str,
    cases: Sequence[CaseResult],
    *,
    protocol: Mapping[str, Any],
    summary: Mapping[str, Any],
    pictures: Sequence[str] = (),
) -> str:
    """Return the text of a Markdown file that shows an evaluation.

    Args:
        title: Its title.
        cases: The results.
        protocol: How they came about.
        summary: Their averages, as `summarise` returns them.
        pictures: Pictures of the worst objects, as paths relative to the file.
    """
    by_clicks, worst = summary["by_clicks"], worst_cases(cases)
    tables = [
        protocol_table(protocol) if protocol else None,
        left_out_table(protocol),
        challenge_table(summary.get("cvpr25")),
        overall_table(by_clicks),
        further_table(by_clicks),
        *split_tables(summary),
        *published_tables(summary),
        seconds_table(by_clicks),
        worst_table(worst) if worst else None,
    ]
    parts = [
        f"# {markdown_text(title)}",
        f"**{markdown_text(headline(summary, cases))}**",
        f"> {markdown_text(meaning(protocol))}",
        *(table.markdown().strip() for table in tables if table),
        *(f"![{markdown_text(Path(path).stem)}](<{Path(path).as_posix()}>)" for path in pictures),
        "### How to read this",
        *map(markdown_text, explanations(protocol, summary, cases)),
    ]
    return "\n\n".join(parts) + "\n"
