"""The protocols of one object: where clicks fall, what the predictor is told, what comes out."""

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from neurosam3d.evaluation.protocol import (
    NAMES,
    POINT_METHODS,
    InteractiveProtocol,
    Step,
    next_click,
)
from neurosam3d.prompts import CLICK_METHODS, sample_clicks
from neurosam3d.volume import Grid
from tests.evaluation.scans import AFFINES, SHAPE, block
from tests.inference.oracle import Oracle, ellipsoid, oracle_predictor

GRID = Grid(SHAPE, np.diag([-0.8, -1.2, 3.0, 1.0]))


class Scripted:
    """A predictor that gives the masks of a list, one per click, and keeps what it was asked."""

    def __init__(self, masks: Sequence[np.ndarray], roi: Grid | None = None) -> None:
        self.masks, self.roi = list(masks), roi
        self.opened: list[dict[str, Any]] = []
        self.clicks: list[tuple[list[int], int]] = []

    def set_image(self, image: object) -> None:
        raise AssertionError("the protocol leaves the scan alone")

    def open_session(self, **options: Any) -> "Scripted":
        self.opened.append(options)
        return self

    def add_point(self, point: Sequence[float], label: int) -> SimpleNamespace:
        self.clicks.append(([int(index) for index in point], label))
        mask = self.masks[len(self.clicks) - 1].astype(np.uint8)
        return SimpleNamespace(mask=mask, seconds={"decode": 0.5}, num_windows=2)


def play(predictor: Any, truth: np.ndarray, **options: Any) -> list[Step]:
    protocol = InteractiveProtocol(**{"num_clicks": 3, **options})
    generator = protocol.generator("data", "Ts", "organ", "scan")
    grid = Grid(truth.shape, GRID.affine)
    return list(protocol.play(predictor, truth > 0, grid=grid, generator=generator))


# Clicks


@pytest.mark.parametrize("method", CLICK_METHODS)
def test_the_box_around_the_error_changes_no_draw(method: str) -> None:
    source = torch.Generator().manual_seed(4)
    truth = torch.zeros(1, 1, 14, 22, 17, dtype=torch.bool)
    truth[0, 0, 4:9, 11:17, 3:8] = torch.rand(5, 6, 5, generator=source) < 0.9
    prediction = torch.zeros_like(truth)
    prediction[0, 0, 6:11, 9:15, 5:9] = torch.rand(5, 6, 4, generator=source) < 0.9
    spacing = (0.8, 1.2, 3.0)
    for seed in range(8):
        whole = sample_clicks(
            truth,
            prediction,
            method=method,
            generator=torch.Generator().manual_seed(seed),
            spacing=spacing,
        )
        point, label = next_click(
            truth[0, 0].numpy(),
            prediction[0, 0].numpy(),
            method=method,
            spacing=spacing,
            generator=torch.Generator().manual_seed(seed),
        )
        assert (point.tolist(), label) == (whole[0][0, 0].tolist(), int(whole[1]))


def test_a_click_stays_in_its_region() -> None:
    truth = block((2, 3, 4), (20, 20, 25)) > 0
    region = np.array([[19, 20, 22], [24, 25, 30]])
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        point, label = next_click(
            truth,
            np.zeros_like(truth),
            method="random",
            spacing=GRID.spacing,
            generator=generator,
            region=region,
        )
        assert label == 1
        assert truth[tuple(point)]
        assert (point >= region[0]).all()
        assert (point <= region[1]).all()


def test_depth_is_measured_in_millimetres() -> None:
    # One slice of 30 mm, in which the middle is 5 x 0.8 mm deep, and a ball of voxels 2 deep.
    truth = block((4, 4, 10), (9, 9, 1)) + block((20, 14, 20), (4, 4, 4)) > 0

    def click(spacing: tuple[float, float, float]) -> list[int]:
        nothing = np.zeros_like(truth)
        generator = torch.Generator().manual_seed(0)
        return next_click(truth, nothing, method="ritm", spacing=spacing, generator=generator)[
            0
        ].tolist()

    d, h, w = click((0.8, 0.8, 30.0))
    assert 6 <= d <= 10
    assert 6 <= h <= 10
    assert w == 10
    assert click((1.0, 1.0, 1.0))[0] >= 20


@pytest.mark.parametrize(
    ("method", "rules"),
    [
        ("default", ["ritm", "ritm", "random", "random"]),
        ("largest", ["largest", "random", "random", "random"]),
        ("ritm", ["ritm"] * 4),
        ("random", ["random"] * 4),
    ],
)
def test_each_click_follows_its_rule(
    method: str, rules: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def spy(*masks: Any, method: str, **options: Any) -> Any:
        used.append(method)
        return sample_clicks(*masks, method=method, **options)

    monkeypatch.setattr("neurosam3d.evaluation.protocol.sample_clicks", spy)
    truth = block()
    play(Scripted([block(shape=(2, 3, 3))] * 4), truth, num_clicks=4, point_method=method)
    assert used == rules


def test_clicks_accumulate_and_fall_on_the_error_left() -> None:
    truth = block()
    masks = [block(shape=(3, 8, 5)), block(shape=(8, 8, 5)), truth]
    predictor = Scripted(masks)
    steps = play(predictor, truth, point_method="random")
    assert [step.clicks for step in steps] == [1, 2, 3]
    assert [label for _, label in predictor.clicks] == [1, 1, 0]
    for before, after in itertools.pairwise(steps):
        assert (after.points[:-1] == before.points).all()
        assert before.mask[tuple(after.points[-1])] != truth[tuple(after.points[-1])]
    np.testing.assert_array_equal(steps[-1].points, [point for point, _ in predictor.clicks])
    assert steps[1].seconds == {"decode": 0.5}
    assert steps[1].num_windows == 2


def test_a_perfect_mask_is_not_clicked_again() -> None:
    truth = block()
    predictor = Scripted([truth])
    steps = play(predictor, truth)
    assert len(predictor.clicks) == 1
    assert steps[2].labels.tolist() == [1, -1, -1]
    assert steps[2].seconds == {}
    np.testing.assert_array_equal(steps[2].mask, truth)


# What the predictor is told


def test_prompt_roi_tells_nothing_but_the_clicks() -> None:
    predictor = Scripted([block()] * 3)
    play(predictor, block())
    assert predictor.opened == [{}]


def test_oracle_roi_lies_on_the_middle_of_the_truth_and_does_not_grow() -> None:
    predictor = Scripted([block()] * 3)
    play(predictor, block((10, 8, 12), (6, 9, 5)), name="oracle_roi")
    assert predictor.opened == [{"roi_center": [12.5, 12.0, 14.0], "grow": False}]


def test_clicks_of_oracle_roi_fall_inside_it() -> None:
    truth = block((2, 2, 2), (26, 22, 30))
    # A window of 1 x 2 x 3 mm voxels whose axes run the other way: voxels 8-15, 10-14 and 12-19.
    flipped = np.diag([1.0, 2.0, 3.0, 1.0])
    flipped[:3, 3] = -0.8 * 15.25, -1.2 * 14.0, 3.0 * 12
    roi = Grid((6, 3, 8), flipped)
    predictor = Scripted([np.zeros(SHAPE)] * 40, roi)
    steps = play(predictor, truth, name="oracle_roi", point_method="random", num_clicks=40)
    found = steps[-1].points
    assert found.min(0).tolist() == [9, 10, 12]
    assert found.max(0).tolist() == [15, 14, 19]


def test_the_generator_depends_on_seed_repeat_and_names_alone() -> None:
    def draw(seed: int, *names: str, repeat: int = 0) -> int:
        generator = InteractiveProtocol(seed=seed).generator(*names, repeat=repeat)
        return int(torch.randint(2**62, (), generator=generator))

    assert draw(7, "a", "b") == draw(7, "a", "b")
    assert draw(7, "a", "b", repeat=2) == draw(9, "a", "b")
    assert len({draw(7, "a", "b"), draw(8, "a", "b"), draw(7, "ab", ""), draw(7, "b", "a")}) == 4


# Together with the real predictor


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_predictor_that_sees_the_truth_is_exactly_right(name: str, affine: np.ndarray) -> None:
    truth = ellipsoid(SHAPE, centre=(13, 12, 19), radii=(5, 6, 7))
    predictor = oracle_predictor(Oracle())
    predictor.set_image((truth.astype(np.float32), affine))
    protocol = InteractiveProtocol(name, 2)
    generator = protocol.generator(name)
    steps = list(protocol.play(predictor, truth > 0, grid=Grid(SHAPE, affine), generator=generator))
    for step in steps:
        np.testing.assert_array_equal(step.mask, truth)


def test_only_prompt_roi_sees_beyond_its_first_window() -> None:
    truth = block((3, 3, 3), (24, 20, 28))  # the window holds 16 x 20 x 18 voxels
    found = {}
    for name in NAMES:
        predictor = oracle_predictor(Oracle())
        predictor.set_image((truth.astype(np.float32), GRID.affine))
        (step,) = play(predictor, truth, name=name, num_clicks=1)
        found[name] = step
    np.testing.assert_array_equal(found["prompt_roi"].mask, truth)
    assert found["oracle_roi"].mask.sum() == 16 * 20 * 18
    assert found["oracle_roi"].num_windows == 1


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "union"}, "unknown protocol 'union'; known: oracle_roi, prompt_roi"),
        ({"point_method": "best"}, "unknown point_method 'best'; known: default, ritm, random"),
        ({"num_clicks": 0}, "num_clicks must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InteractiveProtocol(**options)


def test_every_rule_is_a_known_click_method() -> None:
    assert {rule for rules in POINT_METHODS.values() for rule in rules} <= set(CLICK_METHODS)


def test_what_cannot_be_played_is_named() -> None:
    with pytest.raises(ValueError, match="needs at least one voxel to be clicked"):
        play(Scripted([]), np.zeros(SHAPE))
    with pytest.raises(ValueError, match=r"the predictor's mask must be on the scan's grid"):
        play(Scripted([np.zeros((3, 4, 5))]), block())
    protocol = InteractiveProtocol()
    rounds = protocol.play(
        Scripted([]), block() > 0, grid=Grid((3, 4, 5), np.eye(4)), generator=torch.Generator()
    )
    with pytest.raises(ValueError, match=r"the truth must be on the scan's grid \(3, 4, 5\)"):
        next(rounds)
