"""What the picture of a plan shows, gathered while its methods are judged."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from neurosam3d.commands.compare_tasks import Task
from neurosam3d.commands.network import Network
from neurosam3d.evaluation.journal import key_of
from neurosam3d.evaluation.method_pictures import Tile, choose_typical, cut_tile, plot_methods
from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.results import CaseResult, Results


class Pictures:
    """Typical objects of each data set, and how each method sees them.

    Which objects are typical, the first method says that has the data set. A method judges them
    once more, exactly as before; what the picture shows of them is kept beside its results.

    Args:
        number: How many objects of each data set are drawn.
        restart: Whether what is kept is not to be used.
    """

    def __init__(self, number: int, *, restart: bool = False) -> None:
        self.number = number
        self.restart = restart
        self._typical: dict[str, list[CaseResult]] = {}
        self._rows: dict[str, dict[str, Tile]] = {}
        self._methods: list[str] = []

    def choose(self, results: Mapping[str, Results]) -> None:
        """Choose the objects of data sets that have none yet."""
        for dataset, own in results.items():
            if dataset not in self._typical:
                self._typical[dataset] = choose_typical(own.cases, self.number)

    def add(self, task: Task, results: Results, load: Callable[[], Network]) -> None:
        """Take in how a method sees the objects of its data set.

        Args:
            task: The method on that data set.
            results: What came of it.
            load: Returns the network; called only if something is not kept.
        """
        self._methods = list(dict.fromkeys([*self._methods, task.method]))
        for case in self._typical[task.dataset]:
            path = task.tile_path(case)
            if self.restart or not path.is_file():
                _write_tile(path, task, load(), case, results)
            if path.is_file():
                name = f"{case.dataset}\n{case.class_name}, {case.case}"
                self._rows.setdefault(name, {})[task.method] = Tile.read(path)

    def plot(self, path: Path) -> Path | None:
        """Draw the picture and return its path; None without an object."""
        return plot_methods(path, self._rows, methods=self._methods) if self._rows else None


def _write_tile(
    path: Path, task: Task, network: Network, case: CaseResult, results: Results
) -> None:
    """Judge one object once more, and keep what a picture shows; nothing if it was left out."""
    others = {key_of(other) for other in results.cases if other.object != case.object}
    others |= {key_of(replace(case, repeat=n)) for n in range(1, task.options.repeats)}
    for scan in task.scans:
        if (scan.dataset, scan.set_name, scan.case) != case.scan:
            continue
        for finding in task.evaluator(network).evaluate(scan, finished=others):
            if isinstance(finding, Judged) and finding.result.object == case.object:
                cut_tile(finding).write(path)
