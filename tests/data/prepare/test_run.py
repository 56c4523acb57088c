"""Preparing a set: jobs by case, and an index whose order does not depend on the workers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.index import read_index, write_index
from neurosam3d.data.prepare import run
from neurosam3d.data.prepare.listing import Listing, write_listing
from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.tree import Tree
from neurosam3d.files import replacing


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
    assert not tree.report("Liver", "Tr").exists()


def test_a_run_that_was_stopped_goes_on_where_it_was(
    tree: Tree, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_only(function: Any, jobs: Sequence[Any], **_: Any) -> Iterator[tuple[int, Any]]:
        yield 0, function(jobs[0])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "run_jobs", first_only)
        with pytest.raises(KeyboardInterrupt):
            run.prepare_set(tree, listing, "Tr", workers=1)
    assert tree.journal("Liver", "Tr").exists()
    report = run.prepare_set(tree, listing, "Tr", workers=1)
    assert (report.num_cases, report.num_kept) == (2, 1)
    assert not tree.journal("Liver", "Tr").exists()
    before = {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()}
    assert run.prepare_set(tree, listing, "Tr", workers=1).num_kept == 2
    after = {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()}
    assert after == before


def test_the_report_lies_beside_the_images(tree: Tree, listing: Listing) -> None:
    problem = Problem(Kind.NO_LABEL, "c_0000.nii.gz has no label", "c_0000")
    listing = replace(listing, problems={"Tr": (problem,)})
    report = run.prepare_set(tree, listing, "Tr", workers=1)
    content = json.loads((tree.root / "Liver/report_Tr.json").read_text())
    assert content == report.to_json()
    assert content["problems"] == {"image without label": 1, "same image twice": 2}
    assert [case["case"] for case in content["cases"]] == ["a_0000", "b_0000", "c_0000"]
    assert not report.is_complete


def test_the_same_image_is_noted_within_a_set_and_across_datasets(
    tree: Tree, listing: Listing
) -> None:
    twins = run.prepare_set(tree, listing, "Tr", workers=1).duplicates
    assert [(p.case, p.sentence) for p in twins] == [
        ("a_0000", "a_0000 shows the same as b_0000 of Liver_Tr"),
        ("b_0000", "b_0000 shows the same as a_0000 of Liver_Tr"),
    ]
    # An index that cannot be read stops nobody else.
    (tree.root / "Broken_Tr.json").write_text("[")
    alone = {"Ts": tuple(item for item in listing.items["Tr"] if item.case == "a_0000")}
    other = replace(listing, name="Other", items=alone)
    (twin,) = run.prepare_set(tree, other, "Ts", workers=1).duplicates
    assert twin.sentence == "a_0000 shows the same as a_0000 of Liver_Tr, b_0000 of Liver_Tr"
    # What a split has moved is no other image.
    cases = list(read_index(tree.index("Liver", "Tr")))
    write_index(tree.index("Liver", "Val"), cases[:2])
    again = run.prepare_set(tree, listing, "Tr", workers=1).duplicates
    assert [p.sentence for p in again if p.case == "a_0000"] == [
        "a_0000 shows the same as b_0000 of Liver_Tr, a_0000 of Other_Ts"
    ]


def test_nothing_half_written_by_a_killed_process_stays(tree: Tree, listing: Listing) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    label = tree.label("Liver", "Tr", "liver", "a_0000")
    for path in (label, tree.index("Liver", "Tr")):
        with suppress(FileNotFoundError), replacing(path) as partial:  # nothing is written to it
            left = partial.name.replace(f"-{os.getpid()}-", f"-{process.pid}-")
            path.with_name(left).write_bytes(b"half")
    assert len(list(tree.root.rglob(".part-*"))) == 2
    run.prepare_set(tree, listing, "Tr", workers=1)
    assert list(tree.root.rglob(".*")) == []


def test_a_damaged_index_is_refused_before_anything_is_done(tree: Tree, listing: Listing) -> None:
    run.prepare_set(tree, listing, "Tr", workers=1)
    for set_name in ("Tr", "Val"):
        path = tree.index("Liver", set_name)
        path.write_text("[{")
        sentence = rf"{path.name} is not valid JSON.*; remove it to prepare Liver without its split"
        with pytest.raises(ValueError, match=sentence):
            run.prepare_set(tree, listing, "Tr", workers=1)
        path.unlink()


def test_a_set_that_is_not_listed_is_refused(tree: Tree, listing: Listing) -> None:
    with pytest.raises(ValueError, match="for Liver_Val; listed are Liver_Tr"):
        run.prepare_set(tree, listing, "Val", workers=1)
    assert not tree.report("Liver", "Val").exists()


def test_a_set_of_which_nothing_could_be_listed_has_a_report(tree: Tree, listing: Listing) -> None:
    problem = Problem(Kind.NO_LABEL, "c.nii.gz has no label", "c")
    listing = replace(listing, problems={"Val": (problem,)})
    with pytest.raises(ValueError, match="for Liver_Val; listed are Liver_Tr"):
        run.prepare_set(tree, listing, "Val", workers=1)
    content = json.loads(tree.report("Liver", "Val").read_text())
    assert [(case["case"], case["status"]) for case in content["cases"]] == [("c", "skipped")]
