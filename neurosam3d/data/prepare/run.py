"""Step 2: prepare every case of one set of a dataset and write its index and its report."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from neurosam3d.claims import claimed
from neurosam3d.data.case import Case
from neurosam3d.data.index import read_index
from neurosam3d.data.prepare.convert import CaseJob, CaseResult, index_cases, prepare_case
from neurosam3d.data.prepare.duplicates import find_duplicates, name_places
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.prepare.progress import console, run_jobs
from neurosam3d.data.prepare.record import Journal, read_records
from neurosam3d.data.prepare.report import SetReport, show_problems, write_report
from neurosam3d.data.prepare.split import check_indexes, write_keeping_split
from neurosam3d.data.tree import Tree, split_set_name
from neurosam3d.files import clear_abandoned

logger = logging.getLogger(__name__)


def prepare_set(tree: Tree, listing: Listing, set_name: str, *, workers: int) -> SetReport:
    """Prepare one set of a listed dataset, then write its index and its report.

    A case that is broken is skipped with one sentence in the log; the others are prepared.

    Args:
        tree: Where the prepared files go.
        listing: The dataset's raw files.
        set_name: Tr, Val or Ts.
        workers: Number of processes.

    Raises:
        ValueError: If the listing has no such set, not one case could be prepared, the index of
            an earlier run is damaged, another process prepares the set, or the files cannot be
            written.
    """
    name, start = listing.name, time.monotonic()
    if not (listing.items.get(set_name) or listing.problems.get(set_name)):
        raise ValueError(_why_nothing(listing, set_name))
    check_indexes(tree, name, set_name)
    work, lock = f"preparation of {name}_{set_name}", tree.lock(name, set_name)
    try:
        with claimed(lock, work=work, advice="wait for its end, or give another --out"):
            report, cases = _prepare_cases(tree, listing, set_name, workers=workers)
            _report(tree, name, set_name, report)
            if not cases:
                raise ValueError(_why_nothing(listing, set_name))
            index = write_keeping_split(tree, name, set_name, cases)
            _clear_abandoned(tree, name)
    except OSError as error:
        raise ValueError(
            f"{name}_{set_name} is stopped: cannot write in {tree.dataset(name)}: "
            f"{error.strerror or error}; run it again to go on"
        ) from error
    _log_summary(index, report, time.monotonic() - start)
    return report


def _prepare_cases(
    tree: Tree, listing: Listing, set_name: str, *, workers: int
) -> tuple[SetReport, list[Case]]:
    """Return the report and the index entries."""
    _clear_abandoned(tree, listing.name)
    title = f"{listing.name}_{set_name}"
    journal = Journal(tree.journal(listing.name, set_name))
    jobs = _jobs(tree, listing, set_name, journal)
    results: dict[int, CaseResult] = {}
    for position, result in run_jobs(prepare_case, jobs, workers=workers, title=title):
        results[position] = result
        if not result.is_kept:
            journal.append(result.record)
        for problem in result.record.problems:
            if not problem.is_note:
                logger.warning("%s: %s", title, problem)
    ordered = [results[position] for position in range(len(jobs))]
    records = tuple(result.record for result in ordered)
    cases = [c for job, record in zip(jobs, records, strict=True) for c in index_cases(job, record)]
    report = SetReport(
        title=title,
        records=records,
        listing_problems=tuple(listing.problems.get(set_name, ())),
        duplicates=_note_duplicates(tree, title, cases),
        num_kept=sum(result.is_kept for result in ordered),
    )
    return report, cases


def _report(tree: Tree, name: str, set_name: str, report: SetReport) -> None:
    """Write the report, which makes the journal needless, and show it."""
    path = tree.report(name, set_name)
    write_report(path, report)
    tree.journal(name, set_name).unlink(missing_ok=True)
    title = f"{report.title}: what was found, case by case in {path}"
    show_problems(console, title, report.problems)


def _why_nothing(listing: Listing, set_name: str) -> str:
    """Say why there is nothing to write an index of."""
    title = f"{listing.name}_{set_name}"
    num_cases = len({item.case for item in listing.items.get(set_name, ())})
    if num_cases:
        return f"{title}: none of its {num_cases} cases gave a class with a voxel"
    found = ", ".join(f"{listing.name}_{known}" for known in listing.items)
    return f"no raw files are listed for {title}; listed are {found or 'none'}"


def _jobs(tree: Tree, listing: Listing, set_name: str, journal: Journal) -> list[CaseJob]:
    """One job per case, in the order of their names, with what is known of it."""
    known = {**read_records(tree.report(listing.name, set_name)), **journal.read()}
    by_case = sorted(listing.items.get(set_name, ()), key=lambda item: item.case)
    return [
        CaseJob(tree, listing.name, set_name, tuple(group), listing.modality, known.get(case))
        for case, group in groupby(by_case, key=lambda item: item.case)
    ]


def _note_duplicates(tree: Tree, title: str, cases: Sequence[Case]) -> tuple[Problem, ...]:
    """Note which images of a set are in it twice, or in another set of any dataset."""
    sets: dict[str, Sequence[Case]] = {title: cases}
    for other in tree.list_sets():
        if other != title:
            with suppress(ValueError):  # an index that cannot be read is the matter of --check
                sets[other] = read_index(tree.index(*split_set_name(other)))
    notes = []
    for group in find_duplicates(sets):
        for place in group:
            if place.set_name == title:
                others = [other for other in group if other.image != place.image]
                sentence = f"{place.case} shows the same as {name_places(others)}"
                notes.append(Problem(Kind.DUPLICATE, sentence, place.case))
    return tuple(notes)


def _clear_abandoned(tree: Tree, name: str) -> None:
    """Remove what writers that were killed have left half done."""
    clear_abandoned(tree.dataset(name))
    clear_abandoned(tree.root, below=False)


def _log_summary(index: Path, report: SetReport, seconds: float) -> None:
    logger.info(
        "%s: cases %d, labels %d, classes without a voxel %d, skipped cases %d, kept %d, %.1f s",
        index,
        report.num_cases,
        report.num_entries,
        report.num_empty,
        report.num_skipped,
        report.num_kept,
        seconds,
    )
