"""The objects of label files: values, masks, other grids, and what is no label."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neurosam3d.evaluation.case_files import LabelFile, Scan
from neurosam3d.evaluation.truths import Truth, read_image, read_truths
from neurosam3d.volume import Grid, Volume, restore, write_volume
from neurosam3d.volume_io import VolumeFileError
from tests.evaluation.scans import AFFINES, SHAPE, block, write

AFFINE = AFFINES["LPS, anisotropic"]
GRID = Grid(SHAPE, AFFINE)
VOXEL_MM3 = 0.8 * 1.2 * 3.0


def read(file: LabelFile, grid: Grid = GRID) -> dict[str, Truth]:
    return {truth.class_name: truth for truth in read_truths(file, grid)}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_label_map_has_an_object_per_value(dtype: type, tmp_path: Path) -> None:
    parts = [block((1, 1, 1), (2, 3, 4)), block((9, 9, 9), (5, 5, 5)), block((20, 2, 3), (1, 1, 2))]
    label = (parts[0] + 3 * parts[1] + 7 * parts[2]).astype(dtype)
    path = write(tmp_path / "l.nii.gz", label)
    found = read(LabelFile(path, classes={"liver": (1, 2), "absent": (5,), "both": (3, 7)}))
    assert list(found) == ["liver", "both"]
    np.testing.assert_array_equal(found["liver"].mask, parts[0] > 0)
    np.testing.assert_array_equal(found["both"].mask, parts[1] + parts[2] > 0)
    assert found["liver"].volume_mm3 == pytest.approx(24 * VOXEL_MM3)
    assert list(read(LabelFile(path, classes={"x": (3,)}))) == ["x", "label_1", "label_7"]


def test_large_values_are_values_too(tmp_path: Path) -> None:
    label = 2_000_000 * block().astype(np.int32) + 14175 * block((0, 0, 0)).astype(np.int32)
    path = write(tmp_path / "l.nii.gz", label)
    assert list(read(LabelFile(path))) == ["label_14175", "label_2000000"]


def test_a_mask_is_one_object_whatever_its_values(tmp_path: Path) -> None:
    path = write(
        tmp_path / "l.nii.gz", (0.25 * block() + 0.5 * block((0, 0, 0))).astype(np.float32)
    )
    (truth,) = read(LabelFile(path, "tumour")).values()
    np.testing.assert_array_equal(truth.mask, block() + block((0, 0, 0)) > 0)
    empty = write(tmp_path / "e.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    assert read(LabelFile(empty, "tumour"))["tumour"].volume_mm3 == 0
    assert read(LabelFile(empty)) == {}


def test_labels_on_another_grid_are_resampled_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label = Volume(torch.from_numpy(2 * block())[None], AFFINE)
    turned = restore(label, GRID.canonical())
    write_volume(turned, tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(
        read(LabelFile(tmp_path / "turned.nii.gz"))["label_2"].mask, block() > 0
    )
    (warning,) = caplog.messages
    assert "lies on another grid than its image and is resampled to it (nearest)" in warning
    assert "shape 30 x 26 x 34, RAS, spacing 0.8 x 1.2 x 3 mm to" in warning

    double = Grid((60, 52, 68), AFFINE @ np.diag([0.5, 0.5, 0.5, 1]))
    found = read(LabelFile(write(tmp_path / "l.nii.gz", block())), double)["label_1"]
    assert found.mask.shape == double.shape
    assert found.volume_mm3 == pytest.approx(block().sum() * VOXEL_MM3, rel=0.2)


def test_one_channel_of_an_image_is_read(tmp_path: Path) -> None:
    channels = torch.stack([torch.from_numpy(n * block()) for n in (1, 2, 3)])
    path = tmp_path / "i.nii.gz"
    write_volume(Volume(channels, AFFINE), path)
    assert read_image(Scan("D", "Ts", "c", path, (), 2)).data.max() == 3
    assert len(read_image(Scan("D", "Ts", "c", path, (), 2)).data) == 1
    with pytest.raises(VolumeFileError, match="has the channels 0 to 2, got 3"):
        read_image(Scan("D", "Ts", "c", path, (), 3))
    with pytest.raises(VolumeFileError, match="must have one channel, got 3"):
        read(LabelFile(path))
    single = write(tmp_path / "s.nii.gz", block())
    assert read_image(Scan("D", "Ts", "c", single, (), 2)).data.max() == 1  # a file per channel


def test_fractions_are_no_label_map(tmp_path: Path) -> None:
    path = write(tmp_path / "l.nii.gz", (0.5 * block()).astype(np.float32))
    with pytest.raises(VolumeFileError, match="must hold whole numbers to be a label map"):
        read(LabelFile(path))
