"""3DSAM-adapter's protocol: which voxels are clicked, and in which windows the network looks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosam3d.evaluation.adapter3d_protocol import (
    Adapter3DProtocol,
    draw_clicks,
    window_centre,
)
from neurosam3d.evaluation.case_files import list_folder
from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.protocol import Step
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.evaluation.session_files import SessionFiles
from neurosam3d.inference import Predictor
from neurosam3d.inference.windows import centred_window
from neurosam3d.volume import Grid
from tests.evaluation.scans import AFFINES, SHAPE, block, without_seconds, write_pairs
from tests.inference.adapter_oracle import AdapterOracle, adapter_predictor
from tests.inference.oracle import Oracle, ellipsoid, oracle_predictor

SIDE = 128  # of the published window
PUBLISHED: list[dict[str, Any]] = [  # what the published program computes
    {
        "shape": (90, 150, 200),
        "points": [[5, 70, 190]],
        "start": (0, 6, 126),
        "stop": (69, 134, 200),
        "pad_before": [59, 0, 0],
        "pad_after": [0, 0, 54],
        "points_in_patch": [[64, 64, 64]],
    },
    {
        "shape": (90, 150, 200),
        "points": [[40, 60, 70], [61, 91, 20]],
        "start": (0, 11, 0),
        "stop": (90, 139, 109),
        "pad_before": [14, 0, 19],
        "pad_after": [24, 0, 0],
        "points_in_patch": [[54, 49, 89], [75, 80, 39]],
    },
    {
        "shape": (300, 300, 300),
        "points": [[20, 150, 150], [281, 150, 150]],
        "start": (86, 86, 86),
        "stop": (214, 214, 214),
        "pad_before": [0, 0, 0],
        "pad_after": [0, 0, 0],
        "points_in_patch": [[-66, 64, 64], [195, 64, 64]],
    },
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def play(
    predictor: Predictor, truth: np.ndarray, affine: np.ndarray, *num_prompts: int
) -> list[Step]:
    grid = Grid(truth.shape, affine)
    predictor.set_image((truth.astype(np.float32), affine))
    protocol = Adapter3DProtocol(num_prompts)
    return list(protocol.play(predictor, truth > 0, grid=grid, generator=generator()))


# Where the clicks fall


def test_fewer_clicks_are_the_first_of_more() -> None:
    truth = ellipsoid(SHAPE, centre=(13, 12, 19), radii=(5, 6, 7)) > 0
    many = draw_clicks(truth, 40, generator=generator())
    for number in (1, 3, 17):
        few = draw_clicks(truth, number, generator=generator())
        np.testing.assert_array_equal(few, many[:number])
    assert not np.array_equal(many, draw_clicks(truth, 40, generator=generator(1)))


def test_every_voxel_of_the_object_and_no_other_is_clicked_equally_often() -> None:
    truth = block((10, 8, 12), (2, 3, 2)) + block((20, 20, 30), (1, 1, 4)) > 0
    points = draw_clicks(truth, 3200, generator=generator())
    assert truth[tuple(points.T)].all()
    _, counts = np.unique(points, axis=0, return_counts=True)
    assert len(counts) == truth.sum() == 16
    assert counts.min() > 140  # 200 and six deviations of 14 either way
    assert counts.max() < 260


# Where the network looks


@pytest.mark.parametrize("case", PUBLISHED)
def test_the_first_window_is_the_published_one(case: dict[str, Any]) -> None:
    points = np.array(case["points"])
    window = centred_window(window_centre(points), (SIDE,) * 3)
    inside = window.inside(case["shape"])
    assert (inside.start, inside.stop) == (case["start"], case["stop"])
    assert np.subtract(inside.start, window.start).tolist() == case["pad_before"]
    assert np.subtract(window.stop, inside.stop).tolist() == case["pad_after"]
    assert (points - window.start).tolist() == case["points_in_patch"]


class Watched(AdapterOracle):
    """Remembers where the image was that it was asked about: voxels tell their own index."""

    def __init__(self, crop_size: int) -> None:
        super().__init__(crop_size)
        self.images: list[torch.Tensor] = []

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        self.images.append(image[0, 0])
        return super().encode(image)


def test_the_predictor_is_given_that_window() -> None:
    oracle = Watched(16)
    predictor = adapter_predictor(oracle, max_windows=1)
    truth = block((2, 18, 22), (1, 6, 10))
    numbered = np.arange(truth.size, dtype=np.float32).reshape(SHAPE) + 1
    predictor.set_image((numbered, np.eye(4)))
    protocol = Adapter3DProtocol((5,))
    grid = Grid(SHAPE, np.eye(4))
    (step,) = protocol.play(predictor, truth > 0, grid=grid, generator=generator())
    start = (step.points.min(0) + step.points.max(0)) // 2 - 8
    expected = np.zeros((16, 16, 16))
    places = np.stack(np.meshgrid(*(s + np.arange(16) for s in start), indexing="ij"), axis=-1)
    inside = ((places >= 0) & (places < SHAPE)).all(axis=-1)
    expected[inside] = numbered[tuple(places[inside].T)]
    (image,) = oracle.images
    np.testing.assert_array_equal(image, expected.transpose(2, 1, 0))  # slices first
    ((asked, _),) = oracle.asked
    np.testing.assert_array_equal(asked, (step.points - start)[:, ::-1])


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_who_sees_the_truth_finds_all_of_it_wherever_clicks_lie(affine: np.ndarray) -> None:
    truth = block((1, 2, 3), (5, 4, 6)) + block((22, 18, 27), (6, 5, 5))
    oracle = AdapterOracle(12)
    steps = play(adapter_predictor(oracle), truth, affine, 1, 10)
    assert [step.clicks for step in steps] == [1, 10]
    np.testing.assert_array_equal(steps[1].points[:1], steps[0].points)
    assert 0 < steps[0].mask.sum() < truth.sum()  # one click is in one of the two
    np.testing.assert_array_equal(steps[1].mask, truth)
    assert steps[1].num_windows == 2  # none lies between the two, where there is no click
    assert all(len(points) for points, _ in oracle.asked)


def test_a_single_window_sees_what_lies_in_it_and_no_more() -> None:
    far = block((1, 8, 8), (3, 3, 3)) + block((26, 8, 8), (3, 3, 3))
    alone = adapter_predictor(AdapterOracle(12), max_windows=1)
    (step,) = play(alone, far, np.eye(4), 10)
    assert step.num_windows == 1
    assert not step.mask.any()  # it lies in the middle, where nothing is
    long = block((2, 8, 8), (26, 3, 3))
    (step,) = play(alone, long, np.eye(4), 10)
    start = window_centre(step.points)[0] - 6
    assert np.flatnonzero(step.mask.any(axis=(1, 2))).tolist() == list(range(start, start + 12))
    (step,) = play(adapter_predictor(AdapterOracle(12)), long, np.eye(4), 10)
    np.testing.assert_array_equal(step.mask, long)


def test_other_promptable_networks_take_part() -> None:
    oracle, truth = Oracle(), ellipsoid(SHAPE, centre=(13, 12, 19), radii=(5, 6, 7))
    steps = play(oracle_predictor(oracle), truth, AFFINES["LPS, anisotropic"], 3)
    np.testing.assert_array_equal(steps[0].mask, truth)
    assert oracle.asked[0].points is not None
    assert oracle.asked[0].points.shape == (1, 3, 3)  # all at once


# With the evaluation


def test_rounds_are_written_read_back_and_scored(tmp_path: Path) -> None:
    truth = ellipsoid(SHAPE, centre=(13, 12, 19), radii=(5, 6, 7))
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (truth, truth)}))
    files = SessionFiles(tmp_path / "vis", {"seed": 2023})

    def evaluate(clicks: Sequence[int], predictor: Any, **options: bool) -> Any:
        protocol = Adapter3DProtocol(clicks)
        evaluator = ScanEvaluator(lambda: predictor, protocol, files=files, **options)
        (judged,) = evaluator.evaluate(scan)
        assert isinstance(judged, Judged)
        (result,) = without_seconds([judged.result])
        return result

    found = evaluate((5, 1, 3, 3), adapter_predictor(AdapterOracle(24)))
    assert [(entry.clicks, entry.dice, entry.nsd) for entry in found.rounds] == [
        (clicks, 1.0, 1.0) for clicks in (1, 3, 5)
    ]
    assert evaluate((1, 3, 5), None, reuse=True) == found
    assert evaluate((3, 5), None, reuse=True).rounds == found.rounds[1:]


@pytest.mark.parametrize("numbers", [(), (3, 0)])
def test_numbers_of_clicks_are_positive(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="num_prompts must be numbers of at least 1, got "):
        Adapter3DProtocol(numbers)


def test_a_truth_must_be_there_and_fit() -> None:
    predictor, protocol = adapter_predictor(AdapterOracle(12)), Adapter3DProtocol()
    for truth, message in (
        (np.zeros(SHAPE, dtype=bool), "an object needs at least one voxel"),
        (np.ones((3, 3, 3), dtype=bool), "the truth must be on the scan's grid"),
    ):
        with pytest.raises(ValueError, match=message):
            next(
                protocol.play(predictor, truth, grid=Grid(SHAPE, np.eye(4)), generator=generator())
            )
