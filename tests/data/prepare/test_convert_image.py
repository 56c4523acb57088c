"""The image of a case: which channel is stored, in what form, and which images are refused."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurosam3d.data.prepare.convert import CaseResult
from neurosam3d.data.prepare.problems import Kind

Write = Callable[..., Path]
Prepare = Callable[..., CaseResult]


def noise(dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, 7, 5)).astype(dtype)


def sentences(result: CaseResult) -> list[tuple[Kind, str]]:
    return [(problem.kind, problem.sentence) for problem in result.record.problems]


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_a_single_channel_file_is_copied_byte_by_byte(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Prepare,
    dtype: type,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz", (noise() * 99).astype(dtype))
    result = prepare(image, write_volume(tmp_path / "raw/label.nii.gz", organs))
    copy = out / "imagesTr/c1.nii.gz"
    assert copy.read_bytes() == image.read_bytes()
    assert not copy.is_symlink()
    assert result.record.problems == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_not_finite_are_stored_as_zeros_and_noted(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    affine: np.ndarray,
    organs: np.ndarray,
    prepare: Prepare,
    bad: float,
) -> None:
    data = noise()
    data[2, 3, 1:5] = bad
    image = write_volume(tmp_path / "raw/image.nii.gz", data)
    result = prepare(image, write_volume(tmp_path / "raw/label.nii.gz", organs))
    kept = nibabel.load(out / "imagesTr/c1.nii.gz")
    data[2, 3, 1:5] = 0
    assert np.array_equal(np.asarray(kept.dataobj), data.astype(np.float32))
    assert np.allclose(kept.affine, affine)
    sentence = "image.nii.gz has 4 NaN or infinite voxels; they are set to 0"
    assert sentences(result) == [(Kind.NOT_FINITE, sentence)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, "all voxels of channel 0 of {} are NaN or infinite"),
        (np.inf, "all voxels of channel 0 of {} are NaN or infinite"),
        (-1024.0, "channel 0 of {} holds one value only"),
        (0.0, "channel 0 of {} holds one value only"),
    ],
)
def test_a_scan_of_one_value_is_skipped(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Prepare,
    value: float,
    reason: str,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz", np.full((9, 7, 5), value, np.float32))
    result = prepare(image, write_volume(tmp_path / "raw/label.nii.gz", organs))
    assert result.record.is_skipped
    assert sentences(result) == [(Kind.CONSTANT, f"c1 is skipped: {reason.format(image)}")]
    assert not list(out.glob("*/*"))


def test_only_the_channel_that_is_stored_needs_different_values(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, prepare: Prepare
) -> None:
    data = np.zeros((9, 7, 5, 2), dtype=np.int16)
    data[4, 3, 2, 1] = 7
    image = write_volume(tmp_path / "raw/image.nii.gz", data)
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    assert "channel 0 of" in sentences(prepare(image, label, channel=0))[0][1]
    assert not prepare(image, label, channel=1).record.is_skipped


@pytest.mark.parametrize("channel", [0, 2])
def test_one_channel_of_a_4d_image_is_stored_and_that_is_noted(
    tmp_path: Path,
    out: Path,
    write_volume: Write,
    affine: np.ndarray,
    organs: np.ndarray,
    prepare: Prepare,
    channel: int,
) -> None:
    data = np.arange(9 * 7 * 5 * 3, dtype=np.int16).reshape(9, 7, 5, 3)
    image = write_volume(tmp_path / "raw/image.nii.gz", data)
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    result = prepare(image, label, channel=channel)
    kept = nibabel.load(out / "imagesTr/c1.nii.gz")
    assert np.array_equal(np.asarray(kept.dataobj), data[..., channel])
    assert kept.get_data_dtype() == np.int16
    assert np.allclose(kept.affine, affine)
    sentence = f"image.nii.gz has 3 channels; number {channel} is stored"
    assert sentences(result) == [(Kind.SEVERAL_CHANNELS, sentence)]


def test_only_the_stored_channel_is_looked_at_for_nan(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, prepare: Prepare
) -> None:
    data = np.stack([noise(np.float32), noise(np.float32)], axis=-1)
    data[0, 0, 0, 1] = np.nan
    image = write_volume(tmp_path / "raw/image.nii.gz", data)
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    assert [k for k, _ in sentences(prepare(image, label))] == [Kind.SEVERAL_CHANNELS]


def test_a_channel_that_is_not_there_is_refused(
    tmp_path: Path, write_volume: Write, organs: np.ndarray, prepare: Prepare
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    ((kind, sentence),) = sentences(prepare(image, label, channel=1))
    assert kind is Kind.BAD_CHANNEL
    assert "has 1 channels, none numbered 1" in sentence


def test_other_formats_are_stored_as_nifti_without_reorienting(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Prepare
) -> None:
    flipped = np.diag([-2.0, -1.5, 3.0, 1.0])
    image = write_volume(tmp_path / "raw/image.nii", affine=flipped)
    prepare(image, write_volume(tmp_path / "raw/label.nii", organs, flipped))
    kept = nibabel.load(out / "imagesTr/c1.nii.gz")
    assert np.allclose(kept.affine, flipped)
    assert np.array_equal(np.asarray(kept.dataobj), np.asarray(nibabel.load(image).dataobj))


def test_an_affine_in_metres_is_stored_in_millimetres(
    tmp_path: Path, out: Path, write_volume: Write, organs: np.ndarray, prepare: Prepare
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz", affine=np.diag([2e-3, 1.5e-3, 3e-3, 1]))
    raw = nibabel.load(image)
    raw.header.set_xyzt_units("meter")
    nibabel.save(nibabel.Nifti1Image(np.asarray(raw.dataobj), raw.affine, raw.header), image)
    label = write_volume(tmp_path / "raw/label.nii", organs, np.diag([2.0, 1.5, 3.0, 1]))
    result = prepare(image, label)
    assert result.record.spacing == pytest.approx((2.0, 1.5, 3.0))
    kept = nibabel.load(out / "imagesTr/c1.nii.gz")
    assert np.allclose(kept.affine, np.diag([2.0, 1.5, 3.0, 1]))


def test_a_raw_file_that_goes_away_meanwhile_is_the_matter_of_its_case(
    tmp_path: Path,
    write_volume: Write,
    organs: np.ndarray,
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = write_volume(tmp_path / "raw/image.nii.gz")
    label = write_volume(tmp_path / "raw/label.nii.gz", organs)
    read_bytes = Path.read_bytes
    num_reads = 0

    def read(path: Path) -> bytes:
        nonlocal num_reads
        num_reads += path == image
        if path == image and num_reads > 1:  # the first decodes it
            raise OSError(5, "Input/output error", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert sentences(prepare(image, label)) == [
        (Kind.DAMAGED, f"c1 is skipped: cannot read {image}: Input/output error")
    ]
