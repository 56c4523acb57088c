"""What a predictor takes and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neurosam3d.inference import ObjectPrompts, Predictor
from neurosam3d.models import build_model
from neurosam3d.volume import Volume, read_volume, write_volume
from tests.inference.oracle import Oracle, ellipsoid, oracle_predictor

SHAPE = (20, 18, 16)
BALL = ellipsoid(SHAPE, centre=(9, 8, 7), radii=(4, 5, 3))


@pytest.fixture
def predictor() -> Predictor:
    predictor = oracle_predictor(Oracle(), roi_size=16)
    predictor.set_image((BALL, np.diag([1.0, 2.0, 1.0, 1.0])))
    return predictor


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, r"a prompt must say where the object is.*got 0 points with label 0"),
        ({"points": [[9, 8, 7]], "labels": [0]}, r"where the object is.*got 1 points with label 0"),
        ({"points": [[9, 8, 16]]}, r"inside the scan of shape \(20, 18, 16\), got \[9.0, 8.0, 16"),
        ({"points": [[-1, 8, 7]]}, "inside the scan of shape"),
        (
            {"points": [[9, 80, 7]], "world": True},
            r"the scan of \[0.0, 0.0, 0.0\] to \[19.0, 34.0, 15.0\] mm, got \[9.0, 80.0, 7.0\]",
        ),
        ({"points": [9, 8, 7]}, r"points must be finite numbers \(N, 3\), got \[9, 8, 7\]"),
        ({"points": [[9, float("nan"), 7]]}, r"points must be finite numbers \(N, 3\)"),
        (
            {"points": [[9, 8, 7]], "labels": [2]},
            r"labels must be 1 or 0, one for each of 1 points",
        ),
        ({"points": [[9, 8, 7]], "labels": [1, 1]}, r"one for each of 1 points, got \[1, 1\]"),
        ({"labels": [1]}, "one for each of 0 points"),
        ({"box": [[5, 5, 5], [4, 9, 9]]}, "no minimum above its maximum"),
        ({"box": [[5, 5, 5, 9, 9, 9]]}, r"a box must be \[\[min0, min1, min2\]"),
        ({"box": [[25, 5, 5], [29, 9, 9]]}, r"a box must meet the scan of shape \(20, 18, 16\)"),
        ({"mask": np.zeros(SHAPE)}, "a mask with foreground"),
        ({"mask": np.ones((3, 3, 3))}, r"have the scan's shape \(20, 18, 16\), got \(3, 3, 3\)"),
        ({"mask": np.full(SHAPE, np.nan)}, "logits of a mask prompt must be finite"),
        ({"mask": Volume(torch.ones(2, 3, 3, 3), np.eye(4))}, "a mask prompt has one channel"),
        (
            {"mask": Volume(torch.ones(1, 3, 3, 3), np.eye(4) + 500 * np.eye(4, k=3))},
            "a mask prompt must mark voxels of the scan",
        ),
        ({"mask": "nowhere.nii.gz"}, "cannot read nowhere.nii.gz"),
    ],
)
def test_unfit_prompts_are_refused(
    predictor: Predictor, prompts: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.predict(**prompts)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        predictor.predict_objects([ObjectPrompts(**prompts)])  # type: ignore[arg-type]


def test_refused_prompts_change_nothing(predictor: Predictor) -> None:
    before = predictor.add_point([9, 8, 7], 1)
    with pytest.raises(ValueError, match="labels must be"):
        predictor.add_point([9, 8, 8], 3)
    predictor.add_point([9, 8, 8], 1)
    np.testing.assert_array_equal(predictor.undo().mask, before.mask)


def test_prompts_need_a_scan() -> None:
    predictor = oracle_predictor(Oracle())
    for ask in (
        lambda: predictor.predict(points=[[1, 1, 1]]),
        lambda: predictor.add_point([1, 1, 1], 1),
        predictor.reset,
        predictor.open_session,
        lambda: predictor.predict_objects([]),
    ):
        with pytest.raises(ValueError, match="set_image must give the predictor a scan first"):
            ask()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_windows": 0}, "max_windows must be at least 1, got 0"),
        ({"cache_bytes": -5}, "cache_bytes must not be negative, got -5"),
        ({"intensity": "x"}, "unknown intensity preset 'x'"),
        ({"roi_size": 48}, "roi_size must be the network's own 32, got 48"),
        ({"roi_size": (32, 0, 1)}, "roi_size must be one or three positive numbers"),
        ({"roi_size": (32, 32)}, "roi_size must be one or three positive numbers"),
        ({"spacing": (1.5, 0, 1.5)}, "a spacing is three positive numbers in mm"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(build_model("vit_tiny", image_size=32), **options)  # type: ignore[arg-type]


def test_network_must_have_sams_parts() -> None:
    with pytest.raises(ValueError, match="a promptable network has a image_encoder"):
        Predictor(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="roi_size must be given, Oracle has no image_size"):
        Predictor(Oracle())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Volume(torch.zeros(2, 4, 4, 4), np.eye(4)), "a scan has one channel, got 2"),
        ((np.zeros((4, 4)), np.eye(4)), r"an array must be \(D, H, W\), got shape \(4, 4\)"),
        ((np.zeros((4, 4, 4)), np.zeros((4, 4))), "affine"),
        ("nowhere.nii.gz", "cannot read nowhere.nii.gz"),
    ],
)
def test_unfit_scans_are_refused(predictor: Predictor, image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.set_image(image)  # type: ignore[arg-type]
    assert predictor.predict(points=[[9, 8, 7]]).mask.sum() == BALL.sum()  # the old scan stays


def test_new_scan_forgets_the_old_ones_embeddings_and_rounds() -> None:
    oracle = Oracle()
    predictor = oracle_predictor(oracle, roi_size=16)
    for truth in (BALL, np.flip(BALL, 0).copy()):
        predictor.set_image((truth, np.eye(4)))
        point = np.argwhere(truth).mean(axis=0).round()
        np.testing.assert_array_equal(predictor.add_point(point, 1).mask, truth)
    assert oracle.num_encoded == 2
    predictor.undo()
    with pytest.raises(ValueError, match="undo needs a round"):
        predictor.undo()


def test_mask_file_on_another_grid(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "rough.nii.gz"
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    write_volume(Volume(torch.ones(1, 5, 5, 4, dtype=torch.uint8), affine), path)
    prediction = predictor.predict(mask=path)
    np.testing.assert_array_equal(prediction.mask, BALL)


def test_saved_mask_keeps_the_files_space(tmp_path: Path) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(BALL.astype(np.int16), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.set_sform(image.affine, code="mni")
    nib.save(image, tmp_path / "scan.nii.gz")
    predictor = oracle_predictor(Oracle(), roi_size=16)
    predictor.set_image(tmp_path / "scan.nii.gz")
    predictor.predict(points=[[9, 8, 7]]).save(tmp_path / "mask.nii.gz")
    saved = nib.load(tmp_path / "mask.nii.gz")
    assert saved.header["sform_code"] == 4
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(saved.dataobj), BALL)
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii.gz").affine, image.affine)


def test_seconds_are_told_by_part(predictor: Predictor) -> None:
    prediction = predictor.predict(points=[[9, 8, 7]])
    assert set(prediction.seconds) == {"encode", "decode", "restore"}
    assert prediction.seconds["encode"] > 0
    assert prediction.seconds["decode"] > 0
    assert prediction.seconds["restore"] == 0
    assert prediction.mask.any()
    assert prediction.seconds["restore"] > 0
    again = predictor.predict(points=[[9, 8, 7]])
    assert again.seconds["encode"] == 0


def test_package_offers_the_predictor() -> None:
    import neurosam3d

    assert neurosam3d.Predictor is Predictor
    with pytest.raises(AttributeError, match="has no attribute 'predict'"):
        neurosam3d.predict()
