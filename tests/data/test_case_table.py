"""Tables of cases: equal to a list of records, and shared by processes."""

import pickle
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from neurosam3d.data.case import Case
from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.index import read_index, write_index


def make_cases(folder: Path) -> list[Case]:
    """Three images of two patients, not in the order of the images."""
    return [
        Case(
            image=folder / f"TOY/imagesTr/{image}.nii.gz",
            label=folder / f"TOY/labelsTr/{class_name}/{image}.nii.gz",
            class_name=class_name,
            volume_mm3=volume,
            spacing=(0.7, 0.8, 2.5),
            patient=patient,
            extra={"modality": ["MR", "T1 + Gd, früh nativ"], "site": 3},
        )
        for class_name, image, volume, patient in (
            ("Gehörgang", "b", 10.5, "p1"),
            ("nerve", "b", 20.0, "p1"),
            ("nerve", "a", 30.0, "p1"),
            ("Gehörgang", "a", 40.0, "p1"),
            ("nerve", "c", 50.0, None),
        )
    ]


@pytest.fixture(params=["cases", "index", "joined"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> CaseTable:
    """The same table, come about in different ways."""
    cases = make_cases(tmp_path)
    if request.param == "cases":
        return CaseTable.from_cases(iter(cases))
    write_index(tmp_path / "TOY_Tr.json", cases)
    read = read_index(tmp_path / "TOY_Tr.json")
    if request.param == "index":
        return read
    return CaseTable.join([read[:4], CaseTable.from_cases(cases[4:])])


def test_a_table_equals_the_list(table: CaseTable, tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    assert len(table) == 5
    assert table == cases
    assert list(table) == cases
    assert [table[i] for i in range(5)] == cases
    assert table[-1] == cases[-1]
    assert table[1:4] == cases[1:4]
    assert table[::-2] == cases[::-2]
    assert cases[3] in table
    assert table.index(cases[3]) == 3
    assert table != cases[:4]
    assert table != [*cases[:4], cases[0]]
    assert table != 5
    with pytest.raises(IndexError):
        table[5]


def test_columns_say_what_the_cases_do(table: CaseTable) -> None:
    assert table.volumes_mm3.tolist() == [10.5, 20, 30, 40, 50]
    for column, keys in (
        (table.images.tolist(), [case.image for case in table]),
        (table.groups.tolist(), [case.group for case in table]),
    ):
        pairs = [(one, other) for one in range(5) for other in range(5)]
        expected = [keys[one] == keys[other] for one, other in pairs]
        assert [column[one] == column[other] for one, other in pairs] == expected


def test_the_cases_of_an_image_are_found_in_order(table: CaseTable) -> None:
    assert table.num_images == 3
    rows = [table.rows_of_image(table.image_of(row)) for row in range(5)]
    assert rows == [[0, 1], [0, 1], [2, 3], [2, 3], [4]]


def test_some_of_the_cases_are_a_table_of_their_own(table: CaseTable, tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    kept = table.select(table.volumes_mm3 > 25)
    assert kept == cases[2:]
    assert kept.num_images == 2
    assert kept.rows_of_image(kept.image_of(1)) == [0, 1]
    assert table.select([4, 0]) == [cases[4], cases[0]]
    assert table.select([]) == []
    assert table.select(np.zeros(5, bool)).num_images == 0


def test_the_joined_keep_the_folders_they_start_from(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_index(tmp_path / name / "TOY_Tr.json", make_cases(tmp_path / name))
    tables = [read_index(tmp_path / name / "TOY_Tr.json") for name in ("one", "other")]
    expected = [*make_cases(tmp_path / "one"), *make_cases(tmp_path / "other")]
    assert CaseTable.join(tables) == expected
    assert CaseTable.join(tables)[::-3] == expected[::-3]


def test_the_joined_keep_patients_of_different_tables_apart(tmp_path: Path) -> None:
    table = CaseTable.from_cases(make_cases(tmp_path))
    both = CaseTable.join([table, table])
    assert both == make_cases(tmp_path) * 2
    assert both.rows_of_image(both.image_of(6)) == [5, 6]
    assert len({*both.groups}) == 4
    assert len({*CaseTable.join([table[4:], table[4:], table[:1]]).groups}) == 3
    assert CaseTable.join([]) == []


def test_an_unfit_case_is_named(tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    with pytest.raises(ValueError, match=r"cases, entry 1 needs a spacing .* got \[1, 0"):
        CaseTable.from_cases([cases[0], replace(cases[1], spacing=(1, 0, 1))])


# Other processes


def large_table(tmp_path: Path) -> CaseTable:
    return CaseTable.from_cases(make_cases(tmp_path) * 2000)


def test_a_pickle_for_another_process_holds_handles(tmp_path: Path) -> None:
    table = large_table(tmp_path)
    assert table.nbytes > 2_000_000
    assert len(ForkingPickler.dumps(table)) < 5000
    assert table[7] == make_cases(tmp_path)[2]  # the memory has moved, the table is the same


def test_a_plain_pickle_is_a_copy(tmp_path: Path) -> None:
    table = CaseTable.from_cases(make_cases(tmp_path))
    assert pickle.loads(pickle.dumps(table)) == table


def work(table: CaseTable, connection: Connection) -> None:
    """Answer with what a case is called, until told to stop."""
    while (row := connection.recv()) is not None:
        connection.send((table[row].class_name, table.volumes_mm3[row]))


@pytest.mark.slow
def test_a_spawned_process_shares_the_memory(tmp_path: Path) -> None:
    """It sees what is written to the table after it has begun."""
    table = large_table(tmp_path)
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(table, there))
    process.start()
    here.send(6001)
    assert here.recv() == ("nerve", 20.0)
    table._columns.volumes_mm3[6001] = 7.0
    start = int(table._columns.starts[6001])
    text = table._text[start : start + 400].numpy().tobytes()
    table._text[start + text.index(b'"nerve"') + 1] = ord("S")
    here.send(6001)
    assert here.recv() == ("Serve", 7.0)
    here.send(None)
    process.join()
    assert process.exitcode == 0


def test_a_table_knows_the_classes_of_its_cases():
    names = ["liver", "spleen", "liver", "aorta"]
    cases = [
        Case(Path(f"/a/{i}.nii.gz"), Path(f"/b/{i}.nii.gz"), name, 5.0, (1.0, 2.0, 3.0))
        for i, name in enumerate(names)
    ]
    table = CaseTable.from_cases(cases)
    assert table.list_classes() == ["liver", "spleen", "aorta"]
    assert table.of_classes(["aorta", "liver"]) == [cases[0], cases[2], cases[3]]
    assert len(table.of_classes(["lung"])) == 0
    assert CaseTable.join([]).list_classes() == []
