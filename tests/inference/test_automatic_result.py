import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neurosam3d.inference.automatic_result import AutomaticMask, AutomaticResult, paint
from neurosam3d.inference.sparse_mask import SparseMask
from neurosam3d.volume import Grid
from tests.inference.oracle import oblique

SHAPE = (9, 7, 12)
GRID = Grid(SHAPE, np.array([[-2, 0, 0, 30], [0, 0, 1.5, -8], [0, 3, 0, 5], [0, 0, 0, 1]]))


def block(*corners: tuple[int, int]) -> SparseMask:
    """Keep a mask that is true from the first to before the last index along each axis."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(low, high) for low, high in corners)] = True
    return SparseMask.from_array(mask)


def make_result(*masks: SparseMask, source: Path | None = None) -> AutomaticResult:
    records = [
        AutomaticMask(
            id=number,
            mask=mask,
            stability=0.8765432,
            predicted_iou=None if number == 1 else 0.5,
            point=np.array([1.0, 2.25, 3.0]),
            num_windows=number,
            grid=GRID,
        )
        for number, mask in enumerate(masks, start=1)
    ]
    return AutomaticResult(
        tuple(records),
        GRID,
        settings={"points_per_side": 8},
        counts={"points": 40},
        seconds={"decode": 1.23456},
        source=source,
    )


LARGE, SMALL = block((1, 7), (2, 6), (0, 10)), block((5, 9), (2, 4), (3, 6))


def test_a_record_says_where_its_mask_is_and_how_large() -> None:
    record = make_result(LARGE).records[0]
    assert record.to_dict() == {
        "id": 1,
        "stability": 0.8765,
        "predicted_iou": None,
        "volume_mm3": 6 * 4 * 10 * 9.0,
        "num_voxels": 240,
        "box": [[1, 2, 0], [6, 5, 9]],
        "centroid": [3.5, 3.5, 4.5],
        "centroid_mm": [30 - 2 * 3.5, -8 + 1.5 * 4.5, 5 + 3 * 3.5],
        "point": [1.0, 2.25, 3.0],
        "num_windows": 1,
    }


def test_smaller_masks_are_on_top_and_records_keep_all_their_voxels() -> None:
    result = make_result(LARGE, SMALL)
    shared = 2 * 2 * 3
    assert result.label_map.dtype == np.uint16
    assert np.bincount(result.label_map.ravel()).tolist() == [
        np.prod(SHAPE) - 240 - 24 + shared,
        240 - shared,
        24,
    ]
    assert result.mask(1).sum() == 240
    assert result.mask(2).dtype == np.uint8
    np.testing.assert_array_equal(result.mask(2) > 0, result.label_map == 2)


@pytest.mark.parametrize("number", [0, 3])
def test_an_unknown_id_is_named(number: int) -> None:
    with pytest.raises(ValueError, match=f"an object's id is 1 to 2, got {number}"):
        make_result(LARGE, SMALL).mask(number)


def test_a_label_map_has_no_more_than_16_bits() -> None:
    with pytest.raises(ValueError, match="at most 65535 objects, got 65536"):
        paint([SMALL] * 65536, SHAPE)


def test_label_map_and_tables_are_written_side_by_side(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    affine = oblique((2, 1, 3), axes=(1, 0, 2), signs=(1, -1, 1))
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), affine), scan)
    result = make_result(LARGE, SMALL, source=scan)
    files = result.save(tmp_path / "out" / "all.nii.gz")
    assert [file.name for file in files] == ["all.nii.gz", "all.json", "all.csv"]
    image = nib.load(files[0])
    assert image.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(np.asarray(image.dataobj), result.label_map)
    np.testing.assert_allclose(image.affine, GRID.affine, atol=1e-6)
    content = json.loads(files[1].read_text(encoding="utf-8"))
    assert content["masks"] == [record.to_dict() for record in result.records]
    assert content["label_map"] == "all.nii.gz"
    assert "smaller one" in content["overlap"]
    assert content["settings"] == {"points_per_side": 8}
    assert content["counts"] == {"points": 40}
    assert content["seconds"] == {"decode": 1.235}
    assert content["image"] == str(scan)
    with files[2].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["1", "2"]
    assert [row["predicted_iou"] for row in rows] == ["", "0.5"]
    corners = [
        [float(row[f"{end}_{axis}"]) for axis in range(3)] for row in rows for end in ("min", "max")
    ]
    assert corners == [[1, 2, 0], [6, 5, 9], [5, 2, 3], [8, 3, 5]]
    assert [float(rows[0][name]) for name in ("x_mm", "y_mm", "z_mm")] == [23, -1.25, 15.5]
    assert float(rows[1]["point_1"]) == 2.25


def test_nothing_found_is_written_too(tmp_path: Path) -> None:
    label_map, records, table = make_result().save(tmp_path / "none.nrrd")
    assert label_map.exists()
    assert json.loads(records.read_text(encoding="utf-8"))["masks"] == []
    assert table.read_text(encoding="utf-8").count("\n") == 1
