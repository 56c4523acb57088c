"""Networks of slices on scans: what each slice is asked, how an object is followed, what is undone
in the answer.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from neurosam3d.inference import ObjectPrompts
from neurosam3d.inference.slice_predictor import SlicePredictor
from neurosam3d.slices import AXES, Axis, axis_order
from neurosam3d.volume import read_volume
from tests.evaluation.scans import AFFINES
from tests.inference.slice_oracle import SCALE, SHAPE, SIDE, SliceOracle, block, slice_predictor

RAS = np.eye(4)
BALL = ((10, 8, 12), (6, 8, 5))


def ready(
    image: np.ndarray, affine: np.ndarray = RAS, **options: object
) -> tuple[SliceOracle, SlicePredictor]:
    oracle = SliceOracle()
    predictor = slice_predictor(oracle, **options)
    predictor.set_image((image.astype(np.float32), affine))
    return oracle, predictor


def two_blocks() -> np.ndarray:
    return block(*BALL) + block((20, 18, 3), (5, 4, 14))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_click_on_one_slice_finds_the_object_on_all(affine: np.ndarray, axis: Axis) -> None:
    image = two_blocks()
    oracle, predictor = ready(image, affine, axis=axis)
    prediction = predictor.predict(points=[[12, 11, 13]])
    np.testing.assert_array_equal(prediction.mask, block(*BALL))
    turned = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax(1)
    length = BALL[1][turned[axis_order(axis)[0]]]
    assert prediction.num_windows == length
    assert oracle.num_encoded == len(oracle.asked) == length + 2  # one more at either end
    assert (prediction.logits > 0).sum() == prediction.mask.sum()


def test_slices_are_asked_in_their_own_pixels() -> None:
    oracle, predictor = ready(two_blocks())
    predictor.predict(points=[[12, 11, 13], [1, 2, 13]], labels=[1, 0])
    asked = oracle.asked[0]
    # Of slices S, A, R the columns follow R.
    assert asked.points is not None
    np.testing.assert_allclose(asked.points, np.array([[12, 11], [1, 2]]) * SCALE, rtol=1e-6)
    assert asked.labels is not None
    assert (asked.labels.tolist(), asked.three) == ([1, 0], False)
    upwards = oracle.asked[1]
    assert upwards.points is upwards.mask is None
    # The neighbour's box, five pixels of the network's image larger at each side.
    np.testing.assert_allclose(
        upwards.box, np.array([10, 8, 15, 15]) * SCALE + [-5, -5, 5, 5], rtol=1e-6
    )


def test_one_point_alone_takes_the_best_of_three_masks() -> None:
    oracle, predictor = ready(two_blocks())
    session = predictor.open_session(grow=False)
    session.add_point([12, 11, 13], 1)
    session.add_point([13, 11, 13], 1)
    assert [asked.three for asked in oracle.asked] == [True, False]
    first, second = (asked.mask for asked in oracle.asked)
    assert first is None
    assert second is not None
    assert second.shape == (1, 1, SIDE // 4, SIDE // 4)
    assert (second > 0).any()


def test_rounds_are_about_the_slices_that_are_clicked() -> None:
    image = two_blocks()
    oracle, predictor = ready(image)
    session = predictor.open_session(grow=False)
    session.add_point([12, 11, 13], 1)
    asked = len(oracle.asked)
    found = session.add_point([22, 20, 6], 1)
    assert (len(oracle.asked), found.num_windows) == (asked + 1, 2)
    expected = np.zeros_like(image)
    expected[..., 13], expected[..., 6] = block(*BALL)[..., 13], image[..., 6]
    np.testing.assert_array_equal(found.mask, expected)
    before = session.undo()
    np.testing.assert_array_equal(before.mask[..., 13], expected[..., 13])
    assert not before.mask[..., 6].any()
    assert len(oracle.asked) == asked + 1
    assert not session.reset().mask.any()
    with pytest.raises(ValueError, match="undo needs a round to take back, got none"):
        session.undo()


def test_embeddings_are_kept() -> None:
    oracle, predictor = ready(two_blocks())
    predictor.predict(points=[[12, 11, 13]])
    encoded = oracle.num_encoded
    predictor.predict(points=[[12, 11, 14]])
    assert oracle.num_encoded == encoded
    predictor.set_image((two_blocks().astype(np.float32), RAS))
    predictor.predict(points=[[12, 11, 13]])
    assert oracle.num_encoded == 2 * encoded


def test_a_click_outside_ends_the_object_there() -> None:
    image = block((10, 8, 5), (6, 8, 20))
    _, predictor = ready(image)
    session = predictor.open_session()
    assert session.add_point([12, 11, 10], 1).mask[..., 24].any()
    cut = session.add_point([12, 11, 15], 0).mask
    np.testing.assert_array_equal(np.flatnonzero(cut.any((0, 1))), np.arange(5, 15))


def test_a_slice_of_which_only_the_outside_is_known_is_not_asked() -> None:
    oracle, predictor = ready(block((10, 8, 5), (6, 8, 20)))
    session = predictor.open_session(grow=False)
    session.add_points([[12, 11, 10], [12, 11, 18]], [1, 0])
    assert len(oracle.asked) == 1


@pytest.mark.parametrize("axis", AXES)
def test_a_box_is_the_same_on_every_slice_and_nothing_beyond(axis: Axis) -> None:
    image = block((4, 4, 4), (20, 20, 24))
    affine = AFFINES["permuted, oblique"]
    oracle, predictor = ready(image, affine, axis=axis)
    box = np.array([[6, 7, 8], [12, 13, 15]])
    prediction = predictor.predict(box=box)
    inside = np.zeros_like(image)
    inside[6:13, 7:14, 8:16] = 1
    np.testing.assert_array_equal(prediction.mask, inside)
    turned = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax(1)
    length = (7, 7, 8)[turned[axis_order(axis)[0]]]
    assert prediction.num_windows == len(oracle.asked) == length


def test_another_box_takes_the_place_of_the_first() -> None:
    oracle, predictor = ready(block((4, 4, 4), (20, 20, 24)))
    session = predictor.open_session()
    session.set_box([[6, 7, 8], [12, 13, 15]])
    session.add_point([9, 9, 10], 1)
    found = session.set_box([[6, 7, 20], [12, 13, 21]]).mask
    # On the slice of the click the object is as the click alone has it.
    assert np.flatnonzero(found.any((0, 1))).tolist() == [10, 20, 21]
    assert found[..., 10].sum() == 400
    assert found[..., 20].sum() == 49
    assert oracle.asked[-3].box is None
    assert session.undo().mask[..., 12].sum() == 49


def test_boxes_of_slices_have_a_margin_in_the_networks_pixels() -> None:
    oracle, predictor = ready(two_blocks())
    session = predictor.open_session(grow=False)
    boxes = np.array([[[10, 8, 13], [15, 15, 13]], [[0, 8, 15], [15, 15, 15]]])
    found = session.set_slice_boxes(boxes, margin=9.0)
    expected = np.array([[10, 8, 15, 15], [0, 8, 15, 15]]) * SCALE + [-9, -9, 9, 9]
    expected[1, 0] = 0  # boxes end where the slice does
    np.testing.assert_allclose([asked.box for asked in oracle.asked], expected, rtol=1e-6)
    assert np.flatnonzero(found.mask.any((0, 1))).tolist() == [13, 15]
    with pytest.raises(ValueError, match="slice boxes must be at least one, got none"):
        session.set_slice_boxes(np.zeros((0, 2, 3)))


def test_a_mask_marks_its_slices_by_box_and_logits() -> None:
    image = two_blocks()
    oracle, predictor = ready(image)
    mask = np.zeros_like(image)
    mask[11:14, 9:12, 12:14] = 1
    found = predictor.open_session(grow=False).set_mask(mask)
    assert np.flatnonzero(found.mask.any((0, 1))).tolist() == [12, 13]
    asked = oracle.asked[0]
    np.testing.assert_allclose(asked.box, np.array([11, 9, 13, 11]) * SCALE, rtol=1e-6)
    assert asked.mask is not None
    marked = (asked.mask[0, 0] > 0).nonzero()  # rows and columns, of four pixels as one
    assert marked.amin(0).tolist() == [9, 11]
    assert marked.amax(0).tolist() == [11, 13]


def test_an_object_that_jumps_in_area_is_not_followed() -> None:
    image = block((14, 12, 10), (4, 4, 5)) + block((6, 4, 15), (18, 18, 5))
    _, predictor = ready(image)
    session = predictor.open_session()
    found = session.add_point([15, 13, 12], 1).mask
    # The box lets through less than four times the area, so the neighbour's part in it is taken.
    assert found[..., 15].sum() <= 4 * found[..., 14].sum()
    tiny = block((14, 12, 10), (8, 8, 5)) + block((14, 12, 15), (3, 3, 5))
    _, predictor = ready(tiny)
    found = predictor.predict(points=[[15, 13, 12]]).mask
    np.testing.assert_array_equal(np.flatnonzero(found.any((0, 1))), np.arange(10, 15))


def test_two_clicked_slices_meet_half_way() -> None:
    oracle, predictor = ready(block((10, 8, 4), (6, 8, 21)))
    prediction = predictor.predict(points=[[12, 11, 4], [12, 11, 24]])
    np.testing.assert_array_equal(prediction.mask, block((10, 8, 4), (6, 8, 21)))
    assert len(oracle.asked) == 21 + 2  # no slice twice; one beyond either end


def test_an_own_spacing_is_undone() -> None:
    image = block((6, 6, 8), (18, 14, 16))
    affine = AFFINES["thick slices"]
    _, predictor = ready(image, affine, spacing=(1.0, 1.0, 2.5))
    found = predictor.predict(points=[[15, 13, 16]])
    assert predictor.scan.grid().shape[2] > 60
    overlap = 2 * (found.mask * image).sum() / (found.mask.sum() + image.sum())
    assert overlap > 0.97


def test_several_objects_and_files(tmp_path: Path) -> None:
    _, predictor = ready(two_blocks(), AFFINES["LPS, anisotropic"])
    first, second = predictor.predict_objects(
        [ObjectPrompts(points=[[12, 11, 13]]), ObjectPrompts(points=[[22, 20, 6]])]
    )
    np.testing.assert_array_equal(first.mask + second.mask, two_blocks())
    first.save(tmp_path / "mask.nii.gz")
    written = read_volume(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(written.data[0], first.mask)
    np.testing.assert_allclose(written.affine, AFFINES["LPS, anisotropic"], atol=1e-5)


def test_the_predictors_own_session_goes_on() -> None:
    _, predictor = ready(two_blocks(), propagate=False)
    assert predictor.add_point([12, 11, 13]).num_windows == 1
    assert predictor.add_point([12, 11, 14]).num_windows == 2
    assert predictor.undo().num_windows == 1
    assert predictor.reset().num_windows == 0


def test_mistakes_are_told() -> None:
    oracle = SliceOracle()
    with pytest.raises(ValueError, match="unknown feeding 'x'; known: sam, sam_med2d, medsam"):
        slice_predictor(oracle, feeding="x")
    with pytest.raises(ValueError, match="axis must be one of axial, coronal, sagittal, got 'x'"):
        slice_predictor(oracle, axis="x")
    with pytest.raises(ValueError, match="unknown intensity preset 'x'"):
        slice_predictor(oracle, intensity="x")
    with pytest.raises(ValueError, match="set_image must give the predictor a scan first"):
        slice_predictor(oracle).open_session()
    _, predictor = ready(7 * two_blocks())
    with pytest.raises(ValueError, match=r"grey from 0 to 1, as .* got 0 to 7"):
        predictor.predict(points=[[12, 11, 13]])
    with pytest.raises(ValueError, match="a prompt must say where the object is"):
        predictor.predict(points=[[12, 11, 13]], labels=[0])


def test_a_blank_scan_holds_nothing() -> None:
    _, predictor = ready(np.zeros(SHAPE))
    prediction = predictor.predict(points=[[12, 11, 13]])
    assert not prediction.mask.any()
    assert prediction.logits.max() < 0
    assert torch.isfinite(torch.from_numpy(prediction.logits)).all()
