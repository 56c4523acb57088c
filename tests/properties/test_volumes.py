"""Files, grids and intensities: what goes out comes back, on the same grid, for any scan."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosam3d.intensity import INTENSITY_PRESETS, normalize_crop, padding_value, prepare_volume
from neurosam3d.volume import (
    Volume,
    crop_or_pad,
    read_grid,
    read_volume,
    resample,
    restore,
    to_canonical,
    write_volume,
)
from tests.properties.drawing import Effort, Scan, efforts, scans, shapes

NIFTI_TYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd", ".mgz", ".mgh")
SPACINGS = st.tuples(*[st.floats(0.6, 9.0)] * 3)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@efforts(few=12, many=120)
def test_every_type_of_nifti_reads_as_it_was_written(
    effort: Effort, byte_order: str, tmp_path: Path
) -> None:
    @effort.tries
    @given(scans(effort.largest), st.sampled_from(NIFTI_TYPES))
    def holds(scan: Scan, kind: str) -> None:
        dtype = np.dtype(kind).newbyteorder(byte_order)
        array = scan.array if dtype.kind == "f" else np.clip(scan.finite, 0, 127)
        header = nib.Nifti1Header(endianness=byte_order)
        image = nib.Nifti1Image(array.astype(dtype), scan.affine, header, dtype=dtype)
        nib.save(image, tmp_path / "a.nii.gz")
        volume = read_volume(tmp_path / "a.nii.gz")
        expected = scan.finite if dtype.kind == "f" else array.astype(kind)
        np.testing.assert_array_equal(volume.data[0].numpy(), expected.astype(volume_type(dtype)))
        assert volume.grid.same_as(scan.volume.grid)
        assert read_grid(tmp_path / "a.nii.gz").same_as(volume.grid)

    holds()


def volume_type(dtype: np.dtype) -> Any:
    """The type that a file's numbers come as: PyTorch's next wider one; floats are float32."""
    wider = {"u2": "i4", "u4": "i8", "u8": "i8", "f8": "f4"}
    name = f"{dtype.kind}{dtype.itemsize}"
    return np.dtype(wider.get(name, name))


@pytest.mark.parametrize("suffix", SUFFIXES)
@efforts(few=6, many=40)
def test_what_is_written_reads_the_same(effort: Effort, suffix: str, tmp_path: Path) -> None:
    types = (torch.float32, torch.int16, torch.uint8)

    @effort.tries
    @given(scans(effort.largest), st.sampled_from(types))
    def holds(scan: Scan, dtype: torch.dtype) -> None:
        # ITK's headers hold no shear, so only NIfTI is asked to.
        affine = scan.affine
        if suffix not in (".nii", ".nii.gz"):
            affine = np.diag([*np.linalg.norm(affine[:3, :3], axis=0), 1.0])
        voxels = torch.from_numpy(np.clip(scan.finite, 0, 250))[None].to(dtype)
        volume = Volume(voxels, affine)
        write_volume(volume, tmp_path / f"a{suffix}")
        again = read_volume(tmp_path / f"a{suffix}")
        assert again.data.dtype == dtype
        assert torch.equal(again.data, volume.data)
        assert again.grid.same_as(volume.grid)

    holds()


@efforts(few=25, many=200)
def test_turning_and_cutting_lose_nothing(effort: Effort) -> None:
    @effort.tries
    @given(scans(effort.largest), shapes(effort.largest), st.integers(0, 2**16))
    def holds(scan: Scan, window: tuple[int, int, int], seed: int) -> None:
        volume = scan.volume
        assert torch.equal(restore(to_canonical(volume), volume.grid).data, volume.data)
        centre = np.random.default_rng(seed).integers(-3, np.array(scan.shape) + 3).tolist()
        cut = crop_or_pad(volume, window, center=centre, fill=-7.0)
        assert cut.shape == window
        start = np.subtract(centre, np.array(window) // 2)
        index = np.indices(window).reshape(3, -1).T + start  # (N, 3), voxels of the scan
        inside = ((index >= 0) & (index < scan.shape)).all(axis=1)
        expected = np.full(len(index), -7.0, np.float32)
        expected[inside] = scan.finite[tuple(index[inside].T)]
        np.testing.assert_array_equal(cut.data[0].numpy().ravel(), expected)
        back = restore(cut, volume.grid, fill=-7.0).data[0].numpy()
        kept = np.zeros(scan.shape, bool)
        kept[tuple(index[inside].T)] = True
        np.testing.assert_array_equal(back, np.where(kept, scan.finite, -7.0))

    holds()


@efforts(few=20, many=80)
def test_resampling_makes_no_value_and_comes_back_to_the_grid(effort: Effort) -> None:
    @effort.tries
    @given(scans(effort.largest), SPACINGS)
    def holds(scan: Scan, spacing: tuple[float, float, float]) -> None:
        volume = scan.volume
        labels = Volume((volume.data > 100).to(torch.uint8), volume.affine)
        small = resample(labels, spacing, mode="nearest")
        assert small.data.dtype == torch.uint8
        assert set(small.data.unique().tolist()) <= set(labels.data.unique().tolist())
        np.testing.assert_allclose(small.spacing, spacing, rtol=1e-6)
        image = resample(volume, spacing)
        assert image.grid.same_as(small.grid)
        low, high = float(volume.data.min()), float(volume.data.max())
        slack = 1e-5 * max(abs(low), abs(high))
        assert low - slack <= float(image.data.min()) <= float(image.data.max()) <= high + slack
        again = restore(image, volume.grid)
        assert again.grid.same_as(volume.grid)
        assert bool(again.data.isfinite().all())

    holds()


@pytest.mark.parametrize("preset", [*INTENSITY_PRESETS, "clip -160 240"])
@efforts(few=8, many=60)
def test_intensities_are_finite(effort: Effort, preset: str) -> None:
    @effort.tries
    @given(scans(effort.largest), shapes(effort.largest))
    def holds(scan: Scan, window: tuple[int, int, int]) -> None:
        volume = scan.volume
        prepared = Volume(prepare_volume(volume.data, preset), volume.affine)
        crop = crop_or_pad(prepared, window, fill=padding_value(preset))
        for image in (prepared.data, normalize_crop(crop.data, preset)):
            assert image.dtype == torch.float32
            assert bool(image.isfinite().all())

    holds()
