"""The labels of a case: one binary file per class, on the image's grid."""

import errno
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurosam3d.data.prepare import convert, image_file, label_file
from neurosam3d.data.prepare.convert import CaseJob, CaseResult, index_cases, prepare_case
from neurosam3d.data.prepare.problems import Kind
from neurosam3d.data.prepare.raw_item import RawItem
from neurosam3d.data.tree import Tree
from neurosam3d.volume import Volume, read_volume_counted

Write = Callable[..., Path]
Box = Callable[..., np.ndarray]
Prepare = Callable[..., CaseResult]
LIVER = np.s_[1:4, 2:4, 1:3]


def stored(out: Path, class_name: str) -> np.ndarray:
    return np.asarray(nibabel.load(out / f"labelsTr/{class_name}/c1.nii.gz").dataobj)


def volumes(result: CaseResult) -> dict[str, float]:
    return {name: label.volume_mm3 for name, label in result.record.labels.items()}


def test_each_class_becomes_a_binary_file(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Prepare
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    result = prepare(image, label, classes={"liver": (1,), "all": (1, 2), "spleen": (3,)})
    assert volumes(result) == {"liver": 108.0, "all": 126.0}
    assert result.record.spacing == (2.0, 1.5, 3.0)
    assert result.record.empty == ("spleen",)
    assert [(p.kind, p.sentence, p.case) for p in result.record.problems] == [
        (Kind.EMPTY_CLASS, "no voxel of spleen", "c1")
    ]
    assert np.array_equal(stored(out, "liver"), organs == 1)
    assert np.array_equal(stored(out, "all"), organs > 0)
    assert stored(out, "liver").dtype == np.uint8
    assert sorted(p.name for p in (out / "labelsTr").iterdir()) == ["all", "liver"]


def test_index_entries_say_what_training_and_checking_need(
    tmp_path: Path, write_volume: Write, organs: np.ndarray
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    items = tuple(
        RawItem(image, label, values, name, "c1", "p7", modality="MRI")
        for name, values in {"tumor": (2,), "none": (9,), "liver": (1,)}.items()
    )
    tree = Tree(tmp_path / "out")
    job = CaseJob(tree, "A", "Ts", items, ("CT", "MRI"))
    record = prepare_case(job).record
    tumor, liver = index_cases(job, record)
    assert (tumor.class_name, tumor.volume_mm3, tumor.spacing) == ("tumor", 18.0, (2.0, 1.5, 3.0))
    assert (liver.class_name, liver.patient) == ("liver", "p7")
    assert liver.image == tree.image("A", "Ts", "c1")
    assert liver.label == tree.label("A", "Ts", "liver", "c1")
    assert liver.extra == {
        "dataset": "A",
        "case": "c1",
        "modality": ["MRI"],
        "image_sha256": record.image_sha256,
        "content": record.content,
        "label_sha256": record.labels["liver"].sha256,
    }


def test_the_volume_of_an_oblique_sheared_voxel_is_its_determinant(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, prepare: Prepare
) -> None:
    affine = np.array([[2.0, 0.5, 0, 0], [0, 1.5, 0.3, 0], [0, 0, -3.0, 0], [0, 0, 0, 1]])
    image = write_volume(tmp_path / "raw/image.nii.gz", affine=affine)
    label = write_volume(tmp_path / "raw/label.nii.gz", organs, affine)
    assert volumes(prepare(image, label))["liver"] == pytest.approx(12 * 9.0)


def test_a_label_over_part_of_the_field_of_view_lands_where_it_belongs(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    affine: np.ndarray,
    organs: np.ndarray,
    prepare: Prepare,
) -> None:
    # The label file covers voxels 1.. of axis 0 and 2.. of axis 1, with axis 2 running backwards.
    cut = organs[1:8, 2:, ::-1]
    shifted = affine @ np.array([[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, -1, 4], [0, 0, 0, 1]])
    image = write_volume(tmp_path / "raw/image.nii.gz")
    result = prepare(image, write_volume(tmp_path / "raw/label.nii.gz", cut, shifted))
    assert volumes(result) == {"liver": 108.0, "tumor": 18.0}
    assert np.array_equal(stored(out, "liver"), organs == 1)
    assert np.array_equal(stored(out, "tumor"), organs == 2)
    on_disk = nibabel.load(out / "labelsTr/liver/c1.nii.gz").affine
    assert np.array_equal(on_disk, nibabel.load(out / "imagesTr/c1.nii.gz").affine)


def test_an_oblique_label_of_another_spacing_follows_both_affines(
    tmp_path: Path, out: Path, write_volume: Write, affine: np.ndarray, prepare: Prepare
) -> None:
    cos, sin = np.cos(0.4), np.sin(0.4)
    turn = np.array([[cos, -sin, 0, -14], [sin, cos, 0, -1], [0, 0, 1, 5], [0, 0, 0, 1]])
    oblique = turn @ np.diag([1.3, 1.1, 2.2, 1.0])
    labels = np.random.default_rng(0).integers(0, 3, (21, 19, 8)).astype(np.uint8)
    image = write_volume(tmp_path / "raw/image.nii.gz")
    prepare(image, write_volume(tmp_path / "raw/label.nii.gz", labels, oblique))
    # By hand: each image voxel takes the label voxel nearest to it in space, outside it takes 0.
    index = np.stack(np.meshgrid(*map(np.arange, (9, 7, 5)), indexing="ij"), -1).reshape(-1, 3)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    nearest = np.rint((world - oblique[:3, 3]) @ np.linalg.inv(oblique[:3, :3]).T).astype(int)
    inside = ((nearest >= 0) & (nearest < labels.shape)).all(axis=1)
    expected = np.zeros(len(index), dtype=np.uint8)
    expected[inside] = labels[tuple(nearest[inside].T)]
    assert 0.4 < inside.mean() < 1
    assert np.array_equal(stored(out, "liver"), expected.reshape(9, 7, 5) == 1)
    assert np.array_equal(stored(out, "tumor"), expected.reshape(9, 7, 5) == 2)


def test_a_mask_file_of_one_class_may_hold_any_value(
    tmp_path: Path, out: Path, write_volume: Write, box: Box, prepare: Prepare
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", box({255: LIVER}))
    prepare(image, label, classes={"liver": (1,)}, binary=True)
    assert stored(out, "liver").sum() == 12


def test_a_case_without_any_class_leaves_no_file(
    tmp_path: Path, out: Path, write_volume: Write, box: Box, prepare: Prepare
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    record = prepare(image, write_volume(tmp_path / "raw/label.nii.gz", box({}))).record
    assert (record.labels, record.empty, record.is_complete) == ({}, ("liver", "tumor"), True)
    assert not list(out.rglob("*.nii.gz"))


def test_a_broken_case_is_one_sentence_and_leaves_no_file(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    affine: np.ndarray,
    organs: np.ndarray,
    prepare: Prepare,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    cut = write_volume(tmp_path / "raw/cut.nii.gz", np.random.default_rng(0).random((9, 7, 5)))
    cut.write_bytes(cut.read_bytes()[:-100])
    affine[:3, 3] += 900
    both = np.stack([organs, organs], axis=-1)
    broken = {
        (Kind.DAMAGED, "cannot read .*cut.nii.gz"): (cut, label),
        (Kind.MISSING, "no such file"): (tmp_path / "raw/none.nii.gz", label),
        (Kind.BAD_LABEL, "a label holds integers, .* holds fractions"): (
            image,
            write_volume(tmp_path / "raw/p.nii.gz", organs * 0.37),
        ),
        (Kind.BAD_LABEL, "a label has one channel, .* has 2"): (
            image,
            write_volume(tmp_path / "raw/4d.nii.gz", both),
        ),
        (Kind.NO_OVERLAP, "does not overlap"): (
            image,
            write_volume(tmp_path / "raw/far.nii.gz", organs, affine),
        ),
    }
    for (kind, sentence), (bad_image, bad_label) in broken.items():
        record = prepare(bad_image, bad_label).record
        assert record.is_skipped
        (problem,) = record.problems
        assert problem.kind is kind
        assert re.fullmatch(f"c1 is skipped: .*{sentence}.*", problem.sentence)
    assert not list(out.rglob("*.nii.gz"))


@pytest.mark.parametrize(("content", "kind"), [(b"", Kind.EMPTY_FILE), (None, Kind.MISSING)])
def test_a_broken_label_file_costs_its_own_classes_only(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    organs: np.ndarray,
    content: bytes | None,
    kind: Kind,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    good = write_volume(tmp_path / "raw/tumor.nii.gz", (organs == 2) * np.uint8(2))
    bad = tmp_path / "raw/liver.nii.gz"
    if content is not None:
        bad.write_bytes(content)
    items = (
        RawItem(image, bad, (1,), "liver", "c1"),
        RawItem(image, bad, (3,), "lobe", "c1"),
        RawItem(image, good, (2,), "tumor", "c1"),
    )
    job = CaseJob(Tree(tmp_path / "out"), "A", "Tr", items, ("CT",))
    record = prepare_case(job).record
    assert (record.is_skipped, record.is_complete, record.empty) == (False, False, ())
    (problem,) = record.problems
    assert problem.kind is kind
    assert problem.sentence.startswith(f"c1 is without liver, lobe: cannot read {bad}")
    assert [case.class_name for case in index_cases(job, record)] == ["tumor"]
    assert (out / "imagesTr/c1.nii.gz").exists()


def test_every_broken_label_file_of_a_skipped_case_is_named(
    tmp_path: Path, write_volume: Write, organs: np.ndarray
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    fractions = write_volume(tmp_path / "raw/tumor.nii.gz", organs * 0.37)
    missing = tmp_path / "raw/liver.nii.gz"
    items = (
        RawItem(image, missing, (1,), "liver", "c1"),
        RawItem(image, fractions, (2,), "tumor", "c1"),
    )
    record = prepare_case(CaseJob(Tree(tmp_path / "out"), "A", "Tr", items, ("CT",))).record
    assert record.is_skipped
    assert [problem.kind for problem in record.problems] == [Kind.MISSING, Kind.BAD_LABEL]
    for problem, path in zip(record.problems, (missing, fractions), strict=True):
        assert problem.sentence.startswith("c1 is skipped: ")
        assert str(path) in problem.sentence


@pytest.mark.parametrize(
    ("boxes", "sentence"),
    [
        ({1: LIVER, 7: np.s_[5:7, :, 2:4]}, "value 7 (28 voxels) has no class"),
        ({1: LIVER, 7: np.s_[5, 0, 0], -1: np.s_[6, :2, 0]}, "values -1 (2 voxels), 7 (1 voxels)"),
        ({v: np.s_[v, :, 0] for v in range(1, 7)}, "4 (7 voxels) and 2 more have no class"),
        ({1: LIVER}, ""),
    ],
)
def test_values_of_no_class_are_noted(
    tmp_path: Path, write_volume: Write, prepare: Prepare, boxes: dict, sentence: str
) -> None:
    labels = np.zeros((9, 7, 5), np.int16)
    for value, where in boxes.items():
        labels[where] = value
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", labels)
    record = prepare(image, label, classes={"liver": (1,)}).record
    assert record.is_complete
    assert [p.kind for p in record.problems] == [Kind.NO_CLASS] * bool(sentence)
    assert all(sentence in problem.sentence for problem in record.problems)
    mask = prepare(image, label, classes={"liver": (1,)}, binary=True).record
    assert mask.problems == ()


def test_values_of_no_class_are_one_note_for_all_files(
    tmp_path: Path, write_volume: Write, organs: np.ndarray
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    files = [write_volume(tmp_path / f"raw/{name}.nii.gz", organs) for name in "xy"]
    items = tuple(RawItem(image, f, (1,), f"liver_{f.name[0]}", "c1") for f in files)
    record = prepare_case(CaseJob(Tree(tmp_path / "out"), "A", "Tr", items, ("CT",))).record
    assert [p.sentence for p in record.problems] == ["value 2 (4 voxels) has no class"]


def test_every_raw_file_is_read_once_for_all_classes(
    tmp_path: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    read: list[Path] = []

    def counting(path: Path) -> tuple[Volume, tuple[int, ...]]:
        read.append(path)
        return read_volume_counted(path)

    for module in (image_file, label_file):
        monkeypatch.setattr(module, "read_volume_counted", counting)
    prepare(image, label, classes={f"class_{v}": (v,) for v in range(1, 9)})
    assert read == [image, label]


def test_a_full_disk_stops_everything_instead_of_skipping_cases(
    tmp_path: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(volume: Volume, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    monkeypatch.setattr(convert, "write_volume", fail)
    with pytest.raises(OSError, match="No space left on device"):
        prepare(image, label)


def test_a_name_that_the_file_system_refuses_is_the_matter_of_its_case(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, prepare: Prepare
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    record = prepare(image, label, classes={"l" * 300: (1,)}).record
    assert [problem.kind for problem in record.problems] == [Kind.BAD_NAME]
    assert "c1 is skipped" in record.problems[0].sentence
