"""Splitting off validation patients, again and again, and preparing afterwards."""

from pathlib import Path

import pytest

from neurosam3d.data.case import Case
from neurosam3d.data.index import read_index, write_index
from neurosam3d.data.prepare.split import (
    link_cases,
    read_patients,
    split_training_set,
    write_keeping_split,
)
from neurosam3d.data.tree import Tree


def make_case(
    tree: Tree,
    case: str,
    *,
    patient: str | None = None,
    files: str = "Tr",
    class_name: str = "liver",
    content: str = "",
) -> Case:
    return Case(
        image=tree.image("A", files, case),
        label=tree.label("A", files, class_name, case),
        class_name=class_name,
        volume_mm3=9.0,
        spacing=(2.0, 1.5, 3.0),
        patient=patient,
        extra={"content": content} if content else {},
    )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def training(tree: Tree) -> list[Case]:
    """Ten cases, written as the training set of A."""
    cases = [make_case(tree, f"c{i}") for i in range(10)]
    write_index(tree.index("A", "Tr"), cases)
    return cases


def names(tree: Tree, set_name: str) -> set[str]:
    return {case.case_id for case in read_index(tree.index("A", set_name))}


def test_a_share_of_the_patients_moves(tree: Tree, training: list[Case]) -> None:
    assert split_training_set(tree, "A", 0.3, seed=0) == (7, 3)
    validation = read_index(tree.index("A", "Val"))
    assert len(validation) == 3
    assert all(case in training for case in validation)  # the files stay where they are
    assert names(tree, "Tr") | names(tree, "Val") == {case.case_id for case in training}
    assert not names(tree, "Tr") & names(tree, "Val")


def test_the_seed_decides_and_again_is_the_same(tree: Tree, training: list[Case]) -> None:
    split_training_set(tree, "A", 0.3, seed=1)
    first = names(tree, "Val")
    split_training_set(tree, "A", 0.3, seed=1)
    assert names(tree, "Val") == first
    others = set()
    for seed in range(2, 6):
        split_training_set(tree, "A", 0.3, seed=seed)
        assert len(names(tree, "Val")) == 3
        assert len(names(tree, "Tr")) == 7
        others.add(frozenset(names(tree, "Val")))
    assert len(others | {frozenset(first)}) > 1


def test_patients_are_never_divided(tree: Tree, training: list[Case]) -> None:
    patients = {case.case_id: f"p{i // 4}" for i, case in enumerate(training)}  # 4, 4 and 2 cases
    for seed in range(6):
        split_training_set(tree, "A", 0.34, seed=seed, patients=patients)
        sides = [{c.patient for c in read_index(tree.index("A", s))} for s in ("Tr", "Val")]
        assert (len(sides[0]), len(sides[1])) == (2, 1)
        assert not sides[0] & sides[1]
        assert len(names(tree, "Tr") | names(tree, "Val")) == 10


def test_patients_in_the_entries_count_without_a_file(tree: Tree) -> None:
    cases = [make_case(tree, f"c{i}", patient="p" if i < 3 else "q") for i in range(4)]
    write_index(tree.index("A", "Tr"), cases)
    split_training_set(tree, "A", 0.5, seed=0)
    assert {frozenset(names(tree, "Tr")), frozenset(names(tree, "Val"))} == {
        frozenset({"c0", "c1", "c2"}),
        frozenset({"c3"}),
    }


def test_images_of_one_content_are_never_divided_whatever_their_class(tree: Tree) -> None:
    # The scan of c0 is there again as c4 with another class, and as c8.
    cases = [
        make_case(tree, f"c{i}", content=str(i % 4), class_name="liver" if i < 4 else "spleen")
        for i in range(10)
    ]
    write_index(tree.index("A", "Tr"), cases)
    for seed in range(6):
        assert split_training_set(tree, "A", 0.5, seed=seed) == (2, 2)
        contents = [
            {case.extra["content"] for case in read_index(tree.index("A", set_name))}
            for set_name in ("Tr", "Val")
        ]
        assert not contents[0] & contents[1]
        assert contents[0] | contents[1] == {"0", "1", "2", "3"}


def test_links_of_patients_and_contents_make_one_group(tree: Tree) -> None:
    cases = [
        make_case(tree, "a", patient="p"),
        make_case(tree, "b", patient="p", content="1"),
        make_case(tree, "c", patient="q", content="1"),
        make_case(tree, "d", patient="q"),
        make_case(tree, "d", patient="q", class_name="spleen"),
        make_case(tree, "e", content="2"),
        make_case(tree, "f"),
        make_case(tree, "p"),  # a case of this name is no patient of this name
    ]
    groups = [[case.case_id for case in group] for group in link_cases(cases)]
    assert groups == [["e"], ["f"], ["a", "b", "c", "d", "d"], ["p"]]
    backwards = [[case.case_id for case in group] for group in link_cases(cases[::-1])]
    assert [sorted(group) for group in backwards] == groups


@pytest.mark.parametrize(("share", "sizes"), [(0.001, (9, 1)), (0.999, (1, 9))])
def test_neither_side_is_ever_empty(
    tree: Tree, training: list[Case], share: float, sizes: tuple[int, int]
) -> None:
    assert split_training_set(tree, "A", share, seed=0) == sizes


def test_a_validation_set_of_its_own_stays(tree: Tree, training: list[Case]) -> None:
    own = make_case(tree, "official", files="Val")
    write_index(tree.index("A", "Val"), [own])
    for seed in (0, 1):
        split_training_set(tree, "A", 0.2, seed=seed)
        validation = read_index(tree.index("A", "Val"))
        assert own in validation
        assert len(validation) == 3


def test_what_cannot_be_split_is_refused(tree: Tree, training: list[Case]) -> None:
    with pytest.raises(ValueError, match=r"p\.csv: no patient is given for case 'c1' \(9 miss"):
        split_training_set(tree, "A", 0.5, seed=0, patients={"c0": "p"}, origin="p.csv")
    with pytest.raises(ValueError, match="lies between 0 and 1, got 1"):
        split_training_set(tree, "A", 1, seed=0)
    with pytest.raises(ValueError, match=r"cannot read .*B_Tr\.json"):
        split_training_set(tree, "B", 0.5, seed=0)
    same = {case.case_id: "p" for case in training}
    with pytest.raises(ValueError, match="at least 2 patients, A_Tr has 1"):
        split_training_set(tree, "A", 0.5, seed=0, patients=same)
    assert read_index(tree.index("A", "Tr")) == training
    assert not tree.index("A", "Val").exists()


def test_preparing_the_training_set_again_keeps_the_split(tree: Tree, training: list[Case]) -> None:
    patients = {case.case_id: f"p{case.case_id}" for case in training}
    split_training_set(tree, "A", 0.3, seed=0, patients=patients)
    before = names(tree, "Val")
    write_keeping_split(tree, "A", "Tr", [*training, make_case(tree, "new")])
    assert names(tree, "Val") == before
    assert names(tree, "Tr") == {case.case_id for case in training} - before | {"new"}
    entries = [*read_index(tree.index("A", "Tr")), *read_index(tree.index("A", "Val"))]
    assert {case.case_id: case.patient for case in entries} == {**patients, "new": None}


def test_a_new_case_follows_its_patient_and_its_content_to_validation(tree: Tree) -> None:
    cases = [make_case(tree, f"c{i}", patient=f"p{i}", content=str(i)) for i in range(4)]
    write_index(tree.index("A", "Tr"), cases)
    split_training_set(tree, "A", 0.25, seed=0)
    (moved,) = read_index(tree.index("A", "Val"))
    stays = next(case for case in cases if case.case_id != moved.case_id)
    new = [
        make_case(tree, "n1", patient=moved.patient),
        make_case(tree, "n2", content=moved.extra["content"]),
        make_case(tree, "n3", patient=stays.patient, content="new"),
    ]
    write_keeping_split(tree, "A", "Tr", [*cases, *new])
    assert names(tree, "Val") == {moved.case_id, "n1", "n2"}
    assert names(tree, "Tr") == {*(c.case_id for c in cases), "n3"} - {moved.case_id}


def test_preparing_a_validation_set_keeps_what_was_moved_there(
    tree: Tree, training: list[Case]
) -> None:
    split_training_set(tree, "A", 0.2, seed=0)
    moved = names(tree, "Val")
    write_keeping_split(tree, "A", "Val", [make_case(tree, "official", files="Val")])
    assert names(tree, "Val") == {"official", *moved}


def test_read_patients(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("site,patient,case\n1,p1,a\n1,p1,b\n2,p2,c\n", "utf-8-sig")
    assert read_patients(tmp_path / "p.csv") == {"a": "p1", "b": "p1", "c": "p2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,person\na,p\n", "needs the columns case and patient, got {'case': 'a'"),
        ("case,patient\na\n", "needs the columns case and patient"),
        ("case,patient\na,p\na,q\n", "names two patients for case 'a'"),
        ("", "and a row per case"),
    ],
)
def test_an_unfit_patient_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_patients(tmp_path / "p.csv")
    with pytest.raises(ValueError, match=r"cannot read .*none\.csv"):
        read_patients(tmp_path / "none.csv")
