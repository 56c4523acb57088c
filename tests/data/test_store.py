"""The store under a dataset: it changes nothing but the time, and never serves what is not so."""

import errno
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from neurosam3d.data.case import Case
from neurosam3d.data.sampler import SampleKey
from neurosam3d.data.store import digests, prepared, volumes


def equal(one: dict, other: dict) -> bool:
    return all(
        torch.equal(one[key], other[key]) if torch.is_tensor(one[key]) else one[key] == other[key]
        for key in one
    )


def list_entries(folder: Path, part: str) -> list[Path]:
    return sorted(folder.glob(f"??/*.{part}"))


def shift_image(case: Case, amount: float) -> None:
    """Make an image brighter; its file keeps neither size nor time."""
    scan = nibabel.load(case.image)
    changed = np.asarray(scan.dataobj) + np.float32(amount)
    nibabel.save(nibabel.Nifti1Image(changed, scan.affine), case.image)


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), None, (2.0, 1.0, 1.25)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("transform", ["neurosam3d", "sam_med3d"])
def test_the_store_changes_nothing(toy_tree, make_dataset, tmp_path, spacing, training, transform):
    """The toy images run towards P, L and S and are anisotropic."""
    options = {"transform": transform, "training": training, "spacing": spacing}
    plain = make_dataset(toy_tree.training, **options)
    stored = make_dataset(toy_tree.training, cache_dir=tmp_path, **options)
    for index in (0, 3, 1, 0):
        key = SampleKey(index, seed=index + 10)
        assert equal(plain[key], stored[key])
        assert equal(plain[key], stored[key])  # now from the file


def test_a_stored_crop_reads_no_scan(toy_tree, make_dataset, tmp_path, monkeypatch):
    make_dataset(toy_tree.training, cache_dir=tmp_path)[0]
    again = make_dataset(toy_tree.training, cache_dir=tmp_path)
    monkeypatch.setattr(prepared, "read_volume", None)
    assert again[2]["label"].any()  # another class of the image


def test_what_is_known_of_an_image_is_not_asked_again(
    toy_tree, make_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(digests, "_LONGEST_TICK", -3600.0)  # seconds: all files are old enough
    dataset = make_dataset(toy_tree.training, cache_dir=tmp_path)
    dataset[4]
    monkeypatch.setattr(dataset.volumes.maker, "find_sources", None)
    assert [dataset[index]["class"] for index in (3, 4, 5)] == ["organ", "pair", "scattered"]
    with pytest.raises(TypeError):
        dataset[0]


def test_an_image_has_two_entries(toy_tree, make_dataset, tmp_path):
    dataset = make_dataset(toy_tree.training, cache_dir=tmp_path)
    for index in range(6):  # three classes of two images
        dataset[index]
    assert [len(list_entries(tmp_path, part)) for part in ("image", "labels")] == [2, 2]


def test_presets_that_leave_the_scan_alone_share_its_entry(toy_tree, make_dataset, tmp_path):
    def count(**options) -> tuple[int, ...]:
        make_dataset(toy_tree.training, cache_dir=tmp_path, **options)[0]
        return tuple(len(list_entries(tmp_path, part)) for part in ("image", "labels"))

    assert count(intensity="none") == (1, 1)
    assert count(intensity="sam_med3d") == (1, 1)
    assert count(intensity="neurosam3d") == (2, 1)
    assert count(spacing=None) == (3, 2)


def test_other_classes_of_an_image_are_another_entry(toy_tree, make_dataset, tmp_path):
    plain = make_dataset(toy_tree.training)
    make_dataset(toy_tree.training, cache_dir=tmp_path)[0]
    some = make_dataset([toy_tree.training[2], toy_tree.training[0]], cache_dir=tmp_path)
    assert torch.equal(some[0]["label"], plain[2]["label"])
    assert torch.equal(some[1]["label"], plain[0]["label"])


# What has changed is made anew


TICKS = [2.0, -3600.0]  # seconds: new files are not trusted, or count as old enough


@pytest.mark.parametrize("tick", TICKS)
def test_a_changed_image_is_read_anew(own_case, make_dataset, tmp_path, monkeypatch, tick):
    monkeypatch.setattr(digests, "_LONGEST_TICK", tick)
    dataset = make_dataset([own_case], cache_dir=tmp_path / "cache")
    before = dataset[0]["image"]
    time.sleep(0.02)  # longer than the file system's clock takes to tick
    shift_image(own_case, 7)
    os.utime(own_case.image, ns=(1, 1))
    for changed in (dataset, make_dataset([own_case], cache_dir=tmp_path / "cache")):
        assert torch.allclose(changed[0]["image"], before + 7, atol=1e-3)


@pytest.mark.parametrize("tick", TICKS)
def test_a_changed_label_of_equal_size_and_time_is_read_anew(
    own_case, make_dataset, tmp_path, monkeypatch, tick
):
    monkeypatch.setattr(digests, "_LONGEST_TICK", tick)
    label = tmp_path / "label.nii"  # not compressed, so that all labels are equally long
    case = replace(own_case, label=label)
    scan = nibabel.load(case.image)
    one, other = np.zeros(scan.shape, np.uint8), np.zeros(scan.shape, np.uint8)
    one[4:9, 5:9, 6:9] = 1
    other[20:26, 15:19, 8:12] = 1
    nibabel.save(nibabel.Nifti1Image(one, scan.affine), label)
    options = {"cache_dir": tmp_path / "cache", "spacing": None, "img_size": 80}
    dataset = make_dataset([case], **options)
    assert dataset[0]["label"].sum() == one.sum()
    before = label.stat()
    time.sleep(0.02)
    with label.open("r+b") as file:
        file.seek(352)  # the header's length
        file.write(other.tobytes(order="F"))
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = label.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    expected = make_dataset([case], spacing=None, img_size=80)[0]
    assert expected["label"].sum() == other.sum()
    assert equal(dataset[0], expected)
    assert equal(make_dataset([case], **options)[0], expected)


def test_the_state_of_a_young_file_is_not_trusted(own_case, make_dataset, tmp_path, monkeypatch):
    """It may change twice within a tick of the clock, and show the same state."""

    def read_state(path):
        return digests.FileState(path.name.encode().ljust(16), is_settled=False)

    for module in (digests, volumes):
        monkeypatch.setattr(module, "read_state", read_state)
    dataset = make_dataset([own_case], cache_dir=tmp_path / "cache")
    before = dataset[0]["image"]
    shift_image(own_case, 7)
    assert torch.allclose(dataset[0]["image"], before + 7, atol=1e-3)


def test_an_image_that_moved_off_its_label_is_noticed(own_case, make_dataset, tmp_path):
    make_dataset([own_case], cache_dir=tmp_path / "cache")[0]
    scan = nibabel.load(own_case.image)
    moved = nibabel.Nifti1Image(np.asarray(scan.dataobj), scan.affine + np.eye(4, k=3))
    nibabel.save(moved, own_case.image)
    with pytest.raises(ValueError, match=r"lies on its image's grid, got .*label.nii.gz"):
        make_dataset([own_case], cache_dir=tmp_path / "cache")[0]


def test_a_file_that_changes_while_it_is_read_makes_no_entry(
    own_case, make_dataset, tmp_path, monkeypatch
):
    def read_and_change(self, path):
        image = prepare_image(self, path)
        shift_image(own_case, 1)
        return image

    prepare_image = prepared.Preparation.prepare_image
    monkeypatch.setattr(prepared.Preparation, "prepare_image", read_and_change)
    with pytest.raises(ValueError, match=r"must not change while they are read, got .*image.nii"):
        make_dataset([own_case], cache_dir=tmp_path / "cache")[0]
    assert not list_entries(tmp_path / "cache", "image")


def test_a_copied_tree_and_a_copied_store_are_recognised(
    own_case, make_dataset, tmp_path, monkeypatch
):
    expected = make_dataset([own_case], cache_dir=tmp_path / "cache")[0]
    (tmp_path / "disk").mkdir()
    moved = {name: tmp_path / "disk" / f"{name}.nii.gz" for name in ("image", "label")}
    for name, path in moved.items():
        shutil.copy(getattr(own_case, name), path)
    shutil.copytree(tmp_path / "cache", tmp_path / "disk/cache")
    monkeypatch.setattr(prepared, "read_volume", None)
    case = replace(own_case, **moved)
    sample = make_dataset([case], cache_dir=tmp_path / "disk/cache")[0]
    assert torch.equal(sample["image"], expected["image"])
    assert torch.equal(sample["label"], expected["label"])


# What is damaged or missing is made anew


@pytest.mark.parametrize("part", ["image", "labels"])
def test_a_flipped_byte_anywhere_never_reaches_a_sample(
    own_case, make_dataset, tmp_path, caplog, part
):
    options = {"transform": "neurosam3d", "training": True, "spacing": (4.0, 5.0, 3.0)}
    key = SampleKey(0, seed=8)
    expected = make_dataset([own_case], **options)[key]
    dataset = make_dataset([own_case], cache_dir=tmp_path / "cache", **options)
    assert equal(dataset[key], expected)
    (path,) = list_entries(tmp_path / "cache", part)
    content = path.read_bytes()
    places = range(0, len(content), max(1, len(content) // 90))
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert equal(dataset[key], expected)
        assert path.read_bytes() == content  # the file is mended, too
    line = f"cache entry {path} is damaged and made anew: "
    assert [record.getMessage().startswith(line) for record in caplog.records] == [True] * len(
        places
    )


@pytest.mark.parametrize("kept", [0, 40, -1])  # bytes: none, half a preamble, all but the last
def test_a_truncated_entry_is_made_again_and_said_once(
    own_case, make_dataset, tmp_path, caplog, kept
):
    # Such a crop reads all of the entries.
    options = {"transform": "neurosam3d", "training": True, "img_size": 64}
    options["cache_dir"] = tmp_path / "cache"
    expected = make_dataset([own_case], **options)[0]
    paths = list_entries(tmp_path / "cache", "*")
    for path in paths:
        path.write_bytes(path.read_bytes()[:kept])
    for _ in range(2):
        assert equal(make_dataset([own_case], **options)[0], expected)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(paths) == 2
    for path, message in zip(paths, sorted(messages), strict=True):
        assert message.startswith(f"cache entry {path} is damaged and made anew: ")


def test_an_entry_under_the_name_of_another_is_made_again(toy_tree, make_dataset, tmp_path, caplog):
    dataset = make_dataset(toy_tree.training, cache_dir=tmp_path)
    expected = [dataset[0], dataset[3]]
    for part in ("image", "labels"):
        one, other = list_entries(tmp_path, part)
        shutil.copy(one, other)
    assert equal(dataset[0], expected[0])
    assert equal(dataset[3], expected[1])
    assert len(caplog.records) == 2
    assert "made anew: it is a copy of " in caplog.text


def test_entries_that_vanish_in_mid_run_are_made_again_without_a_word(
    own_case, make_dataset, tmp_path, caplog
):
    dataset = make_dataset([own_case], cache_dir=tmp_path / "cache")
    expected = dataset[0]
    shutil.rmtree(tmp_path / "cache")
    assert equal(dataset[0], expected)
    assert len(list_entries(tmp_path / "cache", "*")) == 2
    assert not caplog.records


def test_a_full_disk_in_mid_run_costs_time_and_is_said_once(
    own_case, make_dataset, tmp_path, caplog, monkeypatch
):
    def fill(path, contents):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(volumes, "save", fill)
    dataset = make_dataset([own_case], cache_dir=tmp_path / "cache")
    expected = make_dataset([own_case])[0]
    for _ in range(3):
        assert equal(dataset[0], expected)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"No space left on device: nothing can be written to cache_dir {tmp_path / 'cache'}"
    )


def test_an_unreadable_entry_is_no_end(own_case, make_dataset, tmp_path):
    """For example one that another user has made with narrow permissions, here a folder."""
    dataset = make_dataset([own_case], cache_dir=tmp_path / "cache")
    expected = dataset[0]
    for path in list_entries(tmp_path / "cache", "*"):
        path.unlink()
        path.mkdir()
    assert equal(dataset[0], expected)
