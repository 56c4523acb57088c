"""Prompts in a table, as spreadsheets write them; `prompt_file` shows the columns."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurosam3d.inference.named_object import UNNAMED, NamedObject, PromptTable
from neurosam3d.inference.object_prompts import ObjectPrompts

_VOXELS, _WORLD = ("i", "j", "k"), ("x", "y", "z")
_OTHER_COLUMNS = ("image", "object", "label", "mask")
_MOST_TOLD = 5


@dataclass
class _Collected:
    """What the rows of one object have said so far."""

    points: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: list[list[float]] | None = None
    mask: Path | None = None


def read_rows(path: Path, text: str) -> PromptTable:
    """Read prompts from a table with a row for each point, box or mask.

    Args:
        path: The file, for messages and as the place of masks.
        text: What it holds.

    Raises:
        ValueError: If a column or a row is unfit; the message tells the lines.
    """
    lines = text.splitlines()
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)  # spreadsheets of some countries write semicolons
    reader = csv.reader(lines, delimiter=delimiter)
    rows = _rows_of(reader, path)
    columns = [name.strip().lower() for name in next(rows, [])]
    axes = _axes_of(columns, path)
    collected: dict[tuple[str, str], _Collected] = {}
    problems = []
    for row in rows:
        cells = dict(zip(columns, (cell.strip() for cell in row), strict=False))
        if not any(cells.values()):
            continue
        try:
            if len(row) > len(columns):
                raise ValueError(f"it has {len(row)} cells for {len(columns)} columns")
            key = cells.get("image", ""), cells.get("object") or UNNAMED
            _collect(cells, axes, collected.setdefault(key, _Collected()), folder=path.parent)
        except ValueError as error:
            problems.append(f"line {reader.line_num}: {error}")
    if problems:
        more = len(problems) - _MOST_TOLD
        told = problems[:_MOST_TOLD] + ([f"and {more} more lines"] if more > 0 else [])
        raise ValueError(f"{path} {'; '.join(told)}")
    table: dict[str, list[NamedObject]] = {}
    for (image, name), said in collected.items():
        points, labels = (said.points, said.labels) if said.points else (None, None)
        prompts = ObjectPrompts(points, labels, said.box, said.mask, world=axes == _WORLD)
        table.setdefault(image, []).append(NamedObject(name, prompts))
    return table


def _rows_of(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV reader, whose own error is none of a value."""
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(f"{path} is no table of cells: {error}") from error


def _axes_of(columns: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the names of the columns of coordinates, and check all names."""
    axes = _WORLD if any(name in columns for name in _WORLD) else _VOXELS
    known = (*_OTHER_COLUMNS, *axes, *_corner(axes))
    if unknown := [name for name in columns if name not in known]:
        raise ValueError(
            f"{path} line 1: {unknown[0]!r} is no known column; known: {', '.join(known)}"
        )
    if "mask" not in columns and not set(axes) <= set(columns):
        raise ValueError(f"{path} line 1: the columns must be i, j, k or x, y, z, or mask")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise ValueError(f"{path} line 1: the column {twice[0]!r} is there twice")
    return axes


def _corner(axes: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the columns of a box's other corner."""
    return tuple(f"{axis}1" for axis in axes)


def _collect(
    cells: Mapping[str, str], axes: tuple[str, ...], said: _Collected, *, folder: Path
) -> None:
    """Add what one row says to its object."""
    first, second = _triple(cells, axes), _triple(cells, _corner(axes))
    label, mask = cells.get("label", ""), cells.get("mask", "")
    if label not in ("", "0", "1"):
        raise ValueError(f"label must be 1 or 0, got {label!r}")
    if mask:
        if said.mask is not None:
            raise ValueError("the object has a mask already")
        said.mask = folder / mask
    if second is not None:
        if first is None or label:
            raise ValueError(f"a box has {', '.join(axes)} and no label")
        if said.box is not None:
            raise ValueError("the object has a box already")
        said.box = [first, second]
    elif first is not None:
        said.points.append(first)
        said.labels.append(int(label or 1))
    elif not mask or label:
        raise ValueError(f"a row needs {', '.join(axes)}" + ("" if label else ", or a mask"))


def _triple(cells: Mapping[str, str], names: tuple[str, ...]) -> list[float] | None:
    """Return three numbers, or None if none of them is given."""
    texts = [cells.get(name, "") for name in names]
    if not any(texts):
        return None
    numbers = []
    for name, text in zip(names, texts, strict=True):
        try:
            numbers.append(float(text))
        except ValueError:
            raise ValueError(f"{name} must be a number, got {text!r}") from None
    return numbers
