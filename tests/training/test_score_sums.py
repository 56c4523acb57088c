import math

import pytest
import torch
from torch import Tensor

from neurosam3d.training.score_sums import ScoreSums

SHAPE = (2, 1, 3, 4, 5)


def label_maps() -> tuple[Tensor, Tensor]:
    """Return a prediction and a truth of two items; only the first item has class 2."""
    truth = torch.zeros(SHAPE, dtype=torch.uint8)
    truth[:, :, 0] = 1
    truth[0, :, 1] = 2
    prediction = truth.clone()
    prediction[0, :, 1, :2] = 0  # half of class 2
    prediction[1, :, 1] = 1  # class 1 twice as large
    prediction[1, :, 2, 0, 0] = 2  # a class that is not there
    return prediction, truth


def test_means_are_over_items_and_the_classes_that_they_have() -> None:
    sums = ScoreSums(["ball", "rod", "cube"])
    prediction, truth = label_maps()
    sums.add(torch.tensor(0.5), prediction, truth)
    sums.add(torch.tensor(2.0), truth[1:], truth[1:])
    means = sums.close(lambda totals: totals)
    ball, rod = [1, 2 / 3, 1], [2 / 3]
    assert means == pytest.approx(
        {
            "loss": (2 * 0.5 + 2.0) / 3,
            "dice": sum(ball + rod) / 4,
            "dice_ball": sum(ball) / 3,
            "dice_rod": rod[0],
        }
    )


def test_processes_are_added_up_before_the_mean() -> None:
    first, second = ScoreSums(["ball", "rod"]), ScoreSums(["ball", "rod"])
    prediction, truth = label_maps()
    first.add(torch.tensor(1.0), prediction, truth)
    second.add(torch.tensor(4.0), truth[1:], truth[1:])
    kept = {}
    second.close(lambda totals: kept.setdefault("totals", totals))
    means = first.close(lambda totals: totals + kept["totals"])
    assert means["loss"] == pytest.approx(2)
    assert means["dice_ball"] == pytest.approx((1 + 2 / 3 + 1) / 3)


def test_an_epoch_does_not_see_the_one_before() -> None:
    sums = ScoreSums(["ball"])
    _, truth = label_maps()
    sums.add(torch.tensor(1.0), truth, truth)
    sums.close(lambda totals: totals)
    means = sums.close(lambda totals: totals)
    assert set(means) == {"loss", "dice"}
    assert math.isnan(means["dice"])
