"""A plan carried out: every method judged on every data set; what is finished is not judged again.

<out>/<method>/<data set>.json      what `neurosam3d evaluate` writes, with all that is beside it
<out>/<method>/pictures/<...>.npz   what the picture shows of a method
<out>/table.md, .html, .json, .csv  the table
<out>/table.png                     the picture
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

from neurosam3d.commands.compare_pictures import Pictures
from neurosam3d.commands.compare_plan import Plan, PlannedMethod
from neurosam3d.commands.compare_tasks import Task, plan_tasks
from neurosam3d.commands.evaluate import list_asked
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.method_report import write_method_table
from neurosam3d.evaluation.method_table import MethodResults, MethodTable, tabulate_methods
from neurosam3d.evaluation.result_files import read_results
from neurosam3d.evaluation.results import Results
from neurosam3d.evaluation.tables import show_count

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PlanOutcome:
    """What came of a plan.

    Args:
        table: The table.
        paths: The files that were written.
        is_whole: Whether every file could be read.
    """

    table: MethodTable
    paths: Sequence[Path]
    is_whole: bool


def run_plan(plan: Plan, *, restart: bool = False) -> PlanOutcome:
    """Judge all methods of a plan, and write table and picture.

    All networks are loaded once before the first is judged, so that a mistake shows at once.

    Args:
        plan: The plan.
        restart: Judge anew whatever is finished or begun.

    Raises:
        ValueError: If a file is missing or unfit, or the methods share no object.
    """
    scans = _list_scans(plan)
    tasks = {method.name: plan_tasks(method, plan, scans) for method in plan.methods}
    pictures, found = Pictures(plan.pictures, restart=restart), {}
    for method in plan.methods:
        if method.has_results:
            found[method.name] = _read_given(method)
            pictures.choose(found[method.name])
        else:
            found[method.name] = _judge(tasks[method.name], pictures, restart=restart)
    sets = list(scans) or _sets_of(plan, found)
    table = tabulate_methods(
        [
            MethodResults(
                method.name,
                {name: own for name, own in found[method.name].items() if name in sets},
                list(dict.fromkeys(task.size for task in tasks[method.name])),
                method.note,
            )
            for method in plan.methods
        ],
        sets=sets,
        clicks=plan.clicks,
    )
    picture = pictures.plot(plan.out / "table.png")
    paths = write_method_table(plan.out, table, picture=picture)
    protocols = [results.protocol for own in found.values() for results in own.values()]
    is_whole = not any(protocol.get("unreadable") for protocol in protocols)
    return PlanOutcome(table, [*paths, *([picture] if picture else [])], is_whole)


def _list_scans(plan: Plan) -> dict[str, list[Scan]]:
    """List the scans by data set; none if all results are there already."""
    if all(method.has_results for method in plan.methods):
        return {}
    by_set: dict[str, list[Scan]] = {}
    for scan in list_asked(plan.options, plan.options.protocol):
        by_set.setdefault(scan.dataset, []).append(scan)
    for method in plan.methods:
        for name in method.files:
            if name and name not in by_set:
                raise ValueError(
                    f"{plan.path}, {method.name} has a file for {name}, which is none of the data "
                    f"sets: {', '.join(by_set)}"
                )
    return by_set


def _judge(tasks: Sequence[Task], pictures: Pictures, *, restart: bool) -> dict[str, Results]:
    """Judge a method on its data sets, each network loaded at most once and only if needed."""
    found = {}
    for _, group in groupby(tasks, key=lambda task: task.options.checkpoint_path):
        own = list(group)
        load = cache(own[0].load)
        for task in own:
            results = None if restart else task.finished()
            if results is None:
                logger.info("judging %s on %s", task.method, task.dataset)
                results = task.judge(load(), restart=restart)
            else:
                many = show_count(len(results.cases), "result")
                logger.info("%s on %s: %s, finished", task.method, task.dataset, many)
            found[task.dataset] = results
            pictures.choose({task.dataset: results})
            pictures.add(task, results, load)
    return found


def _read_given(method: PlannedMethod) -> dict[str, Results]:
    """Read the results that are there already, by data set."""
    found: dict[str, Results] = {}
    for name, path in method.files.items():
        results = read_results(path)
        for dataset in dict.fromkeys(case.dataset for case in results.cases):
            if name in ("", dataset):
                cases = [case for case in results.cases if case.dataset == dataset]
                found[dataset] = Results(results.protocol, cases)
    return found


def _sets_of(plan: Plan, found: Mapping[str, Mapping[str, Results]]) -> list[str]:
    """Return the data sets of results that are there already, those that were asked for."""
    known = list(dict.fromkeys(name for own in found.values() for name in own))
    return list(plan.options.datasets) or known
