"""Whole scans of prepared sets with the labels of all their objects, for testing and prediction."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.tree import split_set_name


class ScanList(Sequence[dict[str, Any]]):
    """The scans of prepared sets, in the order of their indexes; nothing is read.

    An item is plain text: `dataset`, `set`, `case`, the path `image`, and `labels`, class -> path
    of its mask.

    Args:
        sets: Cases by the name of their set, `<NAME>_<SET>`.
    """

    def __init__(self, sets: Mapping[str, CaseTable]) -> None:
        self._sets = dict(sets)
        self._places = [
            (name, image) for name, table in self._sets.items() for image in range(table.num_images)
        ]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        name, image = self._places[index]
        table = self._sets[name]
        cases = [table[row] for row in table.rows_of_image(image)]
        dataset, set_name = split_set_name(name)
        return {
            "dataset": dataset,
            "set": set_name,
            "case": cases[0].case_id,
            "image": str(cases[0].image),
            "labels": {case.class_name: str(case.label) for case in cases},
        }
