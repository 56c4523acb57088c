"""Verifying a prepared tree: nothing wrong, and every single thing that can be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosam3d.data.index import read_index, write_index
from neurosam3d.data.prepare.check import check_tree
from neurosam3d.data.prepare.command import data_command
from neurosam3d.data.tree import Tree

Write = Callable[..., Path]


@pytest.fixture
def tree(raw: Path, tmp_path: Path) -> Tree:
    """The tree of two cases with two classes each."""
    out = str(tmp_path / "out")
    arguments = ["-dt", "Tr", "--raw", str(raw), "--name", "Liver", "--out", out]
    assert data_command([], [*arguments, "--workers", "1"]) == 0
    return Tree(tmp_path / "out")


def problem(tree: Tree) -> str:
    (sentence,) = check_tree(tree).problems
    return sentence


def test_a_fresh_tree_has_no_problem(tree: Tree) -> None:
    report = check_tree(tree)
    assert (report.num_sets, report.num_labels, report.problems) == (1, 4, ())


def test_a_missing_or_truncated_file_is_found(tree: Tree) -> None:
    label = tree.label("Liver", "Tr", "liver", "a")
    content = label.read_bytes()
    label.write_bytes(content[: len(content) // 2])
    assert f"cannot read {label}" in problem(tree)
    label.unlink()
    assert f"cannot read {label}: no such file" in problem(tree)
    label.write_bytes(content)
    tree.image("Liver", "Tr", "b").unlink()
    assert "imagesTr/b.nii.gz: no such file" in problem(tree)


def test_wrong_content_of_a_label_is_found(
    tree: Tree, write_volume: Write, affine: np.ndarray, organs: np.ndarray
) -> None:
    label = tree.label("Liver", "Tr", "liver", "a")
    write_volume(label, (organs == 1) * np.uint8(1) + (organs == 2) * np.uint8(5))
    assert problem(tree) == f"{label} holds values other than 0 and 1"
    write_volume(label, np.zeros_like(organs))
    assert problem(tree) == f"{label} has no voxel of its class"
    write_volume(label, (organs == 2).astype(np.uint8))
    assert problem(tree) == f"{label} measures 18.0 mm^3, the index says 108.0"
    affine[2, 3] += 0.5
    write_volume(label, (organs == 1).astype(np.uint8), affine)
    assert "does not lie on the grid of" in problem(tree)


def test_an_image_of_several_channels_is_found(tree: Tree, write_volume: Write) -> None:
    write_volume(tree.image("Liver", "Tr", "a"), np.ones((9, 7, 5, 2), dtype=np.int16))
    assert "imagesTr/a.nii.gz has 2 channels, expected 1" in problem(tree)


def test_wrong_spacing_in_the_index_is_found(tree: Tree) -> None:
    first, *others = read_index(tree.index("Liver", "Tr"))
    write_index(tree.index("Liver", "Tr"), [replace(first, spacing=(3.0, 1.5, 2.0)), *others])
    assert "has spacing (2.0, 1.5, 3.0) mm, the index says (3.0, 1.5, 2.0)" in problem(tree)


def test_a_patient_in_two_sets_is_found(tree: Tree) -> None:
    cases = [replace(case, patient="p1") for case in read_index(tree.index("Liver", "Tr"))]
    write_index(tree.index("Liver", "Tr"), cases[:2])
    write_index(tree.index("Liver", "Val"), cases[2:])
    assert problem(tree) == "patient 'p1' is in Liver_Tr and Liver_Val"


def test_unfit_and_empty_indexes_are_found(tree: Tree) -> None:
    write_index(tree.index("Liver", "Val"), [])
    assert problem(tree) == "Liver_Val has no entries"
    tree.index("Liver", "Val").write_text("[{]")
    assert "Liver_Val.json is not valid JSON" in problem(tree)


def test_one_dataset_can_be_checked_alone(tree: Tree) -> None:
    tree.index("Other", "Tr").write_text("[]")
    assert check_tree(tree, names=["Liver"]).problems == ()
    with pytest.raises(ValueError, match="no index of None_Such to check in"):
        check_tree(tree, names=["None_Such"])
    with pytest.raises(ValueError, match="no index to check in"):
        check_tree(Tree(tree.root / "Liver"))
