"""The interactive protocol, with predictors whose answers are known."""

import itertools

import pytest
import torch
from torch import Tensor

from neurosam3d.evaluation.protocol import run_clicks
from neurosam3d.prompts import Prompts

SHAPE = (6, 8, 10)


def _truth() -> Tensor:
    truth = torch.zeros(2, 1, *SHAPE, dtype=torch.bool)
    truth[0, 0, 1:4, 2:6, 3:8] = True
    truth[1, 0, 2:5, 1:3, 0:9] = True
    return truth


class PaintingPredictor:
    """Answers with a 3-voxel cube of foreground around every positive click, and keeps count."""

    def __init__(self, truth: Tensor) -> None:
        self.truth = truth
        self.asked: list[Prompts] = []

    def __call__(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        self.asked.append(prompts)
        assert prompts.points is not None
        assert prompts.labels is not None
        logits = torch.full(self.truth.shape, -1.0)
        for item, points in enumerate(prompts.points.long()):
            for (d, h, w), label in zip(points.tolist(), prompts.labels[item], strict=True):
                if label == 1:
                    near = tuple(slice(max(i - 1, 0), i + 2) for i in (d, h, w))
                    logits[(item, 0, *near)] = 1.0
        logits[~self.truth] = -1.0
        return logits, torch.full((2, 1, 3, 3, 3), float(len(self.asked)))


def test_clicks_accumulate_and_low_res_logits_are_handed_back() -> None:
    truth = _truth()
    predictor = PaintingPredictor(truth)
    generator = torch.Generator().manual_seed(0)
    rounds = run_clicks(predictor, truth, num_clicks=4, method="random", generator=generator)
    assert [entry.clicks for entry in rounds] == [1, 2, 3, 4]
    assert predictor.asked[0].mask is None
    for number, asked in enumerate(predictor.asked[1:], start=1):
        assert asked.mask is not None
        assert (asked.mask == number).all()
        earlier = predictor.asked[number - 1].points
        assert asked.points is not None
        assert earlier is not None
        assert torch.equal(asked.points[:, :-1], earlier)
    for entry, asked in zip(rounds, predictor.asked, strict=True):
        assert entry.prompts.points is asked.points
        assert entry.prompts.labels is asked.labels
        assert entry.prompts.mask is None


def test_each_click_falls_on_the_error_of_the_round_before() -> None:
    truth = _truth()
    generator = torch.Generator().manual_seed(1)
    rounds = run_clicks(
        PaintingPredictor(truth), truth, num_clicks=5, method="random", generator=generator
    )
    for before, after in itertools.pairwise(rounds):
        assert after.prompts.points is not None
        for item, (d, h, w) in enumerate(after.prompts.points[:, -1].long().tolist()):
            assert truth[item, 0, d, h, w]
            assert not before.prediction[item, 0, d, h, w]
        assert (after.dice > before.dice).all()


def test_dice_is_that_of_logits_above_zero() -> None:
    truth = _truth()

    def predict(prompts: Prompts) -> tuple[Tensor, Tensor]:
        logits = torch.where(truth, 0.3, -0.3)  # below a threshold of one half
        logits[1] = 0.0
        return logits, logits

    (only,) = run_clicks(predict, truth, num_clicks=1)
    assert only.dice.tolist() == [1.0, 0.0]
    assert torch.equal(only.prediction[0], truth[0])
    assert only.seconds >= 0


def test_a_perfect_item_gets_no_further_click_and_stays_in_the_batch() -> None:
    truth = _truth()

    def predict(prompts: Prompts) -> tuple[Tensor, Tensor]:
        logits = torch.where(truth, 1.0, -1.0)
        logits[1] = -1.0
        return logits, logits

    rounds = run_clicks(predict, truth, num_clicks=3, method="ritm")
    assert rounds[-1].prompts.labels is not None
    assert rounds[-1].prompts.labels.tolist() == [[1, -1, -1], [1, 1, 1]]
    assert rounds[-1].dice.tolist() == [1.0, 0.0]


def test_no_gradient_is_recorded() -> None:
    truth, weight = _truth(), torch.ones(1, requires_grad=True)

    def predict(prompts: Prompts) -> tuple[Tensor, Tensor]:
        logits = weight * torch.where(truth, 1.0, -1.0)
        assert not logits.requires_grad
        return logits, logits

    assert len(run_clicks(predict, truth, num_clicks=1)) == 1


def test_wrong_arguments_are_named() -> None:
    truth = _truth()
    with pytest.raises(ValueError, match="num_clicks must be at least 1, got 0"):
        run_clicks(PaintingPredictor(truth), truth, num_clicks=0)
    with pytest.raises(ValueError, match="logits must have the truth's shape"):
        run_clicks(lambda _: (torch.zeros(2, 1, 3, 3, 3),) * 2, truth, num_clicks=1)
