"""Hundreds of thousands of cases in little memory, shared by processes.

A list of records costs every worker process a copy of its own: counting references writes to the
pages that a fork shares. A table holds what an index file holds, the JSON text of its entries, and
beside it columns of numbers to select and group by. A record is made when it is asked for.

Shapes: N cases.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from neurosam3d.data.case import Case, check_entry, to_case, to_entry
from neurosam3d.data.tree import SUFFIX

Element = tuple[Any, str]  # of a JSON list: the object, and the text it was parsed from

_encode = json.JSONEncoder(ensure_ascii=False).encode


class Columns(NamedTuple):
    """What is known of the cases as numbers, one row per case.

    Args:
        starts: (N,) int64, where the entry begins in the text.
        stops: (N,) int64, where it ends.
        roots: (N,) int64, number of the folder that its paths are relative to.
        images: (N,) int64, equal for cases of one image.
        groups: (N,) int64, equal for cases of one patient, or of one image without a patient.
        volumes_mm3: (N,) float64, volume of the object in cubic millimetres.
    """

    starts: Tensor
    stops: Tensor
    roots: Tensor
    images: Tensor
    groups: Tensor
    volumes_mm3: Tensor

    def take(self, rows: Tensor) -> "Columns":
        """Return some of the rows, given by their numbers."""
        return Columns(*(column[rows] for column in self))


class CaseTable(Sequence[Case]):
    """An immutable sequence of cases, held in columns; `from_elements` and its like make one.

    Everything large is a tensor, which PyTorch pickles for another process as a handle of shared
    memory. A forked process shares it anyway.

    Args:
        text: The JSON of the entries in UTF-8, uint8.
        columns: A row per case.
        roots: The folders that paths in the text are relative to.
    """

    def __init__(self, text: Tensor, columns: Columns, roots: tuple[Path, ...]) -> None:
        # Images and groups are counted from 0 without gaps.
        images, groups = (
            numbers.unique(return_inverse=True)[1] for numbers in (columns.images, columns.groups)
        )
        self._text = text
        self._columns = columns._replace(images=images, groups=groups)
        self._roots = roots
        # The cases of image k are _by_image[_firsts[k]:_firsts[k + 1]], in the table's order.
        self._by_image = images.argsort(stable=True)
        self._firsts = torch.cat([images.new_zeros(1), images.bincount().cumsum(0)])

    @classmethod
    def from_elements(cls, elements: Iterable[Element], root: Path, *, place: str) -> "CaseTable":
        """Make a table of the entries of an index.

        Args:
            elements: Each entry as an object and as text.
            root: The folder that their paths are relative to.
            place: Where they come from, for messages.

        Raises:
            ValueError: If one is no object, lacks a key or has an unfit value.
        """
        pieces, volumes, images, groups = [], [], [], []
        image_numbers: dict[str, int] = {}
        group_numbers: dict[str, int] = {}
        for number, (entry, text) in enumerate(elements):
            try:
                check_entry(entry)
            except ValueError as error:
                raise ValueError(f"{place}, entry {number} {error}") from None
            image = str(entry["image"])
            patient = entry.get("patient")
            named = patient is not None and patient != ""
            group = patient if named else image.rpartition("/")[2].removesuffix(SUFFIX)
            images.append(image_numbers.setdefault(image, len(image_numbers)))
            groups.append(group_numbers.setdefault(str(group), len(group_numbers)))
            volumes.append(float(entry["volume"]))
            pieces.append(text.encode())
        stops = torch.tensor([len(piece) for piece in pieces], dtype=torch.int64).cumsum(0)
        columns = Columns(
            starts=torch.cat([stops.new_zeros(1), stops])[:-1],
            stops=stops,
            roots=torch.zeros_like(stops),
            images=torch.tensor(images, dtype=torch.int64),
            groups=torch.tensor(groups, dtype=torch.int64),
            volumes_mm3=torch.tensor(volumes, dtype=torch.float64),
        )
        joined = np.frombuffer(bytearray().join(pieces), dtype=np.uint8)
        return cls(torch.from_numpy(joined), columns, (root,))

    @classmethod
    def from_cases(cls, cases: Iterable[Case]) -> "CaseTable":
        """Make a table of records; a table is returned as it is."""
        if isinstance(cases, CaseTable):
            return cases
        entries = (to_entry(case, image=str(case.image), label=str(case.label)) for case in cases)
        elements = ((entry, _encode(entry)) for entry in entries)
        return cls.from_elements(elements, Path(), place="a table of cases")

    @classmethod
    def join(cls, tables: Sequence["CaseTable"]) -> "CaseTable":
        """Return the cases of several tables in a row; no two tables share images or groups."""
        if len(tables) == 1:
            return tables[0]
        tables = tables or [cls.from_cases(())]
        shifted, num_bytes, num_roots, num_images, num_groups = [], 0, 0, 0, 0
        for table in tables:
            columns = table._columns
            shifted.append(
                columns._replace(
                    starts=columns.starts + num_bytes,
                    stops=columns.stops + num_bytes,
                    roots=columns.roots + num_roots,
                    images=columns.images + num_images,
                    groups=columns.groups + num_groups,
                )
            )
            num_bytes += len(table._text)
            num_roots += len(table._roots)
            num_images += table.num_images
            num_groups += len(columns.groups)  # at least as many as there are
        text = torch.cat([table._text for table in tables])
        columns = Columns(*(torch.cat(parts) for parts in zip(*shifted, strict=True)))
        return cls(text, columns, tuple(root for table in tables for root in table._roots))

    def select(self, which: np.ndarray | Sequence[int]) -> "CaseTable":
        """Return some of the cases; the text is shared.

        Args:
            which: (N,) booleans, or the numbers of the wanted cases.
        """
        rows = np.asarray(which)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return CaseTable(self._text, self._columns.take(torch.from_numpy(rows)), self._roots)

    def of_classes(self, names: Collection[str]) -> "CaseTable":
        """Return the cases of some classes."""
        return self.select(np.array([case.class_name in names for case in self], dtype=bool))

    def list_classes(self) -> list[str]:
        """Name the classes of the cases, in the order in which they first come."""
        return list(dict.fromkeys(case.class_name for case in self))

    def __len__(self) -> int:
        return len(self._columns.starts)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> "CaseTable": ...
    def __getitem__(self, index: int | slice) -> "Case | CaseTable":
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        columns = self._columns
        return self._case(*(int(c[index]) for c in (columns.starts, columns.stops, columns.roots)))

    def __iter__(self) -> Iterator[Case]:
        columns = self._columns
        places = (c.tolist() for c in (columns.starts, columns.stops, columns.roots))
        return (self._case(*place) for place in zip(*places, strict=True))

    def _case(self, start: int, stop: int, root: int) -> Case:
        entry = json.loads(self._text[start:stop].numpy().tobytes())
        return to_case(entry, self._roots[root])

    def __eq__(self, other: object) -> bool:
        """Tell whether another sequence holds equal cases."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(Case.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # it equals lists, which have none either

    def __repr__(self) -> str:
        return f"CaseTable of {len(self)} cases"

    # Copies, because pickling for another process moves the tensors.

    @property
    def images(self) -> np.ndarray:
        """The number of each case's image, counted from 0, (N,) int64."""
        return self._columns.images.numpy().copy()

    @property
    def groups(self) -> np.ndarray:
        """A number of each case's `group`, equal where that is, (N,) int64."""
        return self._columns.groups.numpy().copy()

    @property
    def volumes_mm3(self) -> np.ndarray:
        """The volumes of the objects in cubic millimetres, (N,) float64."""
        return self._columns.volumes_mm3.numpy().copy()

    @property
    def num_images(self) -> int:
        """How many images the cases have."""
        return len(self._firsts) - 1

    def image_of(self, index: int) -> int:
        """Return the number of a case's image."""
        return int(self._columns.images[index])

    def rows_of_image(self, image: int) -> list[int]:
        """Return the numbers of an image's cases, in order."""
        first, last = self._firsts[image : image + 2].tolist()
        return self._by_image[first:last].tolist()

    @property
    def nbytes(self) -> int:
        """Memory of the table in bytes."""
        tensors = (self._text, *self._columns, self._by_image, self._firsts)
        return sum(tensor.nbytes for tensor in tensors)
