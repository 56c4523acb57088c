"""Verifying a prepared tree against its reports: what was prepared is in an index, as it was."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from neurosam3d.data.prepare.check import check_tree
from neurosam3d.data.prepare.command import data_command
from neurosam3d.data.prepare.problems import Kind
from neurosam3d.data.tree import Tree

Finding = tuple[Kind, str]

DAMAGED = {"kind": "damaged file", "sentence": "b is without spleen: cannot read spleen.nii.gz"}


def findings(tree: Tree) -> list[Finding]:
    return [(problem.kind, problem.sentence) for problem in check_tree(tree).problems]


def edit_index(
    tree: Tree, change: Callable[[list[dict[str, Any]]], object], name: str = "Tr"
) -> None:
    path = tree.index("Liver", name)
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


def edit_report(tree: Tree, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = tree.report("Liver", "Tr")
    content = json.loads(path.read_text())
    change(content["cases"])
    path.write_text(json.dumps(content))


def test_a_label_that_was_prepared_needs_an_entry(tree: Tree) -> None:
    label = tree.label("Liver", "Tr", "tumor", "b")
    edit_index(tree, lambda entries: entries.remove(entries[3]))
    lost = (Kind.LOST_ENTRY, f"{label} was prepared for Liver_Tr and is in no index")
    assert findings(tree)[0] == lost
    assert not check_tree(tree).is_clean
    edit_report(tree, lambda cases: cases[1]["problems"].append(DAMAGED))  # prepared in part
    assert findings(tree)[0] == lost
    edit_report(tree, lambda cases: cases[1]["labels"].pop("tumor"))
    assert [kind for kind, _ in findings(tree)] == [Kind.NOT_NAMED]


def test_an_index_that_is_not_there_is_found_and_a_split_is_not_its_loss(tree: Tree) -> None:
    split = ["--split", "val=0.5", "--name", "Liver", "--out", str(tree.root)]
    assert data_command([], split) == 0
    assert findings(tree) == []
    tree.index("Liver", "Tr").unlink()
    path = tree.index("Liver", "Tr")
    assert findings(tree)[0] == (Kind.MISSING, f"{path} is not there, but cases were prepared: 2")
    tree.index("Liver", "Ts").unlink()
    assert [kind for kind, _ in findings(tree)].count(Kind.MISSING) == 2


@pytest.mark.parametrize("key", ["image_sha256", "label_sha256", "content"])
def test_an_entry_without_a_digest_of_the_report_is_found(tree: Tree, key: str) -> None:
    edit_index(tree, lambda entries: entries[0].pop(key))
    label = tree.label("Liver", "Tr", "liver", "a")
    sentence = f"the entry of {label} lacks what the report says: {key}"
    assert findings(tree) == [(Kind.WRONG_ENTRY, sentence)]
    tree.report("Liver", "Tr").unlink()  # as older preparations left it
    assert findings(tree) == []


def test_an_index_that_cannot_be_read_has_lost_nothing_that_is_known(tree: Tree) -> None:
    tree.index("Liver", "Tr").write_text("[{")
    assert {kind for kind, _ in findings(tree)} == {Kind.BAD_JSON, Kind.NOT_NAMED}
