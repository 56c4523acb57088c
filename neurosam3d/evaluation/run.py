"""Many scans judged: in parts, resumable, with a progress bar and pictures of the worst.

While `<name>.json` is in the making, `<name>.journal.jsonl` holds what is found so far. The
pictures are in `<name>_worst`.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from neurosam3d.claims import claimed
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.groups import Groups
from neurosam3d.evaluation.journal import Journal, Key, key_of
from neurosam3d.evaluation.object_scoring import Finding, LeftOut, Unreadable
from neurosam3d.evaluation.report import SUFFIXES, write_results
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.worst_pictures import WorstPictures
from neurosam3d.files import clear_abandoned

logger = logging.getLogger(__name__)


class Evaluator(Protocol):
    """What judges one scan."""

    def evaluate(self, scan: Scan, *, finished: Collection[Key] = ()) -> Iterator[Finding]:
        """Yield what is found of the objects that are not finished."""


@dataclass(frozen=True)
class Outcome:
    """What came of an evaluation.

    Args:
        results: One per object and repeat, in the order of their names.
        left_out: Objects that were not judged, and why.
        unreadable: Files that could not be read, and why.
    """

    results: list[CaseResult]
    left_out: list[dict[str, Any]]
    unreadable: list[dict[str, str]]


def take_part(scans: Sequence[Scan], *, index: int, number: int) -> list[Scan]:
    """Return every `number`-th scan from the `index`-th on, with all of its objects.

    Raises:
        ValueError: If there is no such part.
    """
    if not 0 <= index < number:
        raise ValueError(
            f"split_idx must be one of split_num parts counted from 0, got {index} of {number}"
        )
    return list(scans[index::number])


def name_result(save_name: Path, *parts: str) -> Path:
    """Add parts to the name of a result file, before its suffix if it has one."""
    stem, suffix = _split_name(save_name)
    return save_name.with_name("_".join((stem, *parts)) + suffix)


def journal_of(save_name: Path) -> Path:
    """Return the journal of a result file: it is there while the result is in the making."""
    stem, _ = _split_name(save_name)
    return save_name.with_name(f"{stem}.journal.jsonl")


def run_evaluation(
    scans: Sequence[Scan],
    evaluator: Evaluator,
    *,
    save_name: Path,
    protocol: Mapping[str, Any],
    also: Mapping[str, Any],
    console: Console,
    groups: Groups | None = None,
    restart: bool = False,
) -> tuple[Outcome, list[Path]]:
    """Judge scans, or go on with judging them, and write the results.

    Args:
        scans: The scans.
        evaluator: Judges one.
        save_name: Result file, as `write_results` takes it.
        protocol: Its `name` and everything else that results depend on; a journal must agree.
        also: What else the result is to say, such as which part of an evaluation it is.
        console: Where the progress bar is shown.
        groups: Anatomical groups of the classes; by default the shipped ones.
        restart: Begin anew even if an unfinished evaluation left its journal.

    Returns:
        What came of it, and the files that were written.

    Raises:
        ValueError: If an unfinished evaluation of another protocol has the same name, or another
            process is about one.
    """
    stem, _ = _split_name(save_name)
    work, advice = f"evaluation into {save_name}", "wait for its end, or give another name"
    with claimed(save_name.with_name(f".{stem}.lock"), work=work, advice=advice):
        folder = save_name.with_name(f"{stem}_worst")
        for place in (save_name.parent, folder):
            clear_abandoned(place, below=False)
        journal = Journal.start(journal_of(save_name), protocol, restart=restart)
        pictures = WorstPictures(folder, results=journal.results.values())
        outcome = judge_scans(
            scans,
            evaluator,
            journal=journal,
            pictures=pictures,
            console=console,
            title=protocol["name"],
        )
        said = {**protocol, **also, "left_out": outcome.left_out, "unreadable": outcome.unreadable}
        paths = write_results(
            save_name, outcome.results, protocol=said, pictures=pictures.paths(), groups=groups
        )
        if not outcome.unreadable:
            journal.remove()
        return outcome, paths


def judge_scans(
    scans: Sequence[Scan],
    evaluator: Evaluator,
    *,
    journal: Journal,
    pictures: WorstPictures,
    console: Console,
    title: str,
) -> Outcome:
    """Judge scans one after the other.

    What cannot be read is logged as an error at once, and the rest goes on.

    Args:
        scans: The scans.
        evaluator: Judges one.
        journal: Keeps what is found. What it holds already is not judged again.
        pictures: Draws the worst.
        console: Where the progress bar is shown.
        title: What it is called.
    """
    unreadable: list[dict[str, str]] = []
    with _progress(title, len(scans), console) as show:
        for number, scan in enumerate(scans):
            show(number, journal.results.values())
            if str(scan.image) not in journal.left_out:
                found = judge_scan(
                    scan, evaluator, journal=journal, pictures=pictures, unreadable=unreadable
                )
                for _ in found:
                    show(number, journal.results.values())
        show(len(scans), journal.results.values())
    images = dict.fromkeys(str(scan.image) for scan in scans)
    results = [result for result in journal.results.values() if result.image in images]
    left_out = [entry for image in images for entry in journal.left_out.get(image, ())]
    return Outcome(sorted(results, key=key_of), left_out, unreadable)


def judge_scan(
    scan: Scan,
    evaluator: Evaluator,
    *,
    journal: Journal,
    pictures: WorstPictures,
    unreadable: list[dict[str, str]],
) -> Iterator[CaseResult]:
    """Judge the objects of a scan and yield each result once it is in the journal.

    Args:
        scan: The scan.
        evaluator: Judges it.
        journal: Keeps what is found; what it holds already is not judged again.
        pictures: Draws the worst.
        unreadable: Gets what cannot be read, which is also logged as an error.
    """
    left_out, is_whole = [], True
    for finding in evaluator.evaluate(scan, finished=journal.results):
        if isinstance(finding, Unreadable):
            logger.error("%s", finding.reason)
            unreadable.append(asdict(finding))
            is_whole = False
        elif isinstance(finding, LeftOut):
            said = {key: value for key, value in asdict(finding).items() if value not in ("", None)}
            left_out.append({"case": scan.case, **said})
        else:
            pictures.offer(finding)  # before the journal, which then knows of no picture too many
            journal.add(finding.result)
            yield finding.result
    if is_whole:
        journal.close(str(scan.image), left_out)


@contextmanager
def _progress(
    title: str, total: int, console: Console
) -> Iterator[Callable[[int, Collection[CaseResult]], None]]:
    """Show a bar of scans with the mean Dice after the last click so far."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("scans, {task.fields[mean]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, mean="no object yet")

        def show(done: int, results: Collection[CaseResult]) -> None:
            last = [result.rounds[-1] for result in results]
            if last:
                mean = f"Dice {fmean(r.dice for r in last):.3f} after {last[-1].clicks} clicks"
                progress.update(task, mean=f"{mean}, {len(last)} objects")
            progress.update(task, completed=done)

        yield show


def _split_name(save_name: Path) -> tuple[str, str]:
    """Return the name of a result file without its suffix, and the suffix if it is a known one."""
    suffix = save_name.suffix if save_name.suffix in SUFFIXES else ""
    return save_name.name.removesuffix(suffix), suffix
