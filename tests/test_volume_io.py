"""Files: one scan reads the same in every format, and bad files end in one sentence."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from neurosam3d import volume_io
from neurosam3d.volume import Volume, read_grid, read_volume, write_volume

SHAPE = (6, 4, 5)
# Columns: 0.8 mm mostly towards L, 2 mm mostly towards S, 1.25 mm mostly towards A.
AFFINE = np.array(
    [
        [-0.8 * 0.96, 0.0, 1.25 * 0.28, 20.0],
        [0.8 * 0.28, 0.0, 1.25 * 0.96, -35.5],
        [0.0, 2.0, 0.0, 7.25],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh", ".mha", ".nrrd")


def voxels(dtype: str = "int16", channels: int = 1) -> np.ndarray:
    """Numbers that no permutation or flip leaves alone, (C, D, H, W)."""
    return np.arange(channels * np.prod(SHAPE)).reshape(channels, *SHAPE).astype(dtype)


def itk_image(array: np.ndarray, affine: np.ndarray = AFFINE) -> sitk.Image:
    """Build the same scan the way ITK thinks: reversed array, LPS geometry."""
    image = sitk.GetImageFromArray(array.T)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((np.diag([-1, -1, 1]) @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((affine[:3, 3] * [-1, -1, 1]).tolist())
    return image


def write_with_its_library(path: Path, array: np.ndarray) -> None:
    if path.name.endswith((".mha", ".mhd", ".nrrd", ".nhdr")):
        sitk.WriteImage(itk_image(array), str(path))
    elif path.name.endswith((".mgz", ".mgh")):
        nib.save(nib.MGHImage(array, AFFINE), path)
    else:
        nib.save(nib.Nifti1Image(array, AFFINE), path)


@pytest.mark.parametrize("suffix", volume_io.READABLE)
def test_one_scan_reads_the_same_in_every_format(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_with_its_library(path, voxels()[0])
    volume = read_volume(path)
    assert torch.equal(volume.data, torch.from_numpy(voxels()))
    assert volume.data.dtype == torch.int16
    assert np.allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.orientation == "LSA"
    assert read_grid(path).same_as(volume.grid, tolerance_mm=1e-9)


def test_the_affine_is_the_position_that_itk_computes(tmp_path):
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(itk_image(voxels()[0]), str(path))
    x, y, z = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint((5, 1, 3))
    assert np.allclose(read_volume(path).affine @ [5, 1, 3, 1], [-x, -y, z, 1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_reads_back(tmp_path, suffix, channels):
    volume = Volume(torch.from_numpy(voxels("uint8", channels)), AFFINE)
    path = tmp_path / "new" / f"mask{suffix}"
    write_volume(volume, path)
    back = read_volume(path)
    assert back.data.dtype == torch.uint8
    assert torch.equal(back.data, volume.data)
    assert np.allclose(back.affine, AFFINE, atol=1e-5)
    assert read_grid(path).same_as(back.grid, tolerance_mm=1e-9)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("dtype", "read_as"),
    [
        (torch.bool, torch.uint8),
        (torch.int32, torch.int32),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_number_types_survive_a_file(tmp_path, suffix, dtype, read_as):
    data = (torch.arange(120) % 2).view(1, *SHAPE).to(dtype)
    write_volume(Volume(data, AFFINE), tmp_path / f"a{suffix}")
    back = read_volume(tmp_path / f"a{suffix}").data
    assert back.dtype == read_as
    assert torch.equal(back, data.to(read_as))


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz", ".mha", ".nrrd"])
def test_sheared_affines_survive_a_file(tmp_path, suffix):
    affine = AFFINE @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0.1, 0, 1, 0], [0, 0, 0, 1.0]])
    write_volume(Volume(torch.from_numpy(voxels()), affine), tmp_path / f"a{suffix}")
    assert np.allclose(read_volume(tmp_path / f"a{suffix}").affine, affine, atol=1e-5)


def test_nifti_carries_a_quaternion_wherever_one_can_hold_the_affine(tmp_path):
    rigid = np.diag([-0.8, 2.0, 1.25, 1.0])
    sheared = rigid @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    for affine, code in ((rigid, 1), (sheared, 0)):
        write_volume(Volume(torch.from_numpy(voxels()), affine), tmp_path / "a.nii.gz")
        image = nib.load(tmp_path / "a.nii.gz")
        assert int(image.header["qform_code"]) == code
        assert np.allclose(image.get_sform(), affine)
        assert code == 0 or np.allclose(image.get_qform(), affine)


def test_mgz_narrows_integers_only_without_loss(tmp_path):
    small = Volume(torch.from_numpy(voxels("int64")), AFFINE)
    write_volume(small, tmp_path / "a.mgz")
    assert read_volume(tmp_path / "a.mgz").data.dtype == torch.int32
    large = Volume(small.data + 2**40, AFFINE)
    with pytest.raises(ValueError, match="integers of 32 bits, got 1099511627776"):
        write_volume(large, tmp_path / "b.mgz")
    assert not (tmp_path / "b.mgz").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    volume = Volume(torch.from_numpy(voxels()), AFFINE)
    write_volume(volume, path)
    before = path.read_bytes()

    def half_write(image, target):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", half_write)
    with pytest.raises(OSError, match="disk full"):
        write_volume(Volume(volume.data + 1, AFFINE), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.jpg", "a.mhd", "a"])
def test_unknown_suffixes_are_not_written(tmp_path, name):
    with pytest.raises(ValueError, match=r"written as .nii.gz, .nii, .mgz, .mgh, .nrrd, .mha"):
        write_volume(Volume(torch.zeros(1, 2, 2, 2), AFFINE), tmp_path / name)


def test_like_keeps_the_space_code(tmp_path):
    template = nib.Nifti1Image(voxels()[0], AFFINE)
    template.set_sform(AFFINE, 4)  # MNI
    nib.save(template, tmp_path / "template.nii")
    volume = Volume(torch.from_numpy(voxels()), AFFINE)
    write_volume(volume, tmp_path / "a.nii.gz", like=tmp_path / "template.nii")
    write_volume(volume, tmp_path / "b.nii.gz")
    assert int(nib.load(tmp_path / "a.nii.gz").header["sform_code"]) == 4
    assert int(nib.load(tmp_path / "b.nii.gz").header["sform_code"]) == 1


# What NIfTI files hold


def test_scale_factors_are_applied(tmp_path):
    image = nib.Nifti1Image(voxels()[0], AFFINE)
    image.header.set_slope_inter(2.0, -10.0)
    nib.save(image, tmp_path / "a.nii.gz")
    raw = nib.load(tmp_path / "a.nii.gz")
    assert (raw.dataobj.slope, raw.dataobj.inter) == (2.0, -10.0)
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.data.dtype == torch.float32
    assert torch.equal(volume.data, 2 * torch.from_numpy(raw.dataobj.get_unscaled()[None]) - 10)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        *(("uint16", torch.int32), ("uint32", torch.int64), (">i4", torch.int32)),
        *(("float64", torch.float32), ("int8", torch.int8)),
    ],
)
def test_number_types_become_ones_that_pytorch_computes_in(tmp_path, stored, read):
    nib.save(nib.Nifti1Image(voxels(stored)[0], AFFINE), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.data.dtype == read
    assert torch.equal(volume.data, torch.from_numpy(voxels("int64")).to(read))
    assert read_volume(tmp_path / "a.nii", dtype=torch.float32).data.dtype == torch.float32


def test_nan_and_infinity_become_zero_with_a_warning(tmp_path, caplog):
    data = voxels("float32")[0] + 1
    data[1, 2, 3], data[0, 0, 0] = np.nan, np.inf
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz").data[0]
    assert volume[1, 2, 3] == volume[0, 0, 0] == 0
    assert (volume == 0).sum() == 2
    assert "a.nii.gz: 2 NaN or infinite voxels set to 0" in caplog.text


@pytest.mark.parametrize(
    ("shape", "channels"), [((*SHAPE, 1), 1), ((*SHAPE, 2), 2), ((*SHAPE, 1, 3), 3)]
)
def test_further_axes_become_channels(tmp_path, shape, channels):
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz").data
    assert volume.shape == (channels, *SHAPE)
    assert volume[-1, 3, 2, 1] == data.reshape(*SHAPE, channels)[3, 2, 1, -1]


def test_four_axes_of_itk_become_channels(tmp_path):
    frames = [itk_image(frame) for frame in voxels(channels=3)]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "time.nrrd"))
    sitk.WriteImage(sitk.Compose(frames), str(tmp_path / "vector.mha"))
    for name in ("time.nrrd", "vector.mha"):
        volume = read_volume(tmp_path / name)
        assert torch.equal(volume.data, torch.from_numpy(voxels(channels=3)))
        assert np.allclose(volume.affine, AFFINE)
        assert read_grid(tmp_path / name).shape == SHAPE


def test_lengths_in_micrometres_become_millimetres(tmp_path):
    affine = np.diag([500.0, 250.0, 750.0, 1.0])
    image = nib.Nifti1Image(voxels()[0], affine)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_volume(tmp_path / "a.nii.gz").spacing == pytest.approx((0.5, 0.25, 0.75))


# Bad files


def nifti_bytes(array: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    return nib.Nifti1Image(array, affine).to_bytes()


def rgb_bytes() -> bytes:
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nifti_bytes(colour)


def with_broken_affine(value: float) -> bytes:
    image = nib.Nifti1Image(voxels()[0], None)
    image.header.set_sform(np.eye(4), 1)
    image.header["srow_x"] = value
    return image.header.binaryblock + b"\0" * 4 + voxels()[0].tobytes(order="F")


NOISE = np.random.default_rng(0).integers(0, 2000, (16, 12, 10), dtype=np.int16)
BAD_FILES = {
    "empty.nii.gz": (b"", r"the file is empty \(0 bytes\)"),
    "garbage.nii.gz": (b"no volume at all" * 50, "truncated or damaged .*not a gzip file"),
    "truncated.nii.gz": (
        gzip.compress(nifti_bytes(NOISE))[:-900],
        "truncated or damaged .*compressed data end too early",
    ),
    "truncated.nii": (
        nifti_bytes(NOISE)[:-900],
        "truncated or damaged .*3840 bytes of voxels in 3292",
    ),
    "flat.nii": (nifti_bytes(voxels()[0, 0]), r"2-D image of shape \(4, 5\)"),
    "hollow.nii": (nifti_bytes(np.zeros((4, 0, 5), np.uint8)), "voxels along every axis"),
    "tensor.nii": (nifti_bytes(np.zeros((2, 3, 4, 5, 6), np.uint8)), "one axis of channels"),
    "colour.nii": (rgb_bytes(), r"colour \(RGB\)"),
    "complex.nii": (nifti_bytes(voxels("complex64")[0]), "real numbers, got complex64"),
    "nan.nii": (with_broken_affine(np.nan), "finite numbers"),
    "singular.nii": (with_broken_affine(0.0), "three axes"),
    "empty.mha": (b"", r"the file is empty \(0 bytes\)"),
    "empty.mgz": (b"", r"the file is empty \(0 bytes\)"),
    "garbage.nrrd": (b"NRRD0004\nnothing\n", "SimpleITK cannot decode it"),
    "slice.dcm": (b"DICM", "a DICOM series is read by its folder"),
    "scan.jpg": (b"JFIF", "ends in .nii.gz, .nii, .mgz, .mgh, .nrrd, .nhdr, .mha, .mhd"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_end_in_one_sentence_that_names_them(tmp_path, name):
    content, reason = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_volume(tmp_path / name)
    assert str(caught.value).startswith(f"cannot read {tmp_path / name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".mgz"])
def test_truncated_files_are_refused_in_every_format(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_volume(Volume(torch.from_numpy(NOISE[None]), AFFINE), path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ValueError, match=f"cannot read {path}"):
        read_volume(path)


def test_flat_itk_images_are_refused(tmp_path):
    sitk.WriteImage(sitk.Image((4, 5), sitk.sitkInt16), str(tmp_path / "flat.mha"))
    with pytest.raises(ValueError, match=r"2-D image of shape \(4, 5\)"):
        read_volume(tmp_path / "flat.mha")


@pytest.mark.parametrize("read", [read_volume, read_grid])
def test_missing_files_are_named(tmp_path, read):
    with pytest.raises(ValueError, match=r"gone.nii.gz: no such file or folder"):
        read(tmp_path / "gone.nii.gz")


@pytest.mark.parametrize("name", ["flat.nii", "hollow.nii", "nan.nii", "colour.nii", "empty.mha"])
def test_headers_are_checked_without_the_voxels(tmp_path, name):
    content, reason = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_grid(tmp_path / name)


def test_read_grid_does_not_decode_voxels(tmp_path):
    content, _ = BAD_FILES["truncated.nii"]
    (tmp_path / "a.nii").write_bytes(content)
    assert read_grid(tmp_path / "a.nii").shape == (16, 12, 10)


def test_reading_leaves_itk_as_talkative_as_it_was(tmp_path):
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    with pytest.raises(ValueError, match="no DICOM"):
        read_grid(tmp_path)
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == before
