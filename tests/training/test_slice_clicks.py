"""Objects, points and boxes on slices: where they may lie, and how often they do."""

import torch
from torch import Tensor

from neurosam3d.training.slice_clicks import draw_objects, draw_points, find_boxes, move_sides


def dice_box(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def label_map() -> Tensor:
    """Two slices of 12 x 12: the first has the classes 1 and 3, the second none."""
    label = torch.zeros(2, 1, 12, 12, dtype=torch.uint8)
    label[0, 0, 2:4, 5:11] = 1
    label[0, 0, 9, 1] = 3
    return label


def test_objects_are_all_of_one_class_and_small_ones_come_as_often() -> None:
    label = label_map()
    objects = draw_objects(label, 400, num_classes=3, generator=dice_box())
    assert (objects.shape, objects.dtype) == ((800, 1, 12, 12), torch.uint8)
    values = objects[:400].flatten(1).amax(1)
    for value in (1, 3):
        expected = label[:1] * (label[:1] == value)
        assert (objects[:400][values == value] == expected).all()
        assert 170 < (values == value).sum() < 230
    assert not objects[400:].any()


def test_points_lie_on_errors_and_say_of_which_kind() -> None:
    truth = torch.zeros(3, 1, 6, 9, dtype=torch.bool)
    prediction = truth.clone()
    truth[0, 0, 1, 7] = truth[0, 0, 4, 2] = prediction[0, 0, 4, 2] = True  # one of two was found
    prediction[1, 0, 5, 0:4] = True  # four were added
    truth[2] = prediction[2] = True  # nothing is wrong
    points, labels = draw_points(truth, prediction, 200, generator=dice_box())
    assert points[0].unique(dim=0).tolist() == [[7, 1]]  # column, row
    assert points[1].unique(dim=0).tolist() == [[0, 5], [1, 5], [2, 5], [3, 5]]
    assert points[2].unique().tolist() == [0]
    assert labels.unique(dim=1).flatten().tolist() == [1, 0, -1]
    assert points[1, :, 0].long().bincount().min() > 30  # of 200: none is favoured


def test_boxes_are_tight_columns_first_and_both_corners_belong() -> None:
    boxes = find_boxes(label_map() == 1)
    assert boxes.tolist() == [[5, 2, 10, 3], [0, 0, 11, 11]]


def test_sides_move_within_their_reach_and_stay_in_the_slice() -> None:
    boxes = torch.tensor([[10.0, 20, 30, 26], [1, 2, 60, 62]]).repeat(500, 1)
    inwards = torch.tensor([[3.0], [0]]).repeat(500, 1)
    moved = move_sides(boxes, inwards=inwards, outwards=4.0, side=64, generator=dice_box())
    first, second = moved[::2], moved[1::2]
    low, high = torch.tensor([6.0, 16, 27, 23]), torch.tensor([13.0, 23, 34, 30])
    assert ((first >= low) & (first <= high)).all()
    assert (first.amin(0) - low).max() < 0.1
    assert (high - first.amax(0)).max() < 0.1
    assert (first[:, 2:] - first[:, :2]).std(0).min() > 1  # a shift of both would keep the size
    assert second.amin(0).tolist()[:2] == [0, 0]
    assert second.amax(0).tolist()[2:] == [63, 63]
    assert (second[:, :2] <= torch.tensor([1.0, 2])).all()


def test_a_seed_draws_the_same_again() -> None:
    truth = label_map() > 0
    empty = torch.zeros_like(truth)
    first = draw_points(truth, empty, 5, generator=dice_box())
    again = draw_points(truth, empty, 5, generator=dice_box())
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    other = draw_points(truth, empty, 5, generator=dice_box(6))
    assert not torch.equal(first[0], other[0])
