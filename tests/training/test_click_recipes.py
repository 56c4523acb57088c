"""How many clicks fall where, for every item of a batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosam3d.training.click_recipes import draw_clicks

SHAPE = (3, 1, 5, 6, 7)


@pytest.fixture
def truth() -> Tensor:
    """Return a block of 24 voxels, a pair of voxels, and nothing."""
    truth = torch.zeros(SHAPE, dtype=torch.bool)
    truth[0, 0, 1:3, 2:5, 3:7] = True
    truth[1, 0, 4, 5, [0, 6]] = True
    return truth


def draw(truth: Tensor, recipe: Any, seed: int = 1, **numbers: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return draw_clicks(truth, recipe=recipe, generator=generator, **numbers)


def at(truth: Tensor, points: Tensor) -> Tensor:
    """Read the truth (B, N) at points (B, N, 3)."""
    d, h, w = points.long().unbind(-1)
    return truth[torch.arange(len(truth))[:, None], 0, d, h, w]


def test_published_clicks_lie_on_the_object_and_anywhere(truth: Tensor) -> None:
    points, labels = draw(truth, "published", num_positive=200, num_negative=400)
    assert points.shape == (3, 600, 3)
    assert at(truth, points)[:2, :200].all()
    assert (labels[2, :200] == -1).all()
    assert not points[2, :200].any()
    rest = at(truth, points)[:, 200:]
    assert rest[0].float().mean().item() == pytest.approx(24 / 210, abs=0.05)  # some are on it
    assert torch.equal(labels[:, 200:], rest.long())
    assert points[0, 200:].unique(dim=0).shape[0] > 150  # of 210 voxels; some come twice


def test_published_clicks_without_others_lie_anywhere_if_there_is_no_object(truth: Tensor) -> None:
    points, labels = draw(truth, "published", num_positive=300, num_negative=0)
    assert at(truth, points)[:2].all()
    assert labels.tolist() == [[1] * 300, [1] * 300, [0] * 300]
    assert points[2].unique(dim=0).shape[0] > 130


def test_corrected_clicks_know_the_background_and_repeat_none(truth: Tensor) -> None:
    points, labels = draw(truth, "corrected", num_positive=24, num_negative=186)
    assert labels[:2].tolist() == [[1] * 24 + [0] * 186] * 2
    assert torch.equal(at(truth, points)[:2], labels[:2] > 0)
    assert points[0].unique(dim=0).shape[0] == 210  # every voxel of the crop once
    pair = points[1, :24].unique(dim=0, return_counts=True)
    assert pair[0].tolist() == [[4, 5, 0], [4, 5, 6]]
    assert pair[1].tolist() == [12, 12]
    assert labels[2].tolist() == [-1] * 24 + [0] * 186


@pytest.mark.parametrize("recipe", ["published", "corrected"])
def test_clicks_follow_from_the_generator(truth: Tensor, recipe: str) -> None:
    numbers = {"num_positive": 4, "num_negative": 5}
    first = draw(truth, recipe, **numbers)[0]
    assert draw(truth, recipe, **numbers)[0].equal(first)
    assert not draw(truth, recipe, seed=2, **numbers)[0].equal(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "fair"}, "unknown click_recipe 'fair'; known: published, corrected"),
        ({"num_positive": 0}, "num_positive must be at least 1 and num_negative at least 0, got 0"),
        ({"num_negative": -1}, "got 3 and -1"),
    ],
)
def test_wrong_recipes_are_refused(truth: Tensor, change: dict[str, Any], message: str) -> None:
    options = {"recipe": "corrected", "num_positive": 3, "num_negative": 3, **change}
    with pytest.raises(ValueError, match=message):
        draw(truth, **options)
