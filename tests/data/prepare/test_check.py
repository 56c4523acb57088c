"""Verifying a prepared tree: nothing wrong, and every single thing that can be."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from neurosam3d.data.prepare.check import check_tree
from neurosam3d.data.prepare.command import data_command
from neurosam3d.data.prepare.problems import Kind
from neurosam3d.data.tree import Tree
from neurosam3d.files import replacing

Write = Callable[..., Path]
Finding = tuple[Kind, str]


def findings(tree: Tree) -> list[Finding]:
    return [(problem.kind, problem.sentence) for problem in check_tree(tree).problems]


def edit_index(
    tree: Tree, change: Callable[[list[dict[str, Any]]], object], name: str = "Tr"
) -> None:
    path = tree.index("Liver", name)
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_fresh_tree_has_no_problem_and_is_not_touched(tree: Tree) -> None:
    before = snapshot(tree.root)
    report = check_tree(tree)
    assert (report.num_sets, report.num_labels, report.problems) == (2, 6, ())
    assert report.is_clean
    assert snapshot(tree.root) == before


def test_a_tree_is_checked_from_wherever_it_is_named(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree.root.parent)
    assert check_tree(Tree(Path("out"))).problems == ()


FILES = {
    "image": "imagesTr/a.nii.gz",
    "label": "labelsTr/liver/a.nii.gz",
    "test image": "imagesTs/t.nii.gz",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        ("missing", {Kind.MISSING}),
        ("empty", {Kind.EMPTY_FILE}),
        ("truncated", {Kind.DAMAGED}),
        ("end", {Kind.DAMAGED}),
        ("header", {Kind.CHANGED}),
        ("recompressed", {Kind.CHANGED}),
        ("appended", {Kind.DAMAGED, Kind.CHANGED}),
    ],
)
def test_a_damaged_file_is_found(tree: Tree, file: str, damage: str, kinds: set[Kind]) -> None:
    path = tree.dataset("Liver") / FILES[file]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "recompressed":  # sound, with the same voxels
        path.write_bytes(gzip.compress(gzip.decompress(content), 2, mtime=1))
    else:
        changed = {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "end": content[:-1],
            "header": content[:4] + bytes([content[4] ^ 1]) + content[5:],  # a date
            "appended": content + b"more",
        }
        path.write_bytes(changed[damage])
    (finding,) = findings(tree)
    assert finding[0] in kinds
    assert str(path) in finding[1]


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(tree: Tree, file: str) -> None:
    path = tree.dataset("Liver") / FILES[file]
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.choice(len(content), 25, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(flipped)
        assert any(str(path) in sentence for _, sentence in findings(tree)), place


def test_files_that_were_swapped_are_found(tree: Tree) -> None:
    a, b = (tree.image("Liver", "Tr", case) for case in "ab")
    os.rename(a, tree.root / "other")
    os.rename(b, a)
    os.rename(tree.root / "other", b)
    assert findings(tree) == [
        (Kind.CHANGED, f"{path} is not the file that was prepared") for path in (a, b)
    ]
    shutil.copy(tree.label("Liver", "Tr", "tumor", "a"), tree.label("Liver", "Tr", "liver", "a"))
    assert Kind.CHANGED in [k for k, s in findings(tree) if "labelsTr/liver/a" in s]


def test_wrong_content_of_a_label_is_found(
    tree: Tree, write_volume: Write, affine: np.ndarray, organs: np.ndarray
) -> None:
    label = tree.label("Liver", "Tr", "liver", "a")
    changed = (Kind.CHANGED, f"{label} is not the file that was prepared")
    write_volume(label, (organs == 1) * np.uint8(1) + (organs == 2) * np.uint8(5))
    values = (Kind.BAD_LABEL, f"{label} holds values other than 0 and 1")
    assert findings(tree) == [changed, values]
    write_volume(label, np.zeros_like(organs))
    empty = (Kind.BAD_LABEL, f"{label} has no voxel of its class")
    assert findings(tree) == [changed, empty]
    write_volume(label, (organs == 2).astype(np.uint8))
    volume = (Kind.WRONG_ENTRY, f"{label} measures 18.0 mm^3, the index says 108.0")
    assert findings(tree) == [changed, volume]
    affine[2, 3] += 0.5
    write_volume(label, (organs == 1).astype(np.uint8), affine)
    image = tree.image("Liver", "Tr", "a")
    grid = (Kind.OFF_GRID, f"{label} does not lie on the grid of {image}")
    assert findings(tree) == [changed, grid]


def test_an_image_of_another_grid_or_of_several_channels_is_found(
    tree: Tree, write_volume: Write, affine: np.ndarray
) -> None:
    image = tree.image("Liver", "Tr", "a")
    affine[0, 0] = 2.5
    write_volume(image, affine=affine)
    kinds = [kind for kind, _ in findings(tree)]
    assert kinds.count(Kind.OFF_GRID) == 2
    assert {Kind.CHANGED, Kind.WRONG_ENTRY} <= set(kinds)
    write_volume(image, np.ones((9, 7, 5, 2), dtype=np.int16))
    assert findings(tree) == [(Kind.BAD_IMAGE, f"{image} has 2 channels, expected 1")]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("volume", 109.0, "labelsTr/liver/a.nii.gz measures 108.0 mm^3, the index says 109.0"),
        ("spacing", [3.0, 1.5, 2.0], "has spacing (2.0, 1.5, 3.0) mm, the index says (3.0, 1.5"),
        ("class", "tumor", "labelsTr/liver/a.nii.gz is not the place of class tumor of"),
        ("content", "0" * 64, "imagesTr/a.nii.gz has another content than the index says"),
        ("image", "Liver/imagesTr/b.nii.gz", "is not the place of class liver of"),
        ("label", "Liver/labelsTr/liver/b.nii.gz", "is not the place of class liver of"),
        ("image", "Liver/../Liver/imagesTr/a.nii.gz", "is not the place of class liver of"),
        ("label_sha256", "0" * 64, "labelsTr/liver/a.nii.gz is not the file that was prepared"),
        ("image_sha256", "0" * 64, "imagesTr/a.nii.gz is not the file that was prepared"),
    ],
)
def test_an_entry_that_is_not_true_is_found(
    tree: Tree, key: str, value: object, sentence: str
) -> None:
    def change(entries: list[dict[str, Any]]) -> None:
        assert entries[0][key] != value
        entries[0][key] = value

    edit_index(tree, change)
    found = [s for kind, s in findings(tree) if kind in (Kind.WRONG_ENTRY, Kind.CHANGED)]
    assert any(sentence in text for text in found)
    assert not check_tree(tree).is_clean


@pytest.mark.parametrize("key", ["spacing", "content", "image_sha256"])
def test_what_the_last_of_many_entries_says_of_its_image_counts(
    tree: Tree, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurosam3d.data.prepare.check_files._LABELS_PER_JOB", 1)
    assert findings(tree) == []
    value = [9.0, 9.0, 9.0] if key == "spacing" else "0" * 64
    edit_index(tree, lambda entries: entries[1].update({key: value}))
    (_, sentence) = findings(tree)[-1]
    assert str(tree.image("Liver", "Tr", "a")) in sentence


def test_labels_of_an_unusable_image_are_checked_as_well(tree: Tree, write_volume: Write) -> None:
    write_volume(tree.image("Liver", "Tr", "a"), np.ones((9, 7, 5, 2), dtype=np.int16))
    label = tree.label("Liver", "Tr", "tumor", "a")
    label.write_bytes(label.read_bytes()[:-5])
    assert [kind for kind, _ in findings(tree)] == [Kind.BAD_IMAGE, Kind.DAMAGED]


def test_a_file_that_lies_elsewhere_is_found(tree: Tree) -> None:
    shutil.copytree(tree.root / "Liver", tree.root.parent / "Liver")

    def change(entries: list[dict[str, Any]]) -> None:
        for key in ("image", "label"):
            entries[0][key] = f"../{entries[0][key]}"

    edit_index(tree, change)
    assert findings(tree)[0][0] is Kind.WRONG_ENTRY


def test_an_entry_that_is_there_twice_is_found(tree: Tree) -> None:
    edit_index(tree, lambda entries: entries.append(entries[0]))
    label = tree.label("Liver", "Tr", "liver", "a")
    assert findings(tree) == [(Kind.WRONG_ENTRY, f"Liver_Tr names {label} twice")]


def test_unfit_and_empty_indexes_are_found(tree: Tree) -> None:
    val = tree.index("Liver", "Val")
    val.write_text("[]")
    assert findings(tree) == [(Kind.EMPTY_INDEX, "Liver_Val has no entries")]
    for text in ("[{", "[{}]", "{}", "", '[{"image": 3}]'):
        val.write_text(text)
        ((kind, sentence),) = findings(tree)
        assert kind is Kind.BAD_JSON
        assert str(val) in sentence


@pytest.mark.parametrize("file", ["dataset.json", "report_Tr.json"])
def test_other_json_files_that_are_damaged_are_found(tree: Tree, file: str) -> None:
    path = tree.dataset("Liver") / file
    path.write_text(path.read_text()[:-20])
    ((kind, sentence),) = findings(tree)
    assert (kind, str(path) in sentence) == (Kind.BAD_JSON, True)
    path.unlink()
    assert findings(tree) == []


def test_a_patient_in_two_sets_is_found(tree: Tree) -> None:
    for name in ("Tr", "Ts"):
        edit_index(tree, lambda entries: [e.update(patient="p1") for e in entries] and None, name)
    assert findings(tree) == [(Kind.DIVIDED, "patient 'p1' is in Liver_Tr and Liver_Ts")]


def test_an_image_in_two_sets_is_found(tree: Tree) -> None:
    shutil.copy(tree.index("Liver", "Tr"), tree.index("Liver", "Val"))
    images = [tree.image("Liver", "Tr", case) for case in "ab"]
    assert findings(tree) == [
        (Kind.DIVIDED, f"image {image} is in Liver_Tr and Liver_Val") for image in images
    ]


def test_cases_of_one_name_in_two_sets_are_no_patient(tree: Tree) -> None:
    for kind in ("imagesTs", "labelsTs/liver", "labelsTs/tumor"):
        folder = tree.root / "Liver" / kind
        (folder / "t.nii.gz").rename(folder / "a.nii.gz")

    def change(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            for key in ("image", "label"):
                entry[key] = entry[key].replace("t.nii.gz", "a.nii.gz")

    edit_index(tree, change, "Ts")
    tree.report("Liver", "Ts").unlink()
    assert findings(tree) == []


@pytest.mark.parametrize(("other", "kind"), [("Ts", Kind.LEAK), ("Tr", Kind.DUPLICATE)])
def test_the_same_picture_in_another_dataset_is_found(
    tree: Tree, sound: Path, other: str, kind: Kind
) -> None:
    raw = tree.root.parent / "raw"
    for folder in ("images", "labels"):
        shutil.copytree(sound.parent / f"raw/{folder}Tr", raw / f"{folder}{other}")
    shutil.copy(sound.parent / "raw/dataset.json", raw)
    image = nibabel.load(raw / f"images{other}/a_0000.nii.gz")
    flipped = image.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
    nibabel.save(flipped, raw / f"images{other}/a_0000.nii.gz")
    (raw / f"images{other}/b_0000.nii.gz").unlink()
    (raw / f"labels{other}/b.nii.gz").unlink()
    arguments = ["-dt", other, "--raw", str(raw), "--name", "Copy", "--out", str(tree.root)]
    assert data_command([], [*arguments, "--workers", "1"]) == 0
    report = check_tree(tree)
    ((found, sentence),) = [(p.kind, p.sentence) for p in report.problems]
    assert (found, sentence) == (kind, f"one picture is a of Copy_{other}, a of Liver_Tr")
    assert report.is_clean == (kind is Kind.DUPLICATE)
    # Whoever asks for one dataset is told, too.
    assert len(check_tree(tree, names=["Liver"]).problems) == 1
    assert check_tree(tree, names=["Liver"]).num_sets == 2


def test_what_a_killed_run_leaves_is_found(tree: Tree) -> None:
    left = [
        tree.root / ".part-0badcafe-1-0badcafe-Liver_Tr.json",
        tree.root / "Liver/imagesTr/.part-7c0ffee-a.nii.gz",
        tree.journal("Liver", "Tr"),
    ]
    for path in left:
        path.touch()
    assert {sentence for _, sentence in findings(tree)} == {
        f"{path} is left by a run that did not end" for path in left
    }
    assert {kind for kind, _ in findings(tree)} == {Kind.UNFINISHED}


def test_what_another_run_is_writing_now_is_no_problem(tree: Tree) -> None:
    with replacing(tree.image("Liver", "Tr", "new")) as partial:
        partial.touch()
        assert findings(tree) == []


def test_files_that_no_index_names_are_noted(tree: Tree) -> None:
    extra = [tree.image("Liver", "Tr", "z"), tree.label("Liver", "Tr", "spleen", "a")]
    for path in extra:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    report = check_tree(tree)
    assert report.is_clean
    assert [(p.kind, p.sentence) for p in report.problems] == [
        (Kind.NOT_NAMED, f"{p.parent} holds files of no index: 1, the first {p.name}")
        for p in extra
    ]


def test_entries_without_digests_are_checked_as_before(tree: Tree) -> None:
    def forget(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            for key in ("image_sha256", "label_sha256", "content"):
                del entry[key]

    for name in ("Tr", "Ts"):
        edit_index(tree, forget, name)
        tree.report("Liver", name).unlink()
    assert findings(tree) == []
    # Whoever wrote them may have had other places for files.
    edit_index(tree, lambda entries: entries[0].update({"class": "Liver (all)"}))
    assert findings(tree) == []
    label = tree.label("Liver", "Tr", "liver", "a")
    label.write_bytes(label.read_bytes()[:-20])
    ((kind, sentence),) = findings(tree)
    assert (kind, str(label) in sentence) == (Kind.DAMAGED, True)


def test_one_dataset_can_be_checked_alone(tree: Tree) -> None:
    tree.index("Other", "Tr").write_text("[]")
    assert check_tree(tree, names=["Liver"]).problems == ()
    with pytest.raises(ValueError, match="no index of None_Such to check in"):
        check_tree(tree, names=["None_Such"])
    with pytest.raises(ValueError, match="no index to check in"):
        check_tree(Tree(tree.root / "Liver/imagesTr"))
