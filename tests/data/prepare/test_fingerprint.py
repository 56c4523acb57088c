"""Digests of files, of what they were made from, and of the pictures in them."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosam3d.data.prepare.fingerprint import file_sha256, hash_content, hash_source
from neurosam3d.data.prepare.raw_item import RawItem
from neurosam3d.volume import Volume

Write = Callable[..., Path]
AFFINE = np.diag([2.0, 1.5, 3.0, 1.0])


def picture(dtype: torch.dtype = torch.int16) -> Volume:
    data = torch.randint(0, 99, (1, 9, 7, 5), generator=torch.Generator().manual_seed(0))
    return Volume(data.to(dtype), AFFINE)


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"volume" * 99999)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"volume" * 99999).hexdigest()


def test_the_digest_of_a_picture_is_that_of_shape_and_float32_voxels() -> None:
    image = picture()
    expected = hashlib.sha256(b"(9, 7, 5)" + image.data.numpy().astype("<f4").tobytes())
    assert hash_content(image) == expected.hexdigest()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_a_picture_is_the_same_in_every_type(dtype: torch.dtype) -> None:
    assert hash_content(picture(dtype)) == hash_content(picture())


def test_a_picture_is_the_same_in_every_orientation() -> None:
    image = picture()
    # Axis 0 runs along the old axis 2 backwards, axis 1 along the old axis 0.
    turned = image.data.permute(0, 3, 1, 2).flip(1)
    affine = np.array([[0, 2.0, 0, 0], [0, 0, 1.5, 0], [-3.0, 0, 0, 12.0], [0, 0, 0, 1]])
    assert hash_content(Volume(turned, affine)) == hash_content(image)
    assert hash_content(Volume(turned, AFFINE)) != hash_content(image)


def test_zero_has_no_sign() -> None:
    image = picture(torch.float32)
    negative = Volume(torch.where(image.data == 0, -0.0, image.data), AFFINE)
    assert bool(negative.data.signbit().any())
    assert hash_content(negative) == hash_content(image)


def test_one_voxel_or_the_shape_makes_another_picture() -> None:
    image = picture()
    other = image.data.clone()
    other[0, 8, 6, 4] += 1
    assert hash_content(Volume(other, AFFINE)) != hash_content(image)
    assert hash_content(Volume(image.data.reshape(1, 7, 9, 5), AFFINE)) != hash_content(image)


@pytest.fixture
def item(tmp_path: Path, write_volume: Write) -> RawItem:
    image, seg = (write_volume(tmp_path / f"{name}.nii.gz") for name in ("image", "seg"))
    return RawItem(image, seg, (1,), "liver", "c1")


def test_what_is_asked_for_belongs_to_the_source(item: RawItem) -> None:
    asked = [
        item,
        replace(item, values=(1, 2)),
        replace(item, class_name="organ"),
        replace(item, channel=1),
        replace(item, binary=True),
        replace(item, threshold=0.5),
        replace(item, threshold=0.4),
        replace(item, seg=item.image),
    ]
    assert len({hash_source([one]) for one in asked}) == len(asked)
    assert hash_source([item, asked[1]]) != hash_source([item])
    # Whom it shows and what it is called are matters of the index alone.
    assert hash_source([replace(item, patient="p", modality="CT")]) == hash_source([item])


def test_a_change_of_any_raw_file_changes_the_source(item: RawItem) -> None:
    before = hash_source([item])
    for path in (item.image, item.seg):
        content, times = path.read_bytes(), path.stat()
        path.write_bytes(content[::-1])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        after = hash_source([item])
        assert after != before
        before = after


def test_a_dicom_folder_is_all_of_its_files(item: RawItem, tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"slice")
    item = replace(item, image=series)
    before = hash_source([item])
    (series / "2.dcm").write_bytes(b"slice")
    assert hash_source([item]) != before


def test_a_header_with_voxels_beside_it_is_both_files(item: RawItem, tmp_path: Path) -> None:
    for name in ("scan.mhd", "scan.raw", "other.raw"):
        (tmp_path / name).write_bytes(b"1")
    item = replace(item, image=tmp_path / "scan.mhd")
    before = hash_source([item])
    (tmp_path / "other.raw").write_bytes(b"22")
    assert hash_source([item]) == before
    (tmp_path / "scan.raw").write_bytes(b"22")
    assert hash_source([item]) != before


def test_a_missing_raw_file_is_no_raw_file_at_all(item: RawItem) -> None:
    before = hash_source([item])
    item.seg.unlink()
    assert hash_source([item]) != before
