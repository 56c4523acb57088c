"""From a file through windows and back: a network that sees the truth must return exactly it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neurosam3d.inference import Predictor
from neurosam3d.volume import Volume, read_volume, resample, restore, to_canonical, write_volume
from tests.inference.oracle import Oracle, dice, ellipsoid, oblique, oracle_predictor

SHAPE = (30, 26, 34)
AFFINES = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LPS, anisotropic": np.diag([-0.8, -1.2, 3.0, 1.0]),
    "permuted": oblique((2.0, 0.7, 1.1), axes=(2, 0, 1), signs=(1, -1, -1)),
    "oblique": oblique((1.5, 1.5, 4.0), axes=(0, 1, 2), signs=(-1, 1, 1)),
}


def middle_of(truth: np.ndarray) -> list[int]:
    """Return the foreground voxel nearest to the middle of all."""
    found = np.argwhere(truth)
    return found[np.linalg.norm(found - found.mean(axis=0), axis=1).argmin()].tolist()


def segment(predictor: Predictor, truth: np.ndarray, affine: np.ndarray) -> np.ndarray:
    predictor.set_image((truth.astype(np.float32), affine))
    return predictor.predict(points=[middle_of(truth)], labels=[1]).mask


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_object_inside_one_window(affine: np.ndarray, suffix: str, tmp_path: Path) -> None:
    truth = ellipsoid(SHAPE, centre=(14, 12, 19), radii=(5, 6, 7))
    path = tmp_path / f"scan{suffix}"
    write_volume(Volume(torch.from_numpy(truth)[None].short(), affine), path)
    predictor = oracle_predictor(Oracle())
    predictor.set_image(path)
    prediction = predictor.predict(points=[[14, 12, 19]], labels=[1])
    assert prediction.num_windows == 1
    assert prediction.is_quiet
    assert prediction.mask.dtype == np.uint8
    np.testing.assert_array_equal(prediction.mask, truth)
    np.testing.assert_array_equal(prediction.logits > 0, truth > 0)
    prediction.save(tmp_path / "mask.nii.gz")
    written = read_volume(tmp_path / "mask.nii.gz")
    assert written.data.dtype == torch.uint8
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(written.data[0].numpy(), truth)


def snake(shape: tuple[int, int, int]) -> np.ndarray:
    """Return a U of two long arms that one end joins."""
    truth = np.zeros(shape, dtype=np.uint8)
    truth[4:8, 5 : shape[1] - 5, 6:11] = 1
    truth[shape[0] - 9 : shape[0] - 4, 5 : shape[1] - 5, 6:11] = 1
    truth[4 : shape[0] - 4, 5:9, 6:11] = 1
    return truth


OBJECTS = {
    "ball over several windows": ellipsoid((40, 44, 38), centre=(19, 22, 18), radii=(14, 15, 13)),
    "U": snake((50, 46, 30)),
    "corner of the scan": ellipsoid((40, 38, 36), centre=(0, 37, 35), radii=(12, 11, 9)),
    "whole scan": np.ones((22, 33, 25), dtype=np.uint8),
    "scan smaller than the window": ellipsoid((9, 12, 10), centre=(4, 5, 4), radii=(4, 3, 5)),
    "one slice": ellipsoid((40, 45, 1), centre=(18, 20, 0), radii=(14, 16, 1)),
    "rod of four windows": ellipsoid((70, 20, 20), centre=(35, 9, 10), radii=(34, 4, 4)),
}


@pytest.mark.parametrize("truth", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("affine", [AFFINES["permuted"], AFFINES["LPS, anisotropic"]])
def test_object_over_several_windows(truth: np.ndarray, affine: np.ndarray) -> None:
    predictor = oracle_predictor(Oracle(), max_windows=100)
    np.testing.assert_array_equal(segment(predictor, truth, affine), truth)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.9, 2.1, 1.3)])
def test_resampled_object_is_as_near_as_sampling_allows(
    affine: np.ndarray, spacing: tuple[float, float, float]
) -> None:
    truth = ellipsoid(SHAPE, centre=(13, 11, 33), radii=(9, 8, 14))  # cut by the scan's border
    predictor = oracle_predictor(Oracle(), roi_size=(24, 22, 26), spacing=spacing, max_windows=100)
    mask = segment(predictor, truth, affine)

    scan = Volume(torch.from_numpy(truth)[None].float(), affine)
    seen = resample(to_canonical(scan), spacing)
    bordered = Volume(
        F.pad(seen.data[None], (1,) * 6, mode="replicate")[0],
        seen.grid.window((-1, -1, -1), np.add(seen.shape, 2)).affine,
    )
    bound = restore(bordered, scan.grid).data[0].numpy() > 0.5
    np.testing.assert_array_equal(mask, bound)
    assert dice(mask, truth) > 0.8
    assert mask[:, :, -1].sum() > 0.8 * truth[:, :, -1].sum()  # nothing is cut at the border


@pytest.mark.parametrize("shift", [1, 3])
def test_shifted_answer_scores_as_counted_by_hand(shift: int) -> None:
    truth = np.zeros((40, 24, 22), dtype=np.uint8)
    truth[10:20, 5:15, 5:15] = 1  # a cube of side 10
    answer = lambda image: (torch.roll(image, shift, dims=2) - 0.5) * 12  # noqa: E731
    predictor = oracle_predictor(Oracle(answer), roi_size=(30, 24, 22))
    mask = segment(predictor, truth, np.diag([1.0, 2.0, 0.5, 1.0]))
    assert dice(mask, truth) == pytest.approx((10 - shift) / 10)
