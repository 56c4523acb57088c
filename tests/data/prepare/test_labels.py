"""Label tables in the two directions, regions, and the files that tables come in."""

from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.prepare.labels import (
    labels_to_json,
    parse_labels,
    read_label_table,
    to_values,
)

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


@pytest.mark.parametrize(
    "labels", [{1: "kidney", 2: "kidney"}, {"left kidney": 1, "left_kidney": 2}]
)
def test_two_values_of_one_name_are_refused(labels: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"the label values 1 and 2 are both called '.*kidney'"):
        parse_labels(labels)


TEXTS = {
    "table.json": '{"0": "background", "1": "liver", "2": "left lung"}',
    "names.json": '{"background": 0, "liver": 1, "left lung": [2]}',
    "dataset.json": '{"name": "A", "labels": {"1": "liver", "2": "left lung"}}',
    "dseg.tsv": "index\tname\tcolor\n0\tBackground\t#000\n1\tliver\t#00f\n2\tleft lung\t#0ff\n",
    "aal.txt": "1 liver 2001\r\n2 left lung 2002\r\n",
    "lut.txt": "#No. Name R G B A\n\n0 Unknown 0 0 0 0\n1   liver  245 245 245 0\n"
    "# lungs\n2\tleft lung\t1 2 3 0\n",
    "snap.label": '# ITK-SnAP\n    0  0 0 0  0 0 0  "Clear Label"\n'
    '    1  255 0 0  1 1 1  "liver"\n    2  0 255 0  1  1 1  "left lung"\n',
    "prose.txt": "Structures of a network, with their values:\n\nlabels  structures\n"
    "0   background\n1   liver\n2   left lung\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_tables_are_read_in_the_forms_that_tools_write(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(TEXTS[name].encode())
    assert read_label_table(path) == {(1,): "liver", (2,): "left lung"}


def test_numbers_that_end_only_some_names_belong_to_them(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1 lobule 6\n2 vermis\n3 crus 1 2\n")
    assert read_label_table(tmp_path / "x.txt") == {
        (1,): "lobule 6",
        (2,): "vermis",
        (3,): "crus 1 2",
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1]", r"a\.json: a label table is an object, got list"),
        ("a.json", "{", r"a\.json is not valid JSON"),
        ("a.json", '{"liver": "x"}', r"a\.json: label values are integers of 0 or more, got 'x'"),
        ("a.tsv", "value\tname\n1\tliver\n", r"index and name are needed, got value, name"),
        ("a.tsv", "", "index and name are needed, got no row"),
        ("a.tsv", "index\tname\n1\tliver\n1\tspleen\n", "label value 1: liver, spleen"),
        ("a.tsv", "index\tname\nx\tliver\n", "integers of 0 or more, got 'x'"),
        ("a.txt", "1 liver\nspleen 2\n", r"a\.txt: line 2 must be a value and a name, got 'spl"),
        ("a.txt", "1 liver\n1 spleen\n", "two classes have the label value 1: liver, spleen"),
        ("a.txt", "1 lobule 1\n2 lobule 2\n", "values 1 and 2 are both called 'lobule'"),
        ("a.txt", "no table\n", r"a\.txt: it names no class"),
        ("a.txt", "0 background\n", r"a\.txt: it names no class"),
        ("a.txt", "1 l\xe4ber\n", r"a\.txt is no text in UTF-8"),
    ],
)
def test_an_unfit_table_is_one_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message) as error:
        read_label_table(tmp_path / name)
    assert "\n" not in str(error.value)
    assert str(error.value).count(name) == 1


@pytest.mark.parametrize("name", ["none.json", "none.tsv", "none.txt"])
def test_a_missing_table_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot read .*{name}: No such file"):
        read_label_table(tmp_path / name)
