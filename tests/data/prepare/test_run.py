"""Preparing a set: jobs by case, and an index whose order does not depend on the workers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.index import read_index
from neurosam3d.data.prepare import run
from neurosam3d.data.prepare.listing import Listing, write_listing
from neurosam3d.data.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "out")


@pytest.fixture
def listing(raw: Path, tree: Tree) -> Listing:
    """The cases a and b class by class, as a list made by hand may have them."""
    items = [
        {"image": f"imagesTr/{case}_0000.nii.gz", "seg": f"labelsTr/{case}.nii.gz", "seg_index": v}
        for v in (1, 2)
        for case in "ba"
    ]
    labels = {0: "background", 1: "liver", 2: "tumor"}
    content = {"name": "Liver", "modality": ["CT"], "labels": labels, "training": items}
    listing = Listing.from_json(content, source="test", folder=raw)
    write_listing(tree, listing, raw=raw)
    return listing


def entries(tree: Tree) -> list[tuple[str, str]]:
    return [(c.case_id, c.class_name) for c in read_index(tree.index("Liver", "Tr"))]


def test_a_case_is_one_job_wherever_its_items_stand(
    tree: Tree, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []

    def backwards(function: Any, jobs: Sequence[Any], **_: Any) -> Iterator[tuple[int, Any]]:
        numbers.append(len(jobs))
        for position in reversed(range(len(jobs))):
            yield position, function(jobs[position])

    monkeypatch.setattr(run, "run_jobs", backwards)
    report = run.prepare_set(tree, listing, "Tr", workers=1)
    assert numbers == [2]
    assert (report.num_entries, report.num_empty, report.num_skipped) == (4, 0, 0)
    assert entries(tree) == [
        ("a_0000", "liver"),
        ("a_0000", "tumor"),
        ("b_0000", "liver"),
        ("b_0000", "tumor"),
    ]


def test_the_index_is_written_after_the_last_file(
    tree: Tree, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> Iterator[tuple[int, Any]]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(run, "run_jobs", stopped)
    with pytest.raises(KeyboardInterrupt):
        run.prepare_set(tree, listing, "Tr", workers=1)
    assert not tree.index("Liver", "Tr").exists()


def test_a_set_that_is_not_listed_is_refused(tree: Tree, listing: Listing) -> None:
    with pytest.raises(ValueError, match="for Liver_Val; listed are Liver_Tr"):
        run.prepare_set(tree, listing, "Val", workers=1)
