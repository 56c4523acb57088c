"""What is known and prepared, as facts and as tables."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from rich.console import Console, RenderableType

from neurosam3d.data.overview import DatasetFacts, collect_facts, known_classes
from neurosam3d.data.overview_table import show_all, show_one
from neurosam3d.data.prepare.catalogue import RECORDS
from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.pairing import Source
from neurosam3d.data.tree import Tree, write_json

ABDOMEN = DatasetRecord(
    name="Abdomen",
    modality=("CT", "MRI"),
    raw_folder="abdomen_raw",
    labels={0: "background", 1: "liver", 2: "left kidney", (1, 3): "liver and tumor"},
    sources={"Tr": (Source("imagesTr/{case}{ext}", "labelsTr/{case}{ext}"),)},
    page="https://example.org/abdomen",
    licence="CC BY 4.0",
)

WriteIndex = Callable[..., None]


@pytest.fixture
def write_index(tmp_path: Path) -> WriteIndex:
    """Write an index of (case, class, volume in mm^3, spacing, patient)."""

    def write(set_name: str, rows: Iterable[tuple[Any, ...]], modality: Any = ("CT",)) -> None:
        entries = [
            {
                "image": f"X/images/{case}.nii.gz",
                "label": f"X/labels/{class_name}/{case}.nii.gz",
                "class": class_name,
                "volume": volume,
                "spacing": spacing,
                "patient": patient,
                "modality": modality,
            }
            for case, class_name, volume, spacing, patient in rows
        ]
        (tmp_path / f"{set_name}.json").write_text(json.dumps(entries), encoding="utf-8")

    return write


THIN, THICK = (0.75, 0.75, 1.0), (0.5, 0.875, 5.0)
ROWS = [
    ("a", "liver", 1500.0, THIN, "p1"),
    ("a", "spleen", 200.0, THIN, "p1"),
    ("b", "liver", 1800.0, THICK, "p1"),
    ("c", "liver", 900.0, THICK, None),
]


@pytest.fixture
def tree(tmp_path: Path, write_index: WriteIndex) -> Tree:
    """Own data with a training and a validation set."""
    write_index("Mine_Tr", ROWS)
    write_index("Mine_Val", [("d", "liver", 2100.0, THIN, "p9")], modality="MRI")
    return Tree(tmp_path)


def describe(tree: Tree, *names: str, records: tuple[DatasetRecord, ...] = ()) -> DatasetFacts:
    (facts,) = collect_facts(tree, records={r.name: r for r in records}, names=names)
    return facts


# Facts


def test_a_set_is_counted(tree: Tree) -> None:
    training = describe(tree, "Mine").sets["Tr"]
    assert (training.num_cases, training.num_objects, training.num_classes) == (3, 4, 2)
    assert training.num_patients == 1  # case c has no known patient
    assert training.spacing_mm == ((0.5, 0.75), (0.75, 0.875), (1.0, 5.0))


def test_classes_are_counted_over_all_sets(tree: Tree) -> None:
    facts = describe(tree, "Mine")
    assert list(facts.sets) == ["Tr", "Val"]
    assert facts.classes["liver"].num_objects == {"Tr": 3, "Val": 1}
    assert facts.classes["liver"].volume_mm3 == (900.0, 1650.0, 2100.0)
    assert facts.classes["spleen"].num_objects == {"Tr": 1}
    assert facts.modality == ("CT", "MRI")
    assert facts.terms == "own data"


def test_terms_of_own_data_are_those_that_its_layout_declares(tree: Tree) -> None:
    write_json(tree.dataset_json("Mine"), {"licence": "CC BY", "page": "https://example.org/m"})
    facts = describe(tree, "Mine")
    assert facts.terms == "CC BY https://example.org/m"
    assert (facts.to_json()["licence"], facts.to_json()["page"]) == (facts.licence, facts.page)
    tree.dataset_json("Mine").write_text("{", encoding="utf-8")
    assert describe(tree, "Mine").terms == "own data"


def test_sets_come_in_their_usual_order(tree: Tree, write_index: WriteIndex) -> None:
    write_index("Mine_Ts", ROWS[:1])
    assert list(describe(tree, "Mine").sets) == ["Tr", "Val", "Ts"]


def test_a_record_names_classes_that_no_scan_has(tree: Tree, write_index: WriteIndex) -> None:
    rows = [("a", "spleen", 5.0, THIN, None), ("a", "left_kidney", 9.0, THIN, None)]
    write_index("Abdomen_Tr", rows, modality=("CT",))
    facts = describe(tree, "Abdomen", records=(ABDOMEN,))
    assert list(facts.classes) == ["liver", "left_kidney", "liver_and_tumor", "spleen"]
    assert facts.classes["liver"].num_objects == {}
    assert facts.classes["liver"].volume_mm3 == ()
    assert facts.classes["left_kidney"].volume_mm3 == (9.0, 9.0, 9.0)
    assert facts.modality == ("CT", "MRI")  # the record's, not what one index holds
    assert facts.terms == "CC BY 4.0 https://example.org/abdomen"


def test_tables_of_sources_name_classes_too() -> None:
    sorted_copy = Source("i/{case}{ext}", "lung/{case}{ext}", labels={1: "right lung"})
    released = Source("{case}.nii", "{case}_seg.nii", labels={1: "right lung", 5: "trachea"})
    record = DatasetRecord(
        name="Chest",
        modality=("CT",),
        sources={"Val": (sorted_copy,)},
        release={"Tr": (sorted_copy,), "Val": (released,)},
    )
    assert known_classes(record) == ["right_lung", "trachea"]
    assert DatasetFacts("Chest", record=record).templates == {
        "Tr": ["i/{case}{ext} -> lung/{case}{ext}"],
        "Val": ["i/{case}{ext} -> lung/{case}{ext}", "{case}.nii -> {case}_seg.nii"],
    }


def test_known_and_prepared_are_listed_by_name(tree: Tree, write_index: WriteIndex) -> None:
    write_index("able_Ts", [])
    listed = collect_facts(tree, records={"Abdomen": ABDOMEN})
    assert [facts.name for facts in listed] == ["Abdomen", "able", "Mine"]
    assert listed[1].sets["Ts"].num_cases == 0
    assert listed[1].sets["Ts"].spacing_mm == ()


def test_a_tree_need_not_exist(tmp_path: Path) -> None:
    (facts,) = collect_facts(Tree(tmp_path / "none"), records={"Abdomen": ABDOMEN})
    assert facts.sets == {}


def test_names_select_and_order(tree: Tree) -> None:
    facts = collect_facts(tree, records={"Abdomen": ABDOMEN}, names=["Mine", "Abdomen"])
    assert [found.name for found in facts] == ["Mine", "Abdomen"]


def test_an_unknown_name_is_told_with_all_that_are_there(tree: Tree) -> None:
    with pytest.raises(ValueError, match=r"'Mime'; known: Abdomen; prepared: Mine$"):
        describe(tree, "Mime", records=(ABDOMEN,))


def test_a_broken_index_leaves_the_others(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "Mine_Val.json").write_text("[{", encoding="utf-8")
    (tmp_path / "Other_Tr.json").write_text("{}", encoding="utf-8")
    mine, other = collect_facts(tree, records={})
    assert list(mine.sets) == ["Tr"]
    assert len(mine.problems) == 1
    assert "Mine_Val.json" in mine.problems[0]
    assert "Other_Tr.json must hold a list" in other.problems[0]
    assert describe(tree, "Mine").problems == mine.problems  # the other is not even read


def test_raw_folders_are_looked_for(tree: Tree) -> None:
    raw = Path("/raw/abdomen_raw")
    abdomen, mine = collect_facts(
        tree,
        records={"Abdomen": ABDOMEN},
        find_raw=lambda record: raw if record.raw_folder == "abdomen_raw" else None,
    )
    assert abdomen.raw == raw
    assert mine.raw is None


def test_json_says_the_same(tree: Tree) -> None:
    facts = json.loads(json.dumps(describe(tree, "Mine").to_json()))
    assert facts["sets"]["Tr"] == {
        "cases": 3,
        "objects": 4,
        "classes": 2,
        "patients": 1,
        "spacing_min_mm": [0.5, 0.75, 1.0],
        "spacing_max_mm": [0.75, 0.875, 5.0],
    }
    volume = {"min": 900.0, "median": 1650.0, "max": 2100.0}
    assert facts["classes"]["liver"] == {"objects": {"Tr": 3, "Val": 1}, "volume_mm3": volume}
    known = describe(tree, "Abdomen", records=(ABDOMEN,)).to_json()
    assert known["sources"] == {"Tr": ["imagesTr/{case}{ext} -> labelsTr/{case}{ext}"]}
    assert known["page"] == "https://example.org/abdomen"
    assert known["classes"]["liver"]["volume_mm3"] is None


# Tables


def render(parts: Iterable[RenderableType], width: int) -> list[str]:
    """Return the lines of a terminal of so many columns."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    for part in parts:
        console.print(part)
    return stream.getvalue().splitlines()


def row(lines: Iterable[str], first: str) -> list[str]:
    """Return the words of the line that begins with a word."""
    (words,) = (line.split() for line in lines if line.split()[:1] == [first])
    return words


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("with_raw", [True, False])
def test_the_whole_catalogue_fits(width: int, with_raw: bool, tmp_path: Path) -> None:
    datasets = collect_facts(Tree(tmp_path), records=RECORDS)
    lines = render(show_all(datasets, with_raw=with_raw, width=width), width)
    assert max(map(len, lines)) <= width
    heading = next(line for line in lines if line.split()[:1] == ["dataset"])
    assert heading.rstrip().endswith("licence, page" if width > 80 else "licence or site")
    squeezed = "".join("".join(lines).split())  # an address may go on in the next line
    for facts in datasets:
        assert str(len(facts.classes) or "-") in row(lines, facts.name)
        assert facts.record is not None
        address = urlsplit(facts.record.page)
        site = address.netloc.removeprefix("www.")
        assert "".join(facts.record.licence.split()) in squeezed
        if width > 80:
            assert f"{site}{address.path.removesuffix('/')}" in squeezed
        elif not facts.record.licence:
            assert site in squeezed


def test_prepared_sets_have_a_row_each(tree: Tree, write_index: WriteIndex) -> None:
    many = [(f"s{i}", "liver", 1.0, THIN, f"p{i % 40}") for i in range(1200)]
    write_index("A_name_of_26_characters_ok_Tr", many)
    write_index("MultiModalWholeHeart_Val", ROWS)  # the longest of the catalogue
    facts = collect_facts(tree, records={})
    lines = render(show_all(facts, with_raw=False, width=120), 120)
    training = "Mine_Tr 3 1 4 2 0.5-0.75 x 0.75-0.875 x 1-5"
    assert " ".join(row(lines, "Mine_Tr")) == training
    assert " ".join(row(lines, "Mine_Val")) == "Mine_Val 1 1 1 1 0.75 x 0.75 x 1"
    narrow = render(show_all(facts, with_raw=False, width=80), 80)
    assert max(map(len, narrow)) <= 80
    assert row(narrow, "MultiModalWholeHeart_Val")[1:5] == ["3", "1", "4", "2"]
    first = next(i for i, line in enumerate(narrow) if line.split()[:1] == ["Mine_Tr"])
    assert " ".join(" ".join(narrow[first : first + 2]).split()) == training
    assert any("1 200        40    1 200        1" in line for line in narrow)


def test_one_dataset_is_told_class_by_class(tree: Tree) -> None:
    lines = render(show_one(describe(tree, "Mine"), with_raw=False), 80)
    assert row(lines, "liver") == ["liver", "3", "1", "1.65", "0.9-2.1"]
    assert row(lines, "spleen") == ["spleen", "1", "-", "0.2", "0.2"]


def test_one_known_dataset_names_its_files_and_its_page(tree: Tree) -> None:
    facts = describe(tree, "Abdomen", records=(ABDOMEN,))
    text = "\n".join(render(show_one(facts, with_raw=True), 80))
    assert "imagesTr/{case}{ext} -> labelsTr/{case}{ext}" in text
    assert "CC BY 4.0 https://example.org/abdomen" in text
    assert "abdomen_raw, not found" in text
    assert "liver, left_kidney, liver_and_tumor" in text
    assert "No set is prepared." in text
