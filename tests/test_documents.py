"""JSON and YAML: what is read, and that every other end is the parser's own error."""

import json
from typing import Any

import pytest
import yaml

from neurosam3d.documents import JSONReader, count_values, parse_json, parse_yaml


def test_plain_values_are_read_as_by_the_parsers_themselves() -> None:
    text = '{"a": [1, -2.5, 1e3, "é", null, true], "b": {"c": 12345678901234567890}}'
    assert parse_json(text) == json.loads(text)
    assert JSONReader().raw_decode("[1] rest") == ([1], 3)
    text = "a: [1, 0x1F, 1_000, 1.5, yes, null, 2024-02-29]\nb: &x {c: d}\ne: {<<: *x, f: 1}\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "Nested too deeply"),
        ("[" + "9" * 301 + "]", "at most 300 digits, got 301"),
        ("9" * 5000, "at most 300 digits, got 5000"),
        ('{"a": }', "Expecting value"),
        ("[1] 2", "Extra data"),
    ],
)
def test_what_is_no_json_is_told_as_such(text: str, reason: str) -> None:
    with pytest.raises(json.JSONDecodeError, match=reason):
        parse_json(text)


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- " * 50_000, "nests too deeply"),
        ("[" * 150 + "]" * 150, "nests more than 100 times"),
        ("a: " + "9" * 301, "a number of 301 digits"),
        ("a: 2020-13-45", "does not fit its form"),
        ("a: !!timestamp x", "does not fit its form"),
        ("a: !!int x", "does not fit its form"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("&a [*a]", "holds itself"),
        (LAUGHS, "stand for more than 100000 values"),
        ("a: [", "expected the node content"),
    ],
)
def test_what_is_no_plain_yaml_is_told_as_such(text: str, reason: str) -> None:
    with pytest.raises(yaml.YAMLError, match=reason):
        parse_yaml(text)


def test_values_count_as_often_as_references_repeat_them() -> None:
    shared = [1, 2, {"a": 3}]  # 1 + 1 + 1 + (1 + 1 + 1)
    assert count_values(shared) == 6
    assert count_values([shared, (shared, shared)]) == 1 + 6 + 1 + 12
    many: Any = [0]
    for _ in range(40):
        many = [many] * 10
    assert count_values(many) > 10**40  # counted, not walked
