"""The report of an evaluation: JSON, CSV, Markdown, HTML, the classic file, and the terminal."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosam3d.evaluation.classic_files import to_classic
from neurosam3d.evaluation.groups import Groups, shipped_groups
from neurosam3d.evaluation.html_report import html_report
from neurosam3d.evaluation.legacy_figures import KEY as LEGACY_KEY
from neurosam3d.evaluation.legacy_figures import legacy_figures
from neurosam3d.evaluation.markdown_report import markdown_report
from neurosam3d.evaluation.result_files import read_results, to_csv, to_json
from neurosam3d.evaluation.results import CaseResult, Results, RoundResult, merge_results
from neurosam3d.evaluation.summary import summarise, summarise_challenge
from neurosam3d.evaluation.summary_tables import split_table, worst_cases
from neurosam3d.files import replacing

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "CaseResult",
    "Results",
    "RoundResult",
    "merge_results",
    "read_results",
    "results_table",
    "summarise",
    "worst_cases",
    "write_results",
]

SUFFIXES = (".json", ".csv", ".md", ".html", ".py")


def write_results(
    save_name: Path,
    cases: Sequence[CaseResult],
    *,
    protocol: Mapping[str, Any],
    pictures: Sequence[Path] = (),
    groups: Groups | None = None,
) -> list[Path]:
    """Write the results of an evaluation as `<save_name>.json`, `.csv`, `.md` and `.html`.

    A name that ends in `.py` adds the classic file `dice_Ts = {label path: dice}`. Each file
    appears complete or not at all, and none of them if one cannot be made. An infinite number is
    the text `inf`; no number is rounded in JSON, CSV and the classic file.

    Args:
        save_name: Where to write; a suffix .json, .csv, .md, .html or .py is left out of the name.
        cases: The results.
        protocol: How they came about, as JSON can hold it. By `name` (oracle_roi, prompt_roi,
            cvpr25) the report says what the figures mean, by `tolerance_mm` and `legacy` how they
            were measured, and by `legacy_figures` whose means it has beside them; it shows whatever
            else there is.
        pictures: PNG files of the worst objects.
        groups: Anatomical groups of the cases that have none; by default the shipped ones.

    Returns:
        The paths of the files.

    Raises:
        ValueError: If a picture cannot be read or is no PNG file.
        TypeError: If the protocol holds what JSON cannot.
    """
    groups = groups or shipped_groups()
    cases = groups.assign(cases)
    summary = summarise(cases, groups=groups)
    if protocol.get("name") == "cvpr25":
        summary["cvpr25"] = summarise_challenge(cases)
    if program := protocol.get(LEGACY_KEY):
        summary[LEGACY_KEY] = legacy_figures(
            cases, left_out=protocol.get("left_out", ()), name=program
        )
    name = save_name.name
    for suffix in SUFFIXES:  # a name such as run_1.5mm has no suffix to take away
        name = name.removesuffix(suffix)
    texts = {
        ".json": to_json(cases, protocol=protocol, summary=summary),
        ".csv": to_csv(cases),
        ".md": markdown_report(
            name,
            cases,
            protocol=protocol,
            summary=summary,
            pictures=[os.path.relpath(picture, save_name.parent) for picture in pictures],
        ),
        ".html": html_report(name, cases, protocol=protocol, summary=summary, pictures=pictures),
    }
    if save_name.suffix == ".py":
        texts[".py"] = to_classic(cases)
    paths = []
    for suffix, text in texts.items():
        paths.append(save_name.with_name(f"{name}{suffix}"))
        with replacing(paths[-1]) as partial:
            partial.write_text(text, encoding="utf-8")
    return paths


def results_table(cases: Sequence[CaseResult], *, title: str = "Classes") -> "Table":
    """Lay the mean Dice out for the terminal, one row per class and one for all.

    Args:
        cases: The results.
        title: Heading of the table.
    """
    summary = summarise(cases)
    by_class, by_clicks = summary["by_class"], summary["by_clicks"]
    return split_table(title, "class", by_class, by_clicks, is_brief=True).terminal()
