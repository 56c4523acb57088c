"""The report of a prepared set: a table for people and a JSON file for programs.

The JSON file says nothing about the run, only about its result: a run that was killed and begun
again ends with the same report as one that was not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from rich.console import Console
from rich.table import Table

from neurosam3d.data.prepare.problems import MEANINGS, Problem, group_by_kind
from neurosam3d.data.prepare.record import CaseRecord
from neurosam3d.data.tree import write_json

_NAMES_SHOWN = 3
_SENTENCE_SHOWN = 80  # characters


@dataclass(frozen=True)
class SetReport:
    """What came of preparing one set.

    Args:
        title: The set, as `<NAME>_<SET>`.
        records: What was made of each case, in the order of their names.
        listing_problems: What could not even be listed.
        duplicates: Notes on images that are elsewhere, too.
        num_kept: How many cases were there already.
    """

    title: str
    records: tuple[CaseRecord, ...]
    listing_problems: tuple[Problem, ...] = ()
    duplicates: tuple[Problem, ...] = ()
    num_kept: int = 0

    @property
    def num_cases(self) -> int:
        """Number of cases with a label that could be prepared, be it in part."""
        return sum(bool(record.labels) for record in self.records)

    @property
    def num_empty_cases(self) -> int:
        """Number of sound cases without a voxel of any class."""
        return sum(record.is_empty for record in self.records)

    @property
    def num_entries(self) -> int:
        """Number of labels: classes with at least one voxel, over all cases."""
        return sum(len(record.labels) for record in self.records)

    @property
    def num_empty(self) -> int:
        """Number of classes without a voxel, which have neither file nor entry."""
        return sum(len(record.empty) for record in self.records)

    @property
    def num_skipped(self) -> int:
        """Number of cases of which nothing was made, be it for want of an image or a label."""
        listed = {problem.case for problem in self.listing_problems if problem.case}
        lost = listed - {record.case for record in self.records}
        return len(lost) + sum(record.is_skipped for record in self.records)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong, those of listing first."""
        own = (problem for record in self.records for problem in record.problems)
        return (*self.listing_problems, *own, *self.duplicates)

    @property
    def is_complete(self) -> bool:
        """Whether nothing was lost: there are notes at most."""
        return all(problem.is_note for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: totals, counts by kind, and every case with its problems."""
        by_case: dict[str, CaseRecord] = {record.case: record for record in self.records}
        for problem in (*self.listing_problems, *self.duplicates):
            record = by_case.get(problem.case, CaseRecord(problem.case))
            by_case[problem.case] = replace(record, problems=(*record.problems, problem))
        general = by_case.pop("", CaseRecord("")).problems
        return {
            "set": self.title,
            "totals": {
                "cases": self.num_cases,
                "labels": self.num_entries,
                "empty_classes": self.num_empty,
                "empty_cases": self.num_empty_cases,
                "skipped": self.num_skipped,
            },
            "problems": {k: len(found) for k, found in group_by_kind(self.problems).items()},
            "general": [problem.to_json() for problem in general],
            "cases": [by_case[case].to_json() for case in sorted(by_case)],
        }


def write_report(path: Path, report: SetReport) -> None:
    """Write the JSON form; the file appears whole or not at all."""
    write_json(path, report.to_json())


def show_problems(console: Console, title: str, problems: Sequence[Problem]) -> None:
    """Print a table with a row per kind of problem; nothing where there is none.

    Args:
        console: Where to.
        title: What the problems belong to.
        problems: What to count.
    """
    if not problems:
        return
    console.print(title, markup=False, highlight=False)
    table = Table()
    table.add_column("count", justify="right")
    table.add_column("what")
    table.add_column("what it means", overflow="fold")
    table.add_column("cases", overflow="fold")
    for kind, found in group_by_kind(problems).items():
        table.add_row(str(len(found)), kind, _explain(found), _name_some(found))
    console.print(table, soft_wrap=False)


def _explain(problems: Sequence[Problem]) -> str:
    """Say what a kind means; of notes, which are not told one by one, also give the first."""
    meaning = MEANINGS[problems[0].kind]
    if not problems[0].is_note:
        return meaning
    return f"{meaning}\n{shorten(problems[0].sentence, _SENTENCE_SHOWN, placeholder=' ...')}"


def _name_some(problems: Iterable[Problem]) -> str:
    cases = list(dict.fromkeys(problem.case for problem in problems if problem.case))
    more = len(cases) - _NAMES_SHOWN
    return ", ".join(cases[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
