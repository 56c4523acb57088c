"""Label tables in the two directions, and regions."""

from typing import Any

import pytest

from neurosam3d.data.prepare.labels import labels_to_json, parse_labels, to_values

LIVER_TUMOR = {(1,): "liver", (2,): "tumor"}


@pytest.mark.parametrize(
    "labels",
    [
        {0: "background", 1: "liver", 2: "tumor"},
        {"0": "background", "1": "liver", "2": "tumor"},
        {"background": 0, "liver": 1, "tumor": 2},
        {"liver": 1, "tumor": [2], "ignore": 3},
        {(1,): "liver", 2: "tumor"},
    ],
)
def test_both_directions_give_the_classes_without_background(labels: dict[Any, Any]) -> None:
    assert parse_labels(labels) == LIVER_TUMOR


def test_regions_are_several_values() -> None:
    kidney = {(1, 2, 3): "kidney", (2,): "tumor"}
    assert parse_labels({"background": 0, "kidney": [1, 2, 3], "tumor": 2}) == kidney
    assert parse_labels({(1, 2, 3): "kidney", 2: "tumor"}) == kidney
    assert parse_labels(labels_to_json({(1, 2, 3): "kidney", 2: "tumor"})) == kidney


def test_two_classes_of_one_value_are_refused() -> None:
    with pytest.raises(ValueError, match="two classes have the label value 1: liver, spleen"):
        parse_labels({"liver": 1, "spleen": 1})


@pytest.mark.parametrize("key", ["liver", 1.5, None, [], [1, "x"], -1, "1.5", [0.5, 1]])
def test_values_are_integers(key: Any) -> None:
    with pytest.raises(ValueError, match="label values are integers of 0 or more, got"):
        to_values(key)


@pytest.mark.parametrize(("key", "values"), [(3, (3,)), ("3", (3,)), (1.0, (1,)), ("1,2", (1, 2))])
def test_values_may_be_written_in_several_ways(key: Any, values: tuple[int, ...]) -> None:
    assert to_values(key) == values


def test_tables_of_tables_keep_their_shape_in_json() -> None:
    tables = {"lung": {1: "right lung"}, "infection": {1: "infection"}}
    expected = {"lung": {"1": "right lung"}, "infection": {"1": "infection"}}
    assert labels_to_json(tables) == expected
