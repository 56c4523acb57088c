"""How the prepared training cases of a dataset are divided among its sets.

Only index entries move: a validation or test entry made by a split keeps its files in `imagesTr`
and `labelsTr`, by which it is told from one that the raw data brought.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from neurosam3d.data.case import Case
from neurosam3d.data.index import read_index, write_index
from neurosam3d.data.tree import Tree

HELD_OUT = ("Val", "Ts")


def read_entries(tree: Tree, name: str, set_name: str) -> Sequence[Case]:
    """Read the index of a set; none without one.

    Raises:
        ValueError: If it cannot be read.
    """
    path = tree.index(name, set_name)
    return read_index(path) if path.is_file() else []


def read_moved(tree: Tree, name: str, set_name: str) -> list[Case]:
    """Read the entries of a held-out set that a split has moved there."""
    entries = read_entries(tree, name, set_name)
    return [case for case in entries if _is_moved(tree, name, case)]


def take_back(tree: Tree, name: str, sets: Iterable[str] = HELD_OUT) -> list[Case]:
    """Return the training cases of a dataset with those moved to held-out sets, each once.

    Raises:
        ValueError: If the training set is not prepared, or an index cannot be read.
    """
    moved = [case for set_name in sets for case in read_moved(tree, name, set_name)]
    cases = {case.label: case for case in [*moved, *read_index(tree.index(name, "Tr"))]}
    return sorted(cases.values(), key=lambda case: (case.case_id, case.class_name))


def divide(
    tree: Tree, name: str, cases: Sequence[Case], places: Mapping[Path, str], sets: Iterable[str]
) -> None:
    """Write the indexes of training cases as they are divided.

    The training set gets them all before any other index loses one, so that a crash leaves cases in
    two indexes, which dividing again mends, but never in none.

    Args:
        tree: The prepared tree.
        name: The dataset.
        cases: All that `take_back` has returned of these sets, or freshly prepared ones.
        places: The held-out set of each image that does not stay in training.
        sets: The held-out sets to write.
    """
    write_index(tree.index(name, "Tr"), cases)
    for set_name in sets:
        path = tree.index(name, set_name)
        own = [c for c in read_entries(tree, name, set_name) if not _is_moved(tree, name, c)]
        entries = [*own, *(case for case in cases if places.get(case.image) == set_name)]
        if entries:
            write_index(path, entries)
        else:
            path.unlink(missing_ok=True)
    write_index(tree.index(name, "Tr"), [case for case in cases if case.image not in places])


def _is_moved(tree: Tree, name: str, case: Case) -> bool:
    return case.image.parent == tree.image(name, "Tr", "any").parent.absolute()
