"""Step 2: prepare every case of one set of a dataset and write its index."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from neurosam3d.data.prepare.convert import CaseJob, CaseResult, prepare_case
from neurosam3d.data.prepare.listing import Listing, RawItem
from neurosam3d.data.prepare.progress import run_jobs
from neurosam3d.data.prepare.split import write_keeping_split
from neurosam3d.data.tree import Tree

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetReport:
    """What came of preparing one set.

    Args:
        num_entries: Index entries written: classes with at least one voxel, over all cases.
        num_empty: Classes without a voxel, which have neither file nor entry.
        num_skipped: Broken cases.
    """

    num_entries: int
    num_empty: int
    num_skipped: int


def prepare_set(tree: Tree, listing: Listing, set_name: str, *, workers: int) -> SetReport:
    """Prepare one set of a listed dataset, then write its index.

    A case that is broken is skipped with one sentence in the log; the others are prepared.

    Args:
        tree: Where the prepared files go.
        listing: The dataset's raw files.
        set_name: Tr, Val or Ts.
        workers: Number of processes.

    Raises:
        ValueError: If the listing has no such set, or not one case could be prepared.
    """
    start = time.monotonic()
    title = f"{listing.name}_{set_name}"
    items = listing.items.get(set_name)
    if not items:
        found = ", ".join(f"{listing.name}_{known}" for known in listing.items)
        raise ValueError(f"no raw files are listed for {title}; listed are {found or 'none'}")
    jobs = _jobs(tree, listing, set_name, items)
    results: dict[int, CaseResult] = {}
    for position, result in run_jobs(prepare_case, jobs, workers=workers, title=title):
        results[position] = result
        if result.problem:
            logger.warning(result.problem)
    ordered = [results[position] for position in range(len(jobs))]
    cases = [case for result in ordered for case in result.cases]
    if not cases:
        raise ValueError(f"{title}: none of its {len(jobs)} cases gave a class with a voxel")
    index = write_keeping_split(tree, listing.name, set_name, cases)
    report = SetReport(
        num_entries=len(cases),
        num_empty=sum(result.num_empty for result in ordered),
        num_skipped=sum(result.problem is not None for result in ordered),
    )
    _log_channels(title, ordered)
    _log_summary(index, report, len(jobs), time.monotonic() - start)
    return report


def _jobs(tree: Tree, listing: Listing, set_name: str, items: Sequence[RawItem]) -> list[CaseJob]:
    """One job per case, in the order of their names."""
    listed_ns = tree.dataset_json(listing.name).stat().st_mtime_ns
    by_case = sorted(items, key=lambda item: item.case)
    return [
        CaseJob(tree, listing.name, set_name, tuple(group), listing.modality, listed_ns)
        for _, group in groupby(by_case, key=lambda item: item.case)
    ]


def _log_channels(title: str, results: Sequence[CaseResult]) -> None:
    several = sum(result.num_channels > 1 for result in results)
    if several:
        logger.info("%s: %d images have several channels; one was stored", title, several)


def _log_summary(index: Path, report: SetReport, num_cases: int, seconds: float) -> None:
    logger.info(
        "%s: cases %d, labels %d, classes without a voxel %d, skipped cases %d, %.1f s",
        index,
        num_cases - report.num_skipped,
        report.num_entries,
        report.num_empty,
        report.num_skipped,
        seconds,
    )
