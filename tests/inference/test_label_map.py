"""Label maps: who gets the voxels that several objects claim."""

import numpy as np
import pytest

from neurosam3d.inference.label_map import Claim, Overlap, merge_objects
from neurosam3d.volume import Spacing
from tests.inference.oracle import Oracle, ellipsoid, oblique, oracle_predictor

SHAPE = (4, 3, 6)


def _claim(logits: np.ndarray) -> Claim:
    return Claim((slice(0, None),) * 3, np.broadcast_to(logits, SHAPE).astype(np.float32))


def _claims() -> list[Claim]:
    """Three objects along the last axis, which meet at 2 (logits 1, 3, 0), 3 (0, 3, 3), 4."""
    along = ([1, 1, 1, -1, -1, 0], [-9, -9, 3, 3, 1, -9], [-1, -1, 0, 3, 2, 0])
    return [_claim(np.array(logits)) for logits in along]


@pytest.mark.parametrize(
    ("overlap", "values"),
    [
        ("highest", [1, 1, 2, 2, 3, 0]),
        ("first", [1, 1, 1, 2, 2, 0]),
        ("last", [1, 1, 2, 3, 3, 0]),
    ],
)
def test_the_rule_decides(overlap: Overlap, values: list[int]) -> None:
    merged = merge_objects(("a", "b", "c"), _claims(), shape=SHAPE, overlap=overlap)
    np.testing.assert_array_equal(merged.values, np.broadcast_to(values, SHAPE))
    assert merged.values.dtype == np.uint8
    assert merged.names == ("a", "b", "c")
    assert merged.voxel_counts == tuple(12 * values.count(value) for value in (1, 2, 3))


@pytest.mark.parametrize("overlap", ["highest", "first", "last"])
def test_one_object_is_its_mask_and_an_empty_one_has_no_voxel(overlap: Overlap) -> None:
    logits = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    one = merge_objects(("a",), [_claim(logits)], shape=SHAPE, overlap=overlap)
    np.testing.assert_array_equal(one.values, logits > 0)
    claims = [_claim(np.array(-1.0)), _claim(logits)]
    with_empty = merge_objects(("nothing", "a"), claims, shape=SHAPE, overlap=overlap)
    np.testing.assert_array_equal(with_empty.values, 2 * (logits > 0))
    assert with_empty.voxel_counts == (0, int((logits > 0).sum()))


def test_a_claim_is_what_is_around_the_foreground() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1, 2, 1] = mask[2, 1, 4] = True
    claim = Claim.from_mask(mask, logit=3.0)
    assert claim.box == (slice(1, 3), slice(1, 3), slice(1, 5))
    np.testing.assert_array_equal(claim.logits, np.where(mask[claim.box], 3, -3))


@pytest.mark.parametrize("spacing", [None, (1.0, 1.6, 1.3)])
def test_a_prediction_claims_its_foreground(spacing: Spacing | None) -> None:
    truth = ellipsoid((17, 14, 20), centre=(9, 6, 8), radii=(4, 3, 5)).astype(np.float32)
    affine = oblique((1.2, 0.9, 2.5), axes=(2, 0, 1), signs=(-1, 1, -1))
    predictor = oracle_predictor(Oracle(), spacing=spacing, roi_size=24)
    predictor.set_image((truth, affine))
    prediction = predictor.predict(points=[(9, 6, 8)])
    claim = Claim.from_prediction(prediction)
    expected = prediction.logits
    restored = np.full(expected.shape, -1.0)
    restored[claim.box] = claim.logits
    np.testing.assert_array_equal(restored > 0, expected > 0)
    np.testing.assert_allclose(restored[expected > 0], expected[expected > 0], rtol=1e-5)
    assert claim.logits.size < expected.size
    nothing = predictor.open_session().reset()
    assert Claim.from_prediction(nothing).logits.size == 0


def test_many_objects_get_two_bytes() -> None:
    names = [f"object {number}" for number in range(1, 301)]
    masks = (np.arange(18).reshape(1, 3, 6) == number % 18 for number in range(300))
    claims = [Claim.from_mask(mask, logit=1.0) for mask in masks]
    merged = merge_objects(names, claims, shape=(1, 3, 6), overlap="last")
    assert merged.values.dtype == np.uint16
    np.testing.assert_array_equal(np.unique(merged.values), range(283, 301))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown overlap rule 'mean'; known: highest, first"):
        merge_objects(("a",), _claims()[:1], shape=SHAPE, overlap="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 65535 objects, got 65536"):
        merge_objects(["a"] * 65536, (), shape=SHAPE)
