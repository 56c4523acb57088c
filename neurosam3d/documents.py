"""JSON and YAML that others wrote: whatever is wrong with a text ends in its parser's own error.

Left to themselves both parsers also end in errors of other kinds, by texts that nest thousands of
brackets, by numbers of thousands of digits or by dates that no calendar has; and a few lines of
YAML whose anchors refer to one another can stand for more values than any memory holds.
"""

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import yaml

MOST_DIGITS = 300  # of a whole number: any such fits a float
MOST_VALUES = 100_000  # that references may make of a short text
_DEEPEST = 100  # levels of nesting

# What PyYAML runs into where a tag or a form promises another value than there is.
_YAML_FAILURES = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
)


class JSONReader(json.JSONDecoder):
    """A decoder whose errors are all `json.JSONDecodeError`s."""

    def __init__(self) -> None:
        super().__init__(parse_int=_integer)

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        """Decode the value that begins at a position; return it and where it ends.

        Raises:
            json.JSONDecodeError: If there is none.
        """
        try:
            return super().raw_decode(s, idx)
        except json.JSONDecodeError:
            raise
        except RecursionError:
            raise json.JSONDecodeError("Nested too deeply", s, idx) from None
        except ValueError as error:
            raise json.JSONDecodeError(str(error), s, idx) from None


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        json.JSONDecodeError: If it is no JSON, nests too deeply or has a number of too many digits.
    """
    return json.loads(text, cls=JSONReader)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds: plain values, lists and dicts, never objects.

    Raises:
        yaml.YAMLError: If it is no YAML of that kind, nests too deeply, has a number of too many
            digits, or its anchors stand for far more values than it has characters, or for
            themselves.
    """
    try:
        content = yaml.load(text, _Loader)  # nosec B506  # of safe values
    except yaml.YAMLError:
        raise
    except RecursionError:
        raise yaml.YAMLError("it nests too deeply") from None
    except _YAML_FAILURES as error:
        reason = str(error) or type(error).__name__
        raise yaml.YAMLError(f"it has a value that does not fit its form ({reason})") from error
    most = max(MOST_VALUES, len(text))
    try:
        count = count_values(content)
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from None
    if count > most:
        raise yaml.YAMLError(f"its anchors stand for more than {most} values")
    return content


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without numbers that no float holds."""


def _construct_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > MOST_DIGITS:
        raise ValueError(f"a number of {len(node.value)} digits")
    return loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_integer)


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"A number has at most {MOST_DIGITS} digits, got {len(digits)}")
    return int(digits)


def count_values(content: Any) -> int:
    """Count the values of a tree, each as often as references repeat it.

    Args:
        content: Anything made of mappings, lists, tuples, sets and namespaces.

    Raises:
        ValueError: If it holds itself, or nests too deeply.
    """
    return _count_values(content, {}, depth=0)


def _count_values(value: Any, known: dict[int, int], *, depth: int) -> int:
    """Count the values below one; `known` has the counts so far, by identity."""
    if isinstance(value, Namespace):
        value = vars(value)
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return 1
    if depth > _DEEPEST:
        raise ValueError(f"it nests more than {_DEEPEST} times")
    if id(value) not in known:
        known[id(value)] = 0  # a count that is 0 when it is met again is not finished
        items = [*value, *value.values()] if isinstance(value, Mapping) else value
        counts = (_count_values(item, known, depth=depth + 1) for item in items)
        known[id(value)] = 1 + sum(counts)
    elif not known[id(value)]:
        raise ValueError("it holds a list or a mapping that holds itself")
    return known[id(value)]
