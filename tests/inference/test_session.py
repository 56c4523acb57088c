"""Rounds about one object: what a window is asked, what is kept, what is taken back."""

import numpy as np
import pytest
import torch
from torch import Tensor

from neurosam3d.inference import ObjectPrompts, Predictor
from neurosam3d.volume import Volume
from tests.inference.oracle import Oracle, ellipsoid, oracle_predictor

SIDE = 16
BALL = ellipsoid((30, 26, 22), centre=(14, 12, 10), radii=(5, 4, 6))


class Talkative(Oracle):
    """Its answer changes with the round: the mask prompt comes back, one added to it."""

    def __init__(self) -> None:
        super().__init__()
        decoder = self.mask_decoder

        def forward(**inputs: Tensor | bool) -> tuple[Tensor, Tensor]:
            dense = inputs["dense_prompt_embeddings"]
            assert isinstance(dense, Tensor)
            return dense + 1, torch.zeros(len(dense), 1)

        decoder.forward = forward  # type: ignore[method-assign]


def predictor_of(
    truth: np.ndarray, oracle: Oracle, *, affine: np.ndarray | None = None, **options: object
) -> Predictor:
    predictor = oracle_predictor(oracle, **{"roi_size": SIDE, **options})
    predictor.set_image((truth.astype(np.float32), np.eye(4) if affine is None else affine))
    return predictor


def test_round_gives_all_points_and_the_windows_own_logits() -> None:
    oracle = Talkative()
    session = predictor_of(np.zeros((SIDE,) * 3), oracle).open_session()
    for number, label in enumerate((1, 0, 1), 1):
        prediction = session.add_point([number, 2, 3], label)
        assert (prediction.logits == number).all()
    assert oracle.num_encoded == 1
    for number, asked in enumerate(oracle.asked, 1):
        assert asked.points is not None
        assert asked.labels is not None
        assert asked.mask is not None
        assert asked.points.tolist() == [[[n, 2, 3] for n in range(1, number + 1)]]
        assert asked.labels.tolist() == [[1, 0, 1][:number]]
        assert (asked.mask == number - 1).all()


def test_undo_goes_back_without_encoding() -> None:
    oracle = Talkative()
    session = predictor_of(np.zeros((40, 20, 18)), oracle).open_session()
    session.add_point([20, 10, 9], 1)
    before = session.add_point([21, 10, 9], 1)
    after = session.add_point([20, 12, 9], 0)
    encoded = oracle.num_encoded
    assert encoded > 1  # it has grown
    undone = session.undo()
    np.testing.assert_array_equal(undone.logits, before.logits)
    assert not np.array_equal(undone.logits, after.logits)
    np.testing.assert_array_equal(session.add_point([20, 12, 9], 0).logits, after.logits)
    assert oracle.num_encoded == encoded
    session.undo(), session.undo(), session.undo()
    with pytest.raises(ValueError, match="undo needs a round to take back, got none"):
        session.undo()


def test_reset_and_full_undo_give_the_empty_prediction() -> None:
    session = predictor_of(BALL, Oracle()).open_session()
    session.add_point([14, 12, 10], 1)
    for empty in (session.undo(), session.reset()):
        assert empty.mask.sum() == 0
        assert (empty.logits < 0).all()
        assert empty.num_windows == 0
        assert empty.roi is None
        assert empty.is_quiet
    assert session.add_point([14, 12, 10], 1).mask.sum() == BALL.sum()


def test_windows_without_the_new_point_keep_their_answer() -> None:
    oracle = Talkative()
    session = predictor_of(np.zeros((2 * SIDE, SIDE, SIDE)), oracle).open_session()
    session.add(ObjectPrompts(points=[[8, 8, 8], [24, 8, 8]]))
    prediction = session.add_point([25, 8, 8], 0)
    assert (prediction.logits[:16] == 1).all()
    assert (prediction.logits[16:] == 2).all()
    assert len(oracle.asked) == 3


def test_grown_window_becomes_one_of_the_prompted_when_it_is_clicked() -> None:
    oracle = Oracle()
    truth = np.zeros((50, SIDE, SIDE), dtype=np.uint8)
    truth[6:24, 6:9, 6:9] = 1
    predictor = predictor_of(truth, oracle)
    session = predictor.open_session()
    session.add_point([9, 7, 7], 1)  # window 1 to 16, and half a window further 9 to 24
    assert len(oracle.asked) == 2
    session.add_point([22, 7, 7], 1)  # only in the second one
    assert len(oracle.asked) == 3
    asked = oracle.asked[2]
    assert asked.points is not None
    assert asked.points.tolist() == [[[0, 7, 7], [13, 7, 7]]]
    assert asked.mask is not None
    assert torch.equal(asked.mask, torch.where(asked.mask > 0, 6.0, -6.0))  # its own answer
    assert (asked.mask > 0).sum() == 15 * 9


def test_cache_limit_costs_encodings_but_changes_nothing() -> None:
    counts, masks = [], []
    truth = np.zeros((50, SIDE, SIDE), dtype=np.uint8)
    truth[6:40, 6:9, 6:9] = 1
    for cache_bytes in (2**30, 0):
        oracle = Oracle()
        session = predictor_of(truth, oracle, cache_bytes=cache_bytes).open_session()
        for point in ([12, 7, 7], [30, 7, 7], [22, 7, 7]):
            mask = session.add_point(point, 1).mask
        counts.append(oracle.num_encoded)
        masks.append(mask)
    np.testing.assert_array_equal(masks[0], truth)
    np.testing.assert_array_equal(masks[1], truth)
    assert counts[0] < counts[1]


def test_objects_near_each_other_share_an_embedding() -> None:
    oracle = Oracle()
    predictor = predictor_of(np.zeros((60, 40, 40)), oracle)
    objects = [
        ObjectPrompts(points=[[20, 20, 20]]),
        ObjectPrompts(box=[[16, 16, 16], [26, 26, 26]]),
        ObjectPrompts(points=[[50, 20, 20]]),
        ObjectPrompts(points=[[24, 21, 22], [18, 21, 22]], labels=[1, 0]),
    ]
    predictions = predictor.predict_objects(objects)
    assert oracle.num_encoded == 2
    rois = [prediction.roi for prediction in predictions]
    assert all(roi is not None for roi in rois)
    starts = [tuple(roi.affine[:3, 3]) for roi in rois if roi is not None]
    assert starts[0] == starts[1] == starts[3] != starts[2]


def test_explicit_centre_is_padded_not_moved_and_does_not_grow() -> None:
    oracle = Oracle()
    truth = np.zeros((30, 20, 22), dtype=np.uint8)
    truth[0:20, 5:9, 5:9] = 1
    session = predictor_of(truth, oracle).open_session(roi_center=[2, 8, 20], grow=False)
    assert session.roi is not None
    assert session.roi.affine[:3, 3].tolist() == [-6, 0, 12]
    with pytest.raises(ValueError, match=r"points must lie in the window.*got \[5.0, 6.0, 6.0\]"):
        session.add_point([5, 6, 6], 1)
    session = predictor_of(truth, oracle).open_session(roi_center=[2, 8, 8], grow=False)
    prediction = session.add_point([5, 6, 6], 1)
    assert prediction.num_windows == 1
    assert not prediction.is_quiet
    assert prediction.mask[:10].sum() == truth[:10].sum()
    assert prediction.mask[10:].sum() == 0


@pytest.mark.parametrize("takes_boxes", [True, False])
def test_box_inside_one_window(takes_boxes: bool) -> None:
    oracle = Oracle(box_prompts=takes_boxes)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    predictor = predictor_of(BALL, oracle, affine=affine)
    box = [[9, 8, 4], [19, 16, 16]]
    prediction = predictor.predict(box=box)
    np.testing.assert_array_equal(prediction.mask, BALL)
    (asked,) = oracle.asked
    # The first axis is flipped: voxels 9 to 19 of 30 are 10 to 20, their middle 15.
    if takes_boxes:
        assert asked.points is None
        assert asked.box is not None
        assert asked.box.tolist() == [[[3, 4, 2], [13, 12, 14]]]
    else:
        assert asked.box is None
        assert asked.points is not None
        assert asked.points.tolist() == [[[8, 8, 8]]]
        assert asked.labels is not None
        assert asked.labels.tolist() == [[1]]


def test_box_larger_than_a_window_is_seen_from_afar() -> None:
    oracle = Oracle()
    truth = np.zeros((60, 40, 30), dtype=np.uint8)
    truth[10:50, 10:30, 10:20] = 1
    prediction = predictor_of(truth, oracle).predict(box=[[10, 10, 10], [49, 29, 19]])
    np.testing.assert_array_equal(prediction.mask, truth)
    assert prediction.is_quiet
    first = oracle.asked[0]
    assert first.box is not None
    assert (first.box[0, 1] - first.box[0, 0] < SIDE).all()
    cut = [asked.box.tolist() for asked in oracle.asked[1:] if asked.box is not None]
    assert cut == [[[[0, 0, 3], [15, 15, 12]]]]  # the one window that the box's middle lies in


@pytest.mark.parametrize("kind", ["bool", "integer", "float", "logits", "volume"])
def test_mask_prompt(kind: str) -> None:
    oracle = Oracle()
    predictor = predictor_of(BALL, oracle)
    rough = np.zeros_like(BALL)
    rough[11:17, 9:16, 6:14] = 1
    mask = {
        "bool": rough > 0,
        "integer": rough,
        "float": rough.astype(np.float32),
        "logits": np.where(rough, 8.0, -8.0).astype(np.float32),
        "volume": Volume(torch.from_numpy(np.flip(rough, 0).copy())[None], flipped_affine(30)),
    }[kind]
    prediction = predictor.predict(mask=mask)
    np.testing.assert_array_equal(prediction.mask, BALL)
    (asked,) = oracle.asked
    assert asked.points is None
    assert asked.mask is not None
    assert prediction.roi is not None
    start = prediction.roi.affine[:3, 3].astype(int)
    window = tuple(slice(first, first + SIDE) for first in start)
    assert torch.equal(asked.mask[0, 0] > 0, torch.from_numpy(rough[window] > 0))
    assert (asked.mask.abs() >= 8).all()


def flipped_affine(size: int) -> np.ndarray:
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = size - 1
    return affine


def test_mask_larger_than_a_window_leads_the_way() -> None:
    oracle = Oracle()
    truth = ellipsoid((60, 40, 30), centre=(30, 20, 15), radii=(25, 13, 9))
    prediction = predictor_of(truth, oracle, max_windows=60).predict(mask=truth)
    np.testing.assert_array_equal(prediction.mask, truth)
    assert all(asked.mask is not None and (asked.mask != 0).all() for asked in oracle.asked)
    assert prediction.num_windows == len(oracle.asked)


def test_new_mask_takes_the_place_of_earlier_answers() -> None:
    oracle = Talkative()
    session = predictor_of(np.zeros((SIDE,) * 3), oracle).open_session()
    session.add_point([3, 3, 3], 1)
    session.add_point([3, 3, 4], 1)
    prediction = session.set_mask(np.ones((SIDE,) * 3, dtype=bool))
    assert (prediction.logits == 9).all()  # the mask's 8 and one
    asked = oracle.asked[-1].points
    assert asked is not None
    assert asked.tolist() == [[[3, 3, 3], [3, 3, 4]]]  # points stay


def test_world_coordinates_equal_voxels() -> None:
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])
    oracle = Oracle()
    predictor = predictor_of(BALL, oracle, affine=affine)
    voxels = np.array([[14.0, 12, 10], [13, 11, 9]])
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    predictor.predict(points=voxels, labels=[1, 0])
    predictor.predict(points=world, labels=[1, 0], world=True)
    predictor.add_point(world[0], 1, world=True)
    corners = np.array([[9.0, 8, 4], [19, 16, 16]])
    ends = corners @ affine[:3, :3].T + affine[:3, 3]
    predictor.predict(box=corners)
    predictor.predict(box=np.stack([ends.min(axis=0), ends.max(axis=0)]), world=True)
    first, second, third, box, world_box = oracle.asked
    assert first.points is not None
    assert second.points is not None
    assert third.points is not None
    assert torch.equal(first.points, second.points)
    assert third.points.shape == (1, 1, 3)
    assert box.box is not None
    assert world_box.box is not None
    torch.testing.assert_close(box.box, world_box.box)


def test_thick_slices_reach_as_deep_as_they_are() -> None:
    """A box of one slice of 6 mm holds four voxels of 1.5 mm, not one."""
    oracle = Oracle()
    scan = np.zeros((60, 50, 8), dtype=np.uint8)
    scan[20:40, 20:35, 3:5] = 1
    affine = np.diag([0.8, 0.8, 6.0, 1.0])
    predictor = predictor_of(scan, oracle, affine=affine, spacing=(1.5,) * 3, roi_size=24)
    mask = predictor.predict(box=[[20, 20, 3], [39, 34, 3]]).mask
    box = oracle.asked[0].box
    assert box is not None
    depths = (box[0, 1] - box[0, 0] + 1).tolist()
    assert depths == pytest.approx([20 * 0.8 / 1.5, 15 * 0.8 / 1.5, 6 / 1.5])
    assert 2 * (mask * scan).sum() / (mask.sum() + scan.sum()) > 0.9
    assert (mask[25:35, 25:30].any(axis=(0, 1)) == scan.any(axis=(0, 1))).all()
