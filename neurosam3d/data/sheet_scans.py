"""Which scans a sheet shows: some of every set and of many patients."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from neurosam3d.data.case import Case

Item = TypeVar("Item")


@dataclass(frozen=True)
class Scan:
    """One image of a prepared set and its labels.

    Args:
        set_name: Tr, Val or Ts.
        cases: Its index entries, one per class.
    """

    set_name: str
    cases: tuple[Case, ...]


def choose_scans(sets: Mapping[str, Sequence[Case]], num_scans: int) -> list[Scan]:
    """Choose scans spread evenly over the sets and, in each, over the patients.

    The choice depends on nothing but the indexes.

    Args:
        sets: Set -> entries of its index.
        num_scans: How many at most.
    """
    images = {set_name: _group_by_image(set_name, cases) for set_name, cases in sets.items()}
    shares = _share_out(num_scans, [len(scans) for scans in images.values()])
    return [
        scan
        for scans, share in zip(images.values(), shares, strict=True)
        for scan in _choose_from_patients(scans, share)
    ]


def _group_by_image(set_name: str, cases: Iterable[Case]) -> list[Scan]:
    groups: dict[Path, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.image].append(case)
    return [Scan(set_name, tuple(group)) for group in groups.values()]


def _choose_from_patients(scans: Sequence[Scan], count: int) -> list[Scan]:
    by_patient: dict[str, list[Scan]] = defaultdict(list)
    for scan in sorted(scans, key=lambda scan: scan.cases[0].case_id):
        by_patient[scan.cases[0].group].append(scan)
    patients = _spread([by_patient[patient] for patient in sorted(by_patient)], count)
    shares = _share_out(count, [len(found) for found in patients])
    chosen = []
    for position, (found, share) in enumerate(zip(patients, shares, strict=True)):
        first = position % len(found)  # not always the same sequence of those each patient has
        chosen += _spread([*found[first:], *found[:first]], share)
    return chosen


def _share_out(total: int, available: Sequence[int]) -> list[int]:
    """Divide a number evenly, giving what some cannot take to the others."""
    shares = [0] * len(available)
    while sum(shares) < min(total, sum(available)):
        for i, limit in enumerate(available):
            if shares[i] < limit and sum(shares) < total:
                shares[i] += 1
    return shares


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Pick items at even distances, the first and the last among them."""
    positions = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[round(position)] for position in positions]
