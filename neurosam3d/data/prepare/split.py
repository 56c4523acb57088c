"""Take a share of the training patients for validation.

Only index entries move, as `neurosam3d.data.prepare.division` says. A new split takes its entries
back first, so the same seed gives the same split however often it is run, and preparing the
training set again leaves its held-out cases where they are.

What must not be divided stays together: the images of one patient, and images of the same
content under other names, in whatever class; and so on, for what either is linked to.
"""

import csv
import itertools
import logging
import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from neurosam3d.data.case import Case
from neurosam3d.data.index import write_index
from neurosam3d.data.prepare.division import (
    HELD_OUT,
    divide,
    read_entries,
    read_moved,
    take_back,
)
from neurosam3d.data.tree import Tree

logger = logging.getLogger(__name__)


def split_training_set(
    tree: Tree,
    name: str,
    share: float,
    *,
    seed: int,
    patients: Mapping[str, str] | None = None,
    origin: str = "the patients",
) -> tuple[int, int]:
    """Move the entries of a seeded share of whole patients from `<NAME>_Tr` to `<NAME>_Val`.

    Args:
        tree: The prepared tree.
        name: The dataset.
        share: Part of the patients to move, between 0 and 1; at least one patient moves and
            at least one stays.
        seed: Decides which.
        patients: Case -> patient, stored in the entries. Without it the entries' own patients
            count, and a case without one is a patient by itself.
        origin: Where `patients` is from, for messages.

    Returns:
        Number of patients that stay in training, and of those moved to validation. Patients who
        share an image count as one.

    Raises:
        ValueError: If the training set is not prepared, the share does not lie between 0 and 1,
            `patients` lacks a case, or there are fewer than two patients.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share to split off lies between 0 and 1, got {share}")
    cases = _with_patients(take_back(tree, name, ("Val",)), patients, origin)
    groups = link_cases(cases)
    if len(groups) < 2:
        raise ValueError(f"a split needs at least 2 patients, {name}_Tr has {len(groups)}")
    num_moved = min(max(1, round(share * len(groups))), len(groups) - 1)
    draws = random.Random(seed)  # nosec B311  # a split is repeatable, not secret
    chosen = draws.sample(range(len(groups)), num_moved)
    places = {case.image: "Val" for number in chosen for case in groups[number]}
    divide(tree, name, cases, places, ("Val",))
    return len(groups) - num_moved, num_moved


def link_cases(cases: Iterable[Case]) -> list[list[Case]]:
    """Group the cases that must not be divided between training and validation.

    Two cases are linked if they have one image, one patient or one content, and groups are what
    hangs together by such links.

    Returns:
        The groups, in the order of their patients' names; images without one count by their own.
    """
    parents: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        while (parent := parents.setdefault(key, key)) != key:
            parents[key] = key = parents[parent]  # halves the way for whoever comes next
        return key

    by_image: dict[Path, list[Case]] = defaultdict(list)
    for case in cases:
        by_image[case.image].append(case)
        for kind, value in (("patient", case.patient), ("content", case.extra.get("content"))):
            if value:
                parents[root((kind, value))] = root(case.image)
    groups: dict[Hashable, list[Case]] = defaultdict(list)
    for image, found in by_image.items():
        groups[root(image)] += found
    return sorted(groups.values(), key=lambda group: min(map(_group_order, group)))


def read_patients(path: Path) -> dict[str, str]:
    """Read a CSV file with the columns case and patient.

    Raises:
        ValueError: If the file is missing, lacks a column, or names a case twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    patients: dict[str, str] = {}
    for row in rows:
        case, patient = row.get("case"), row.get("patient")
        if not case or not patient:
            raise ValueError(f"{path} needs the columns case and patient, got {dict(row)}")
        if patients.setdefault(case, patient) != patient:
            raise ValueError(f"{path} names two patients for case {case!r}")
    if not patients:
        raise ValueError(f"{path} needs the columns case and patient and a row per case")
    return patients


def check_indexes(tree: Tree, name: str, set_name: str) -> None:
    """Refuse to begin where `write_keeping_split` would fail in the end.

    Raises:
        ValueError: If an earlier index, which says how cases were split, cannot be read.
    """
    for indexed in {set_name, *HELD_OUT}:
        try:
            read_entries(tree, name, indexed)
        except ValueError as error:
            raise ValueError(f"{error}; remove it to prepare {name} without its split") from error


def write_keeping_split(tree: Tree, name: str, set_name: str, cases: Sequence[Case]) -> Path:
    """Write the index of freshly prepared cases as an earlier split has divided them.

    Patients that the earlier indexes know are kept, too. A new case that is linked to one moved
    to a held-out set follows it there, to validation if to both.

    Returns:
        The index of the set.
    """
    moved = {held_out: read_moved(tree, name, held_out) for held_out in HELD_OUT}
    known = {
        case.image: case.patient
        for case in [*itertools.chain(*moved.values()), *read_entries(tree, name, set_name)]
    }
    cases = [replace(case, patient=case.patient or known.get(case.image)) for case in cases]
    if set_name == "Tr" and any(moved.values()):
        divide(tree, name, cases, _find_places(cases, moved), HELD_OUT)
    else:
        write_index(tree.index(name, set_name), [*cases, *moved.get(set_name, [])])
    return tree.index(name, set_name)


def _find_places(cases: Sequence[Case], moved: Mapping[str, Sequence[Case]]) -> dict[Path, str]:
    """Say where images belong that were moved before, or are linked to one."""
    before = {c.image: held_out for held_out in reversed(HELD_OUT) for c in moved[held_out]}
    places: dict[Path, str] = {}
    for group in link_cases(cases):
        sets = {before[case.image] for case in group if case.image in before}
        if sets:
            first = next(held_out for held_out in HELD_OUT if held_out in sets)
            places |= {case.image: before.get(case.image, first) for case in group}
    return places


def _group_order(case: Case) -> tuple[str, Path]:
    return case.group, case.image


def _with_patients(
    cases: Iterable[Case], patients: Mapping[str, str] | None, origin: str
) -> list[Case]:
    cases = list(cases)
    if patients is None:
        return cases
    missing = sorted({case.case_id for case in cases} - patients.keys())
    if missing:
        raise ValueError(
            f"{origin}: no patient is given for case {missing[0]!r} ({len(missing)} missing)"
        )
    return [replace(case, patient=patients[case.case_id]) for case in cases]
