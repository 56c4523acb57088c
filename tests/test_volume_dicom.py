"""DICOM folders: slices go where their positions say; what is no one series is refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from neurosam3d.volume import read_grid, read_volume
from neurosam3d.volume_io import VolumeFileError


def write_series(
    folder: Path,
    *,
    positions: np.ndarray,
    uid: str = "1.2.3.4",
    offset: int = 0,
    compressed: bool = False,
    size: tuple[int, int] = (6, 4),
    thickness: float = 9.9,
) -> list[np.ndarray]:
    """Write one DICOM file per position (LPS, mm); rows run along +x, columns along +z."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(compressed)
    if compressed:
        writer.SetCompressor("JPEG2000")
    slices = []
    for number, position in enumerate(positions):
        pixels = (np.arange(np.prod(size)).reshape(size) + 100 * number + offset).astype(np.int16)
        image = sitk.GetImageFromArray(pixels.T[None])
        image.SetSpacing((0.8, 2.0, thickness))
        tags = {
            "0008|0060": "CT",
            "0020|000e": uid,
            "0020|000d": "1.2.3",
            "0008|0018": f"{uid}.{number}",
            "0020|0032": "\\".join(f"{x:.4f}" for x in position),
            "0020|0037": "1\\0\\0\\0\\0\\1",
            "0018|0050": str(thickness),
            "0028|1052": "-50",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        # Names that sort against the positions: the order must come from the geometry.
        writer.SetFileName(str(folder / f"{uid}-{90 - number}.dcm"))
        writer.Execute(image)
        slices.append(pixels)
    return slices


def line(count: int, step=(0.0, -1.5, 0.0), start=(10.0, 20.0, 30.0)) -> np.ndarray:
    return np.array(start) + np.arange(count)[:, None] * np.array(step)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_dicom_series_is_ordered_and_placed_by_its_positions(tmp_path, compressed):
    size = (48, 40)  # JPEG 2000 needs some pixels for its pyramid
    slices = write_series(tmp_path / "ct", positions=line(5), compressed=compressed, size=size)
    volume = read_volume(tmp_path / "ct")
    assert volume.shape == (48, 40, 5)
    assert volume.spacing == pytest.approx((0.8, 2.0, 1.5))  # not the slice thickness
    number = 3
    position = np.array([10.0, 20.0 - 1.5 * number, 30.0])
    found = np.linalg.inv(volume.affine) @ [-position[0], -position[1], position[2], 1]
    d, h, w = np.rint(found[:3]).astype(int)
    assert np.allclose(found[:3], (d, h, w), atol=1e-4)
    assert (d, h) == (0, 0)
    assert np.array_equal(volume.data[0, :, :, w].numpy(), slices[number])
    assert read_grid(tmp_path / "ct").same_as(volume.grid, tolerance_mm=1e-9)


def test_gantry_tilt_is_kept_in_the_affine(tmp_path):
    write_series(tmp_path / "ct", positions=line(4, step=(0.0, -1.5, 0.4)))
    volume = read_volume(tmp_path / "ct")
    first, last = volume.affine @ [0, 0, 0, 1], volume.affine @ [0, 0, 3, 1]
    assert np.allclose(np.abs(last - first), [0, 4.5, 1.2, 0], atol=1e-4)


def test_the_longest_series_of_a_folder_is_read(tmp_path, caplog):
    write_series(tmp_path / "ct", positions=line(4), uid="1.2.3.4")
    write_series(tmp_path / "ct", positions=line(2), uid="1.2.3.5", offset=5000)
    volume = read_volume(tmp_path / "ct")
    assert volume.shape == (6, 4, 4)
    assert volume.data.max() < 5000
    assert "longest of its DICOM series is read: 1.2.3.4" in caplog.text
    assert "1.2.3.5" in caplog.text


def test_series_of_one_length_are_a_choice_for_the_user(tmp_path):
    write_series(tmp_path / "ct", positions=line(3), uid="1.2.3.4")
    write_series(tmp_path / "ct", positions=line(3), uid="1.2.3.5")
    with pytest.raises(ValueError, match=r"several DICOM series.*1\.2\.3\.4.*1\.2\.3\.5"):
        read_volume(tmp_path / "ct")


def test_time_points_in_one_series_are_refused(tmp_path):
    positions = np.concatenate([line(3), line(3)])
    write_series(tmp_path / "mr", positions=positions)
    with pytest.raises(ValueError, match="mixes time points or echoes"):
        read_volume(tmp_path / "mr")


def test_a_missing_slice_is_reported(tmp_path, caplog):
    write_series(tmp_path / "ct", positions=np.delete(line(6), 2, axis=0))
    with caplog.at_level(logging.WARNING):
        read_volume(tmp_path / "ct")
    assert "1.500 to 3.000 mm apart, one may be missing" in caplog.text


def test_slices_of_two_sizes_are_refused(tmp_path):
    write_series(tmp_path / "ct", positions=line(2))
    write_series(tmp_path / "ct", positions=line(1), size=(5, 4))  # replaces the first file
    with pytest.raises(ValueError, match="share one size"):
        read_grid(tmp_path / "ct")


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match=f"cannot read {tmp_path}: the folder holds no DICOM"):
        read_volume(tmp_path)


def test_a_damaged_slice_is_refused_and_not_left_out(tmp_path):
    write_series(tmp_path / "ct", positions=line(5))
    first = min((tmp_path / "ct").iterdir())  # of the series' end: no gap tells that it is gone
    content = first.read_bytes()
    for damaged, kind, reason in (
        (b"", "empty", r"its file .*\.dcm is empty \(0 bytes\)"),
        (content[:-30], "damaged", r"its file .*\.dcm is truncated or damaged"),
        (content[:400], "damaged", r"its file .*\.dcm is truncated or damaged"),
        (b"garbage" * 40, "damaged", r"its file .*\.dcm is truncated or damaged"),
    ):
        first.write_bytes(damaged)
        for read in (read_grid, read_volume):
            with pytest.raises(VolumeFileError, match=reason) as caught:
                read(tmp_path / "ct")
            assert caught.value.kind == kind


def test_other_files_may_lie_beside_the_slices(tmp_path):
    write_series(tmp_path / "ct", positions=line(5))
    (tmp_path / "ct" / "notes.txt").write_text("")
    (tmp_path / "ct" / ".hidden.dcm").write_bytes(b"")
    (tmp_path / "ct" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"another kind")
    assert read_volume(tmp_path / "ct").shape == (6, 4, 5)
