"""Masks in compressed NIfTI files: the same to every reader, small, and always the same bytes."""

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from neurosam3d.volume import Volume, read_volume, write_volume
from neurosam3d.volume_io.masks import gzip_mask

AFFINE = np.array([[0, 1.5, 0, -10], [-2.0, 0, 0, 4], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def ball(shape: tuple[int, int, int] = (60, 50, 40)) -> torch.Tensor:
    """A ball in the middle slices of a volume, (1, D, H, W)."""
    d, h, w = np.indices(shape)
    return torch.from_numpy((d - 25) ** 2 + (h - 20) ** 2 + (w - 18) ** 2 < 80)[None]


@pytest.mark.parametrize("mask", [ball(), ~ball(), torch.zeros(1, 9, 7, 5, dtype=torch.bool)])
def test_every_reader_sees_the_mask_and_its_place(tmp_path: Path, mask: torch.Tensor) -> None:
    path, plain = tmp_path / "mask.nii.gz", tmp_path / "plain.nii"
    write_volume(Volume(mask, AFFINE), path)
    write_volume(Volume(mask.to(torch.uint8), AFFINE), plain)
    # Uncompressed, it is what nibabel writes, header and all.
    assert gzip.decompress(path.read_bytes()) == plain.read_bytes()
    assert np.array_equal(np.asarray(nib.load(path).dataobj), mask[0].numpy())
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)).T, mask[0].numpy())
    assert torch.equal(read_volume(path).data, mask.to(torch.uint8))


def test_the_layout_in_memory_does_not_matter(tmp_path: Path) -> None:
    mask = ball()
    as_file = mask.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    for name, data in (("a", mask), ("b", as_file), ("c", mask.flip(1).flip(1))):
        write_volume(Volume(data, AFFINE), tmp_path / f"{name}.nii.gz")
    contents = {(tmp_path / f"{name}.nii.gz").read_bytes() for name in "abc"}
    assert len(contents) == 1


def test_a_mask_is_smaller_than_by_the_usual_compression(tmp_path: Path) -> None:
    write_volume(Volume(ball((180, 160, 90)), AFFINE), tmp_path / "mask.nii.gz")
    write_volume(Volume(ball((180, 160, 90)).to(torch.uint8), AFFINE), tmp_path / "usual.nii.gz")
    sizes = [(tmp_path / name).stat().st_size for name in ("mask.nii.gz", "usual.nii.gz")]
    assert sizes[0] < 0.7 * sizes[1]


def test_the_stream_is_one_gzip_member_with_a_true_checksum_and_size() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (9, 7, 5)).astype(np.uint8)
    content = gzip_mask(b"header", mask)
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        assert file.read() == b"header" + mask.tobytes(order="F")
    assert int.from_bytes(content[-4:], "little") == 6 + mask.size
    assert content[4:8] == bytes(4)  # no date


def test_a_mask_may_have_channels(tmp_path: Path) -> None:
    mask = torch.cat([ball(), ~ball()])
    write_volume(Volume(mask, AFFINE), tmp_path / "two.nii.gz")
    assert torch.equal(read_volume(tmp_path / "two.nii.gz").data, mask.to(torch.uint8))
