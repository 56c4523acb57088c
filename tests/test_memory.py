"""What no memory holds is refused before any of it is taken."""

import gzip
import io
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from neurosam3d import memory
from neurosam3d.checkpoint_io import read_content
from neurosam3d.memory import machine_memory, require_memory
from neurosam3d.npz_cases import read_npz_case
from neurosam3d.volume import read_volume
from neurosam3d.volume_io.checksums import decompress

MEGABYTE = 1 << 20


def test_a_machine_has_memory_and_no_more() -> None:
    assert 1 << 28 < machine_memory() < 1 << 60
    assert require_memory(1000) == 1000
    with pytest.raises(MemoryError, match="more than this machine's memory"):
        require_memory(1 << 70)


def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 1000)


def test_a_volume_larger_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = nib.Nifti1Image(np.zeros((10, 10, 10), np.int16), np.eye(4))
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_volume(tmp_path / "a.nii.gz").shape == (10, 10, 10)
    small_machine(monkeypatch)
    with pytest.raises(ValueError, match="asks for more voxels than memory holds"):
        read_volume(tmp_path / "a.nii.gz")


def test_an_array_of_a_case_larger_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, imgs=np.zeros((3, 20, 20), np.uint8), spacing=np.ones(3))
    assert read_npz_case(path)["imgs"].shape == (3, 20, 20)
    small_machine(monkeypatch)
    with pytest.raises(ValueError, match="1200 bytes are more than this machine's memory"):
        read_npz_case(path)


def test_compressed_data_may_be_as_long_as_announced_and_not_much_longer() -> None:
    voxels = bytes(40 * MEGABYTE)
    packed = gzip.compress(voxels[: 30 * MEGABYTE], 1) + gzip.compress(voxels[30 * MEGABYTE :], 1)
    assert decompress(packed, announced=len(voxels)).getbuffer().nbytes == len(voxels)
    assert decompress(packed, announced=30 * MEGABYTE).getbuffer().nbytes == len(voxels)
    with pytest.raises(ValueError, match="go on after the 1000 bytes"):
        decompress(packed, announced=1000)
    with pytest.raises(EOFError, match="end too early"):
        decompress(packed[:-20], announced=len(voxels))


def test_a_tensor_is_no_larger_than_its_file(tmp_path: Path) -> None:
    row = torch.arange(2000.0)
    torch.save({"a": row.expand(2, -1), "b": row[:4]}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="an array of 16000 bytes is not in its"):
        read_content(tmp_path / "a.pth")
    torch.save({"a": row, "b": row[:4].expand(3, -1)}, tmp_path / "a.pth")
    assert read_content(tmp_path / "a.pth")["b"].shape == (3, 4)


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as archive,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as again,
    ):
        for name in archive.namelist():
            again.writestr(name, archive.read(name))
    (tmp_path / "b.pth").write_bytes(packed.getvalue())
    assert read_content(tmp_path / "a.pth").keys() == {"a"}
    with pytest.raises(ValueError, match=r"b\.pth cannot be read as a checkpoint"):
        read_content(tmp_path / "b.pth")


def test_lists_that_stand_for_many_values_are_refused(tmp_path: Path) -> None:
    many: list[object] = [0]
    for _ in range(12):
        many = [many] * 10
    torch.save({"a": torch.ones(3), "b": many}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="its lists stand for more values than it has bytes"):
        read_content(tmp_path / "a.pth")
