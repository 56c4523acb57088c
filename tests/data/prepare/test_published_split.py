"""Published splits: complete, disjoint, refused where the cases are others, and taken back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d.data.case import Case
from neurosam3d.data.index import read_index, write_index
from neurosam3d.data.prepare import division
from neurosam3d.data.prepare.published_split import apply_published_split, published_splits
from neurosam3d.data.prepare.split import split_training_set, write_keeping_split
from neurosam3d.data.tree import Tree

COLON = "adapter3d/colon"


def make_case(tree: Tree, case: str, class_name: str = "tumor", *, files: str = "Tr") -> Case:
    return Case(
        image=tree.image("A", files, case),
        label=tree.label("A", files, class_name, case),
        class_name=class_name,
        volume_mm3=9.0,
        spacing=(2.0, 1.5, 3.0),
    )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """The 126 cases of MSD colon, of two classes each, all in training."""
    tree = Tree(tmp_path)
    ids = sorted(case_id for part in published_splits()[COLON][0].values() for case_id in part)
    names = ("tumor", "colon")
    write_index(tree.index("A", "Tr"), [make_case(tree, i, name) for i in ids for name in names])
    return tree


def ids(tree: Tree, set_name: str) -> list[str]:
    return sorted(case.case_id for case in read_index(tree.index("A", set_name)))


def published(fold: int, set_name: str) -> list[str]:
    return sorted(2 * list(published_splits()[COLON][fold][set_name]))


@pytest.mark.parametrize(
    ("name", "num_cases", "first_fold"),
    [
        ("adapter3d/kits", 300, (209, 30, 61)),
        ("adapter3d/pancreas", 281, (196, 28, 57)),
        ("adapter3d/lits", 118, (83, 11, 24)),
        ("adapter3d/colon", 126, (89, 11, 26)),
    ],
)
def test_the_shipped_splits_have_the_published_sizes(name, num_cases, first_fold):
    folds = published_splits()[name]
    assert len(folds) == 5
    assert tuple(len(folds[0][set_name]) for set_name in ("Tr", "Val", "Ts")) == first_fold
    for fold in folds:
        parts = [set(fold[set_name]) for set_name in ("Tr", "Val", "Ts")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == num_cases
    assert len({case_id for fold in folds for case_id in fold["Ts"]}) == num_cases


def test_synapse_has_one_division_without_cases_for_validation():
    (fold,) = published_splits()["samed/synapse"]
    numbers = {name: {int(case_id.removeprefix("img")) for case_id in fold[name]} for name in fold}
    assert numbers["Ts"] == {1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38}
    assert numbers["Tr"] == {*range(1, 11), *range(21, 41)} - numbers["Ts"]
    assert all(len(case_id) == len("img0001") for ids in fold.values() for case_id in ids)


def test_cases_move_as_published_with_all_their_classes(tree):
    counts = apply_published_split(tree, "A", COLON)
    assert counts == {"Tr": 89, "Val": 11, "Ts": 26}
    for set_name in ("Tr", "Val", "Ts"):
        assert ids(tree, set_name) == published(0, set_name)
    moved = read_index(tree.index("A", "Ts"))[0]
    assert moved.image.parent == tree.image("A", "Tr", "x").parent  # files stay


def test_another_fold_takes_back_what_one_has_moved(tree):
    for fold in (0, 3, 3):
        apply_published_split(tree, "A", COLON, fold=fold)
    for set_name in ("Tr", "Val", "Ts"):
        assert ids(tree, set_name) == published(3, set_name)


def test_sets_of_the_raw_data_stay(tree):
    own = make_case(tree, "other", files="Ts")
    write_index(tree.index("A", "Ts"), [own])
    for fold in (0, 1):
        apply_published_split(tree, "A", COLON, fold=fold)
    assert ids(tree, "Ts") == sorted([*published(1, "Ts"), "other"])


def test_a_share_for_validation_leaves_the_test_set_alone(tree):
    apply_published_split(tree, "A", COLON)
    kept, moved = split_training_set(tree, "A", 0.2, seed=0)
    assert kept + moved == 100
    assert ids(tree, "Ts") == published(0, "Ts")


def test_preparing_again_keeps_held_out_cases_out_of_training(tree):
    fresh = list(read_index(tree.index("A", "Tr")))
    apply_published_split(tree, "A", COLON)
    write_keeping_split(tree, "A", "Tr", [*fresh, make_case(tree, "new")])
    assert ids(tree, "Tr") == sorted([*published(0, "Tr"), "new"])
    for set_name in ("Val", "Ts"):
        assert ids(tree, set_name) == published(0, set_name)
    write_keeping_split(tree, "A", "Ts", [make_case(tree, "own", files="Ts")])
    assert ids(tree, "Ts") == sorted([*published(0, "Ts"), "own"])


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "change",
    [
        lambda tree: apply_published_split(tree, "A", COLON, fold=1),
        lambda tree: split_training_set(tree, "A", 0.3, seed=1),
    ],
)
def test_a_crash_loses_no_case_and_running_again_mends_it(tree, monkeypatch, change, writes):
    apply_published_split(tree, "A", COLON)

    def everything() -> list[str]:
        return sorted(i for s in ("Tr", "Val", "Ts") for i in ids(tree, s))

    whole = everything()
    with monkeypatch.context() as patched:
        patched.setattr(division, "write_index", _crashing_after(writes))
        try:
            change(tree)
        except KeyboardInterrupt:
            assert set(everything()) == set(whole)
    change(tree)
    assert everything() == whole


def _crashing_after(writes: int) -> Callable[[Path, list[Case]], None]:
    left = [None] * writes

    def write(path: Path, cases: list[Case]) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        write_index(path, cases)

    return write


def test_other_cases_are_refused_unless_told_to_go_on(tree):
    cases = list(read_index(tree.index("A", "Tr")))
    left = [case for case in cases if case.case_id != "colon_001"]
    write_index(tree.index("A", "Tr"), [*left, make_case(tree, "extra")])
    with pytest.raises(
        ValueError,
        match=r"A must have the 126 cases of adapter3d/colon: 1 are not in adapter3d/colon, for "
        r"example extra; 1 are not prepared, for example colon_001; with --keep-going",
    ):
        apply_published_split(tree, "A", COLON)
    assert not tree.index("A", "Val").exists()
    counts = apply_published_split(tree, "A", COLON, keep_going=True)
    assert sum(counts.values()) == 126
    assert "extra" in ids(tree, "Tr")


@pytest.mark.parametrize(
    ("split", "fold", "message"),
    [
        ("adapter3d/liver", 0, "unknown split 'adapter3d/liver'; known: adapter3d/kits, "),
        (COLON, 5, "has the folds 0 to 4, got 5"),
        (COLON, -1, "has the folds 0 to 4, got -1"),
    ],
)
def test_unknown_splits_and_folds_are_refused(tree, split, fold, message):
    with pytest.raises(ValueError, match=message):
        apply_published_split(tree, "A", split, fold=fold)


def test_a_split_leaves_something_in_training(tree):
    held_out = [make_case(tree, case_id) for case_id in published_splits()[COLON][0]["Ts"]]
    write_index(tree.index("A", "Tr"), held_out)
    with pytest.raises(ValueError, match="adapter3d/colon would leave none of A"):
        apply_published_split(tree, "A", COLON, keep_going=True)


def test_the_command_divides_and_tells(tree, tmp_path, run):
    (tmp_path / "out").mkdir()
    for path in tmp_path.glob("A_*.json"):
        path.rename(tmp_path / "out" / path.name)
    code, said = run("--split", COLON, "--name", "A", "--fold", 2)
    assert (code, "fold 2: images in A_Tr 88, A_Val 12, A_Ts 26" in said) == (0, True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--split", "adapter3d/liver", "--name", "A"], "one of adapter3d/kits"),
        (["--split", "val=0.2", "--name", "A", "--fold", "1"], "--fold goes with a published"),
        (["--split", COLON, "--name", "A", "--group", "g.csv"], "--group goes with a share"),
        (["--split", COLON], "--name NAME is needed"),
    ],
)
def test_mistakes_are_one_sentence(run, words, sentence):
    code, said = run(*words)
    assert code == 2
    assert sentence in " ".join(said.split())
