"""One case: image, labels on its grid, what is kept and what is made anew."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurosam3d.data.prepare import convert
from neurosam3d.data.prepare.convert import CaseJob, CaseResult, prepare_case
from neurosam3d.data.prepare.listing import RawItem
from neurosam3d.data.tree import Tree
from neurosam3d.volume import Volume, read_volume

Write = Callable[..., Path]
Box = Callable[..., np.ndarray]
LIVER = np.s_[1:4, 2:4, 1:3]


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., CaseResult]:
    """Prepare the case of raw/image.* and raw/label.* with the classes liver (1) and tumor (2)."""

    def run(
        image: Path,
        label: Path,
        *,
        classes: dict[str, tuple[int, ...]] | None = None,
        channel: int = 0,
        binary: bool = False,
        listed_ns: int = 0,
    ) -> CaseResult:
        classes = {"liver": (1,), "tumor": (2,)} if classes is None else classes
        items = tuple(
            RawItem(image, label, values, name, "c1", None, channel, binary)
            for name, values in classes.items()
        )
        return prepare_case(CaseJob(Tree(tmp_path / "out"), "A", "Tr", items, ("CT",), listed_ns))

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out/A"


def stored(out: Path, class_name: str) -> np.ndarray:
    return np.asarray(nibabel.load(out / f"labelsTr/{class_name}/c1.nii.gz").dataobj)


def test_each_class_becomes_a_binary_file_and_an_entry(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    result = prepare(image, label, classes={"liver": (1,), "all": (1, 2), "spleen": (3,)})
    assert result.problem is None
    assert result.num_empty == 1
    assert [(c.class_name, c.volume_mm3, c.spacing) for c in result.cases] == [
        ("liver", 108.0, (2.0, 1.5, 3.0)),
        ("all", 126.0, (2.0, 1.5, 3.0)),
    ]
    assert result.cases[0].label == out / "labelsTr/liver/c1.nii.gz"
    assert np.array_equal(stored(out, "liver"), organs == 1)
    assert np.array_equal(stored(out, "all"), organs > 0)
    assert stored(out, "liver").dtype == np.uint8
    assert sorted(p.name for p in (out / "labelsTr").iterdir()) == ["all", "liver"]


def test_the_volume_of_an_oblique_sheared_voxel_is_its_determinant(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    affine = np.array([[2.0, 0.5, 0, 0], [0, 1.5, 0.3, 0], [0, 0, -3.0, 0], [0, 0, 0, 1]])
    image = write_volume(tmp_path / "raw/image.nii.gz", affine=affine)
    label = write_volume(tmp_path / "raw/label.nii.gz", organs, affine)
    assert prepare(image, label).cases[0].volume_mm3 == pytest.approx(12 * 9.0)


def test_a_single_channel_file_is_copied_byte_by_byte(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    prepare(image, write_volume(tmp_path / "raw/label.nii.gz", organs))
    copy = out / "imagesTr/c1.nii.gz"
    assert copy.read_bytes() == image.read_bytes()
    assert not copy.is_symlink()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_floating_point_is_copied_byte_by_byte(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Callable,
    dtype: type,
) -> None:
    data = np.random.default_rng(0).normal(size=(9, 7, 5)).astype(dtype)
    image = write_volume(tmp_path / "raw/image.nii.gz", data)
    prepare(image, write_volume(tmp_path / "raw/label.nii.gz", organs))
    assert (out / "imagesTr/c1.nii.gz").read_bytes() == image.read_bytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_not_finite_are_stored_as_zeros(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    affine: np.ndarray,
    organs: np.ndarray,
    prepare: Callable,
    bad: float,
) -> None:
    data = np.random.default_rng(0).normal(size=(9, 7, 5))
    data[2, 3, 4] = bad
    image = write_volume(tmp_path / "raw/image.nii.gz", data)
    assert len(prepare(image, write_volume(tmp_path / "raw/label.nii.gz", organs)).cases) == 2
    kept = nibabel.load(out / "imagesTr/c1.nii.gz")
    data[2, 3, 4] = 0
    assert np.array_equal(np.asarray(kept.dataobj), data.astype(np.float32))
    assert np.allclose(kept.affine, affine)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1024.0, 0.0])
@pytest.mark.parametrize("stored_before", [False, True])
def test_a_scan_of_one_value_is_skipped(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Callable,
    value: float,
    stored_before: bool,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz", np.full((9, 7, 5), value, np.float32))
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    if stored_before:
        shutil.copytree(image.parent, out / "imagesTr")
        (out / "imagesTr/image.nii.gz").rename(out / "imagesTr/c1.nii.gz")
    result = prepare(image, label)
    assert result.cases == ()
    assert result.problem == f"A_Tr: c1 is skipped: channel 0 of {image} holds one value only"
    assert not list(out.glob("labelsTr/*/*"))


def test_only_the_channel_that_is_stored_needs_different_values(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    data = np.zeros((9, 7, 5, 2), dtype=np.int16)
    data[4, 3, 2, 1] = 7
    image = write_volume(tmp_path / "raw/image.nii.gz", data)
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    assert "channel 0 of" in prepare(image, label, channel=0).problem
    assert prepare(image, label, channel=1).problem is None


@pytest.mark.parametrize("channel", [0, 2])
def test_one_channel_of_a_4d_image_is_stored(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    affine: np.ndarray,
    organs: np.ndarray,
    prepare: Callable,
    channel: int,
) -> None:
    data = np.arange(9 * 7 * 5 * 3, dtype=np.int16).reshape(9, 7, 5, 3)
    image = write_volume(tmp_path / "raw/image.nii.gz", data)
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    result = prepare(image, label, channel=channel)
    kept = nibabel.load(out / "imagesTr/c1.nii.gz")
    assert result.num_channels == 3
    assert np.array_equal(np.asarray(kept.dataobj), data[..., channel])
    assert kept.get_data_dtype() == np.int16
    assert np.allclose(kept.affine, affine)


def test_other_formats_are_stored_as_nifti_without_reorienting(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    flipped = np.diag([-2.0, -1.5, 3.0, 1.0])
    image = write_volume(tmp_path / "raw/image.nii", affine=flipped)
    prepare(image, write_volume(tmp_path / "raw/label.nii", organs, flipped))
    kept = nibabel.load(out / "imagesTr/c1.nii.gz")
    assert np.allclose(kept.affine, flipped)
    assert np.array_equal(np.asarray(kept.dataobj), np.asarray(nibabel.load(image).dataobj))


def test_a_label_over_part_of_the_field_of_view_lands_where_it_belongs(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    affine: np.ndarray,
    organs: np.ndarray,
    prepare: Callable,
) -> None:
    # The label file covers voxels 1.. of axis 0 and 2.. of axis 1, with axis 2 running backwards.
    cut = organs[1:8, 2:, ::-1]
    shifted = affine @ np.array([[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, -1, 4], [0, 0, 0, 1]])
    image = write_volume(tmp_path / "raw/image.nii.gz")
    result = prepare(image, write_volume(tmp_path / "raw/label.nii.gz", cut, shifted))
    assert [case.volume_mm3 for case in result.cases] == [108.0, 18.0]
    assert np.array_equal(stored(out, "liver"), organs == 1)
    assert np.array_equal(stored(out, "tumor"), organs == 2)
    on_disk = nibabel.load(out / "labelsTr/liver/c1.nii.gz").affine
    assert np.array_equal(on_disk, nibabel.load(out / "imagesTr/c1.nii.gz").affine)


def test_an_oblique_label_of_another_spacing_follows_both_affines(
    tmp_path: Path, out: Path, write_volume: Write, affine: np.ndarray, prepare: Callable
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


def test_whole_numbers_in_a_float_file_are_labels(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs.astype(np.float64) + 1e-5)
    assert len(prepare(image, label).cases) == 2
    assert np.array_equal(stored(out, "tumor"), organs == 2)


def test_a_mask_file_of_one_class_may_hold_any_value(
    tmp_path: Path, out: Path, write_volume: Write, box: Box, prepare: Callable
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", box({255: LIVER}))
    prepare(image, label, classes={"liver": (1,)}, binary=True)
    assert stored(out, "liver").sum() == 12


def test_a_case_without_any_class_leaves_no_file(
    tmp_path: Path, out: Path, write_volume: Write, box: Box, prepare: Callable
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    result = prepare(image, write_volume(tmp_path / "raw/label.nii.gz", box({})))
    assert (result.cases, result.num_empty, result.problem) == ((), 2, None)
    assert not list(out.rglob("*.nii.gz"))


def truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def test_broken_files_are_one_sentence_and_leave_no_index_entry(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, box: Box, prepare: Callable
) -> None:
    noise = np.random.default_rng(0).integers(0, 99, (9, 7, 5)).astype(np.int16)
    image = write_volume(tmp_path / "raw/image.nii.gz", noise)
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    far = np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 900
    broken = {
        "cannot read": (truncate(write_volume(tmp_path / "raw/cut.nii.gz", noise)), label),
        "no such file": (tmp_path / "raw/none.nii.gz", label),
        "integer values": (image, write_volume(tmp_path / "raw/p.nii.gz", organs * 0.37)),
        "has one channel, .* has 2": (
            image,
            write_volume(tmp_path / "raw/4d.nii.gz", np.stack([organs, organs], axis=-1)),
        ),
        "does not overlap": (image, write_volume(tmp_path / "raw/far.nii.gz", organs, far)),
    }
    for sentence, (bad_image, bad_label) in broken.items():
        result = prepare(bad_image, bad_label)
        assert result.cases == ()
        assert re.fullmatch(f"A_Tr: c1 is skipped: .*{sentence}.*", result.problem)


def test_a_channel_that_is_not_there_is_refused(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    result = prepare(image, write_volume(tmp_path / "raw/label.nii.gz", organs), channel=1)
    assert "has 1 channels, none numbered 1" in result.problem


def test_a_multi_label_file_is_read_once_for_all_classes(
    tmp_path: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    read: list[Path] = []

    def counting(path: Path) -> Volume:
        read.append(path)
        return read_volume(path)

    monkeypatch.setattr(convert, "read_volume", counting)
    prepare(image, label, classes={f"class_{v}": (v,) for v in range(1, 9)})
    assert read == [image, label]


def test_whole_files_are_kept_and_half_written_ones_made_anew(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    first = prepare(image, label)
    files = sorted(out.rglob("*.nii.gz"))
    before = {path: path.stat().st_mtime_ns for path in files}
    assert prepare(image, label).cases == first.cases
    assert {path: path.stat().st_mtime_ns for path in files} == before
    for path in files:
        whole = nibabel.load(path).get_fdata()
        others = {other: other.stat().st_mtime_ns for other in files if other != path}
        truncate(path)
        assert prepare(image, label).cases == first.cases
        assert np.array_equal(nibabel.load(path).get_fdata(), whole)
        assert {other: other.stat().st_mtime_ns for other in others} == others
    assert len(files) == 3


@pytest.mark.parametrize("bad", ["grid", "values", "empty"])
def test_a_stored_label_that_is_not_what_it_should_be_is_made_anew(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    affine: np.ndarray,
    organs: np.ndarray,
    box: Box,
    prepare: Callable,
    bad: str,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    prepare(image, label)
    path = out / "labelsTr/liver/c1.nii.gz"
    if bad == "grid":
        affine[0, 3] += 1
        write_volume(path, (organs == 1).astype(np.uint8), affine)
    else:
        write_volume(path, box({7: LIVER} if bad == "values" else {}))
    prepare(image, label)
    assert np.array_equal(stored(out, "liver"), organs == 1)


def test_a_stored_image_of_another_grid_is_made_anew(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Callable
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    write_volume(out / "imagesTr/c1.nii.gz", affine=np.eye(4))
    prepare(image, label)
    assert (out / "imagesTr/c1.nii.gz").read_bytes() == image.read_bytes()


@pytest.mark.parametrize("changed", ["label", "list"])
def test_files_older_than_the_raw_files_or_their_list_are_made_anew(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    organs: np.ndarray,
    box: Box,
    prepare: Callable,
    changed: str,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    prepare(image, label)
    now = (out / "imagesTr/c1.nii.gz").stat().st_mtime_ns + 10**9
    if changed == "label":
        write_volume(label, box({2: LIVER}))
        os.utime(label, ns=(now, now))
        result = prepare(image, label)
    else:
        result = prepare(image, label, classes={"liver": (3,), "tumor": (1,)}, listed_ns=now)
    assert [case.class_name for case in result.cases] == ["tumor"]
    assert np.array_equal(stored(out, "tumor"), organs == 1)
    assert not (out / "labelsTr/liver/c1.nii.gz").exists()


def test_a_full_disk_stops_everything_instead_of_skipping_cases(
    tmp_path: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(volume: Volume, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    monkeypatch.setattr(convert, "write_volume", fail)
    with pytest.raises(OSError, match="No space left on device"):
        prepare(image, label)
