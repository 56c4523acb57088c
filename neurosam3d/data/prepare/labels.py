"""Label tables: which values of a label file make up which class."""

from collections.abc import Iterable, Mapping
from typing import Any

Values = tuple[int, ...]
LabelTable = Mapping[int | Values, str]


def parse_labels(labels: Mapping[Any, Any]) -> dict[Values, str]:
    """Turn a label table into values -> class name, without background and "ignore".

    Args:
        labels: Either value -> name (MSD: {"1": "liver"}) or name -> value (nnU-Net v2:
            {"liver": 1}), where a list of values is one region made of all of them.

    Raises:
        ValueError: If a value is not an integer or two classes have the same values.
    """
    by_value = all(_is_values(key) for key in labels)
    pairs = [(key, name) if by_value else (name, key) for key, name in labels.items()]
    table: dict[Values, str] = {}
    for key, name in pairs:
        values = to_values(key)
        if values == (0,) or str(name).strip().lower() in ("background", "ignore"):
            continue
        if values in table:
            raise ValueError(f"two classes have the label value {key}: {table[values]}, {name}")
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

    def text(key: Any) -> str:
        return ",".join(map(str, key)) if isinstance(key, tuple) else str(key)

    return {
        text(key): labels_to_json(value) if isinstance(value, Mapping) else value
        for key, value in labels.items()
    }


def _is_values(key: Any) -> bool:
    try:
        return bool(to_values(key))
    except ValueError:
        return False
