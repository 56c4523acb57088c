"""Label tables: which values of a label file make up which class."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosam3d.data.tree import folder_name, read_json

Values = tuple[int, ...]
LabelTable = Mapping[Any, str]  # label value, or values of a region -> class name

_NO_CLASS = ("background", "ignore")
_LINE = re.compile(r"(\d+)\s+(.+)")
_QUOTED = re.compile(r'"([^"]+)"')
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def parse_labels(labels: Mapping[Any, Any]) -> dict[Values, str]:
    """Turn a label table into values -> class name, without background and "ignore".

    Args:
        labels: Either value -> name (MSD: {"1": "liver"}) or name -> value (nnU-Net v2:
            {"liver": 1}), where a list of values is one region made of all of them.

    Raises:
        ValueError: If a value is not an integer, two classes have the same values, or two values
            would be one class.
    """
    by_value = all(_is_values(key) for key in labels)
    pairs = [(key, name) if by_value else (name, key) for key, name in labels.items()]
    table: dict[Values, str] = {}
    folders: dict[str, Values] = {}
    for key, name in pairs:
        values = to_values(key)
        if values == (0,) or str(name).strip().lower() in _NO_CLASS:
            continue
        if values in table:
            raise ValueError(f"two classes have the label value {key}: {table[values]}, {name}")
        folder = folder_name(str(name))
        if folder in folders:
            raise ValueError(
                f"the label values {_text(folders[folder])} and {_text(values)} are both called "
                f'{name!r}; a class of several values is one entry, for example {{"lungs": [2, 3]}}'
            )
        folders[folder] = values
        table[values] = str(name)
    return table


def to_values(key: Any) -> Values:
    """Read label values: 3, "3", [1, 2, 3] or "1,2,3".

    Raises:
        ValueError: If they are not integers of 0 or more.
    """
    parts = key.split(",") if isinstance(key, str) else key
    parts = list(parts) if isinstance(parts, Iterable) else [parts]
    try:
        values = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        values = ()
    whole = all(isinstance(p, str) or p == v for p, v in zip(parts, values, strict=False))
    if not values or min(values) < 0 or not whole:
        raise ValueError(f"label values are integers of 0 or more, got {key!r}")
    return values


def flat_table(labels: Any) -> dict[Values, str]:
    """Parse a table; a table of tables gives an empty one, as its items name their classes."""
    if not isinstance(labels, Mapping) or any(isinstance(v, Mapping) for v in labels.values()):
        return {}
    return parse_labels(labels)


def labels_to_json(labels: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a table, or a table of tables, with text for keys: a region is "1,2,3"."""
    return {
        _text(key): labels_to_json(value) if isinstance(value, Mapping) else value
        for key, value in labels.items()
    }


def read_label_table(path: Path) -> dict[Values, str]:
    """Read label values -> class name, without background.

    Known are JSON (value -> name, name -> value, or the "labels" of a dataset.json), BIDS tables
    (.tsv with the columns index and name) and text with a line "value name ..." for each class:
    AAL, FreeSurferColorLUT, ITK-SNAP with the name in quotes.

    Args:
        path: The table.

    Raises:
        ValueError: If the file is missing, is none of these, or names no class.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            table = parse_labels(_from_json(read_json(path)))
        else:
            text = _read_text(path)
            table = parse_labels(_from_tsv(text) if suffix == ".tsv" else _from_text(text))
        if not table:
            raise ValueError("it names no class")
    except (ValueError, csv.Error) as error:
        message = str(error)
        raise ValueError(message if str(path) in message else f"{path}: {message}") from error
    return table


def _text(key: Any) -> str:
    return ",".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _is_values(key: Any) -> bool:
    try:
        return bool(to_values(key))
    except ValueError:
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def _from_json(content: Any) -> Mapping[Any, Any]:
    if isinstance(content, Mapping) and isinstance(content.get("labels"), Mapping):
        content = content["labels"]
    if not isinstance(content, Mapping):
        raise ValueError(f"a label table is an object, got {type(content).__name__}")
    return content


def _from_tsv(text: str) -> dict[Values, str]:
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    if not rows or not {"index", "name"} <= rows[0].keys():
        found = ", ".join(map(str, rows[0])) if rows else "no row"
        raise ValueError(f"the columns index and name are needed, got {found}")
    return _to_table([(row["index"] or "", row["name"] or "") for row in rows])


def _from_text(text: str) -> dict[Values, str]:
    """Take the value and the name from every line; above the first there may be prose."""
    entries: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line.strip())
        if match:
            entries.append((match[1], match[2]))
        elif entries and line.strip() and not line.lstrip().startswith("#"):
            raise ValueError(f"line {number} must be a value and a name, got {line.strip()!r}")
    quoted = [_QUOTED.search(rest) for _, rest in entries]
    if entries and all(quoted):
        names = [match[1] for match in quoted if match]
    else:
        names = _without_columns([rest.split() for _, rest in entries])
    return _to_table([(value, name) for (value, _), name in zip(entries, names, strict=True)])


def _without_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Join the words of each row, less the numbers (codes, colours) that end every row."""
    counts = [
        next((i for i, word in enumerate(reversed(row)) if not _NUMBER.fullmatch(word)), len(row))
        for row in rows
    ]
    num_columns = min(counts, default=0)
    return [" ".join(row[: max(1, len(row) - num_columns)]) for row in rows]


def _to_table(pairs: Sequence[tuple[str, str]]) -> dict[Values, str]:
    table: dict[Values, str] = {}
    for value, name in pairs:
        first = table.setdefault(to_values(value), name)
        if first != name:
            raise ValueError(f"two classes have the label value {value}: {first}, {name}")
    return table
