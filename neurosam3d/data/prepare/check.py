"""Verify a prepared tree: every file an index names is there and is what it should be."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isclose

from neurosam3d.data.index import Case, read_index
from neurosam3d.data.prepare.convert import voxel_mm3
from neurosam3d.data.prepare.progress import run_jobs
from neurosam3d.data.tree import Tree, split_set_name
from neurosam3d.volume import Grid, read_volume


@dataclass(frozen=True)
class CheckReport:
    """What was looked at and what is wrong with it.

    Args:
        num_sets: Indexes read.
        num_labels: Labels read.
        problems: One sentence each.
    """

    num_sets: int
    num_labels: int
    problems: tuple[str, ...]


def check_tree(tree: Tree, *, names: Sequence[str] = (), workers: int = 1) -> CheckReport:
    """Read every image and label that the indexes of a tree name.

    Args:
        tree: The prepared tree.
        names: Datasets to check; none for all.
        workers: Number of processes.

    Raises:
        ValueError: If there is no index to check.
    """
    set_names = [s for s in tree.list_sets() if not names or split_set_name(s)[0] in names]
    if not set_names:
        wanted = f" of {', '.join(names)}" if names else ""
        raise ValueError(f"no index{wanted} to check in {tree.root}")
    sets: dict[str, list[Case]] = {}
    problems: list[str] = []
    for set_name in set_names:
        try:
            sets[set_name] = read_index(tree.index(*split_set_name(set_name)))
        except ValueError as error:
            problems.append(str(error))
    problems += [f"{name} has no entries" for name, cases in sets.items() if not cases]
    problems += _check_separation(sets)
    cases = [case for found in sets.values() for case in found]
    by_image = sorted(cases, key=lambda case: case.image)
    jobs = [tuple(group) for _, group in groupby(by_image, key=lambda case: case.image)]
    results = dict(run_jobs(check_image, jobs, workers=workers, title="check"))
    problems += [problem for position in range(len(jobs)) for problem in results[position]]
    return CheckReport(len(sets), len(cases), tuple(problems))


def check_image(cases: Sequence[Case]) -> tuple[str, ...]:
    """Check one image and the labels of its classes; return what is wrong."""
    try:
        image = read_volume(cases[0].image)
    except ValueError as error:
        return (str(error),)
    if image.data.shape[0] != 1:
        return (f"{cases[0].image} has {image.data.shape[0]} channels, expected 1",)
    grid = image.grid
    return tuple(problem for case in cases for problem in _check_label(case, grid))


def _check_label(case: Case, grid: Grid) -> Iterator[str]:
    try:
        label = read_volume(case.label)
    except ValueError as error:
        yield str(error)
        return
    if not label.grid.same_as(grid):
        yield f"{case.label} does not lie on the grid of {case.image}"
    if not bool(((label.data == 0) | (label.data == 1)).all()):
        yield f"{case.label} holds values other than 0 and 1"
    volume = int((label.data == 1).sum()) * voxel_mm3(grid)
    if volume == 0:
        yield f"{case.label} has no voxel of its class"
    elif not isclose(volume, case.volume_mm3, rel_tol=1e-3):
        yield f"{case.label} measures {volume:.1f} mm^3, the index says {case.volume_mm3}"
    if not all(
        isclose(a, b, rel_tol=1e-3) for a, b in zip(grid.spacing, case.spacing, strict=True)
    ):
        yield f"{case.image} has spacing {grid.spacing} mm, the index says {case.spacing}"


def _check_separation(sets: Mapping[str, Iterable[Case]]) -> list[str]:
    """No patient may be in two sets of one dataset."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for set_name, cases in sets.items():
        for case in cases:
            found[split_set_name(set_name)[0], case.group].add(set_name)
    return [
        f"patient {group!r} is in {' and '.join(sorted(names))}"
        for (_, group), names in found.items()
        if len(names) > 1
    ]
