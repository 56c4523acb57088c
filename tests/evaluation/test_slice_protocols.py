"""Protocols of networks of slices: what is clicked and boxed, what is known of other slices, and
how prompts are counted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosam3d.evaluation.case_files import list_folder
from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.protocol import InteractiveProtocol, Step
from neurosam3d.evaluation.report import read_results, write_results
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.evaluation.session_files import SessionFiles
from neurosam3d.evaluation.slice_protocols import (
    BOX_3D,
    OracleSlices,
    Propagation,
    SliceBoxes,
    scan_axis,
    slice_boxes,
)
from neurosam3d.slices import AXES, Axis
from neurosam3d.volume import Grid
from tests.evaluation.scans import AFFINES, write_pairs
from tests.inference.oracle import Oracle, oracle_predictor
from tests.inference.slice_oracle import SCALE, SHAPE, SliceOracle, block, slice_predictor

RAS = AFFINES["RAS"]


def play(
    protocol: Any, image: np.ndarray, truth: np.ndarray, affine: np.ndarray = RAS, **options: object
) -> tuple[SliceOracle, list[Step]]:
    oracle = SliceOracle()
    predictor = slice_predictor(oracle, axis=protocol.axis, **options)
    predictor.set_image((image.astype(np.float32), affine))
    steps: Iterator[Step] = protocol.play(
        predictor,
        truth > 0,
        grid=Grid(truth.shape, affine),
        generator=torch.Generator().manual_seed(1),
    )
    return oracle, list(steps)


def hollow() -> np.ndarray:
    """Return an object of slices 12 to 14 and 16, of which the second has two parts."""
    truth = block((10, 8, 12), (6, 8, 5))
    truth[..., 15] = 0
    truth[..., 13] = block((3, 4, 13), (4, 5, 1))[..., 13] + block((20, 15, 13), (4, 6, 1))[..., 13]
    return truth


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_slices_lie_along_an_axis_of_the_patient(affine: np.ndarray) -> None:
    grid = Grid(SHAPE, affine)
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axes: dict[Axis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
    for axis, patient in axes.items():
        assert scan_axis(grid, axis) == np.abs(unit[patient]).argmax()


def test_boxes_of_slices_are_tight() -> None:
    boxes = slice_boxes(hollow() > 0, Grid(SHAPE, RAS), "axial")
    assert boxes.tolist() == [
        [[10, 8, 12], [15, 15, 12]],
        [[3, 4, 13], [23, 20, 13]],
        [[10, 8, 14], [15, 15, 14]],
        [[10, 8, 16], [15, 15, 16]],
    ]
    coronal = slice_boxes(hollow() > 0, Grid(SHAPE, RAS), "coronal")
    assert coronal[:, 0, 1].tolist() == list(range(4, 21))


@pytest.mark.parametrize("axis", AXES)
def test_every_slice_of_the_object_gets_as_many_clicks(axis: Axis) -> None:
    truth = hollow()
    image = np.zeros_like(truth)  # the network finds nothing whatever it is told
    grid = Grid(SHAPE, AFFINES["permuted, oblique"])
    _, steps = play(OracleSlices(3, axis=axis), image, truth, grid.affine)
    along = scan_axis(grid, axis)
    marked = np.flatnonzero(truth.any(tuple({0, 1, 2} - {along})))
    assert [step.clicks for step in steps] == [1, 2, 3]
    assert [step.prompts for step in steps] == [len(marked) * n for n in (1, 2, 3)]
    for step in steps:
        numbers, counts = np.unique(step.points[:, along], return_counts=True)
        assert numbers.tolist() == marked.tolist()
        assert set(counts) == {step.clicks}
        assert truth[tuple(step.points.T)].all()  # what is missed, as nothing is found
        assert step.labels.all()
    np.testing.assert_array_equal(steps[2].points[: len(marked)], steps[0].points)


def test_slices_are_corrected_one_by_one_and_others_known_to_be_empty() -> None:
    truth = hollow()
    oracle, steps = play(OracleSlices(3), truth + block((10, 8, 20), (6, 8, 5)), truth)
    first, second, third = steps
    assert (first.num_windows, second.num_windows) == (4, 4)
    assert first.mask[..., 12].sum() == 48
    assert first.mask[..., 13].sum() in (20, 24)  # one of its two parts
    np.testing.assert_array_equal(second.mask, truth)
    # The second click falls on the one slice that is wrong, the third nowhere.
    assert [step.prompts for step in steps] == [4, 5, 5]
    assert second.points[4, 2] == 13
    assert third.mask is second.mask
    assert (third.seconds, third.num_windows) == ({}, 0)
    assert len(oracle.asked) == 5


def test_wrong_pixels_are_clicked_as_outside() -> None:
    truth = block((3, 4, 13), (4, 5, 2))
    image = truth + block((3, 12, 13), (4, 3, 2))
    image[4, 9:12, 13:15] = 1  # a bridge: the network takes both for one
    _, steps = play(OracleSlices(2), image, truth)
    assert steps[0].mask.sum() == image.sum()
    assert steps[1].labels.tolist() == [1, 1, 0, 0]
    assert not truth[tuple(steps[1].points[2:].T)].any()


def test_depth_is_measured_within_a_slice() -> None:
    truth = block((4, 3, 13), (9, 9, 1))
    _, steps = play(OracleSlices(1, point_method="ritm"), truth, truth)
    # Deeper than half of the five steps to the middle.
    assert np.abs(steps[0].points[0, :2] - [8, 7]).max() <= 2


def test_a_box_on_every_slice() -> None:
    truth = hollow()
    oracle, (step,) = play(SliceBoxes(margin=4), truth + block((10, 8, 20), (6, 8, 5)), truth)
    np.testing.assert_array_equal(step.mask, truth)
    assert (step.clicks, step.prompts, step.num_windows) == (1, 4, 4)
    assert step.points.shape == (0, 3)
    expected = np.array([10, 8, 15, 15]) * SCALE + [-4, -4, 4, 4]
    np.testing.assert_allclose(oracle.asked[0].box, expected, rtol=1e-6)


def test_a_box_in_space() -> None:
    truth = hollow()
    oracle, (step,) = play(SliceBoxes(BOX_3D), truth + block((10, 8, 20), (6, 8, 5)), truth)
    np.testing.assert_array_equal(step.mask, truth)
    assert (step.clicks, step.prompts, step.num_windows) == (1, 1, 5)  # slice 15, too
    boxes = {tuple(asked.box) for asked in oracle.asked if asked.box is not None}
    assert boxes == {(12, 16, 92, 80)}


@pytest.mark.parametrize("prompt", ["click", "box"])
def test_one_prompt_where_the_object_is_largest(prompt: Any) -> None:
    truth = block((10, 8, 12), (6, 8, 5))
    truth[14:16, 8:16, 12:14] = 0
    truth[9, 9, 15] = 1
    oracle, (step,) = play(Propagation(prompt), truth, truth)
    np.testing.assert_array_equal(step.mask, truth)
    assert (step.clicks, step.prompts, step.num_windows) == (1, 1, 5)
    first = oracle.asked[0]
    if prompt == "box":
        assert step.points.shape == (0, 3)
        np.testing.assert_allclose(first.box, np.array([9, 8, 15, 15]) * SCALE, rtol=1e-6)
    else:
        assert step.points[0, 2] == 15
        np.testing.assert_allclose(first.points, step.points[:, :2] * SCALE, rtol=1e-6)
        assert np.abs(step.points[0, :2] - [12.5, 11.5]).max() <= 2.5


def test_a_network_of_volumes_takes_no_boxes_of_slices() -> None:
    truth = hollow()
    predictor = oracle_predictor(Oracle())
    predictor.set_image((truth.astype(np.float32), RAS))
    with pytest.raises(ValueError, match="boxes on slices need a network of slices, got a Session"):
        next(
            SliceBoxes().play(
                predictor, truth > 0, grid=Grid(SHAPE, RAS), generator=torch.Generator()
            )
        )


def test_results_and_files_count_prompts_on_slices(tmp_path: Path) -> None:
    truth = hollow()
    scans = list_folder(write_pairs(tmp_path, {"one": (truth, truth)}, affine=RAS))

    def judge(protocol: Any, *, reuse: bool = False) -> Judged:
        files = SessionFiles(tmp_path / "out", {"name": type(protocol).__name__})
        evaluator = ScanEvaluator(
            lambda: slice_predictor(SliceOracle()), protocol, files=files, reuse=reuse
        )
        (judged,) = evaluator.evaluate(scans[0])
        assert isinstance(judged, Judged)
        return judged

    made = judge(OracleSlices(2))
    assert [(entry.clicks, entry.prompts) for entry in made.result.rounds] == [(1, 4), (2, 5)]
    again = judge(OracleSlices(2), reuse=True)
    assert [(entry.clicks, entry.prompts) for entry in again.result.rounds] == [(1, 4), (2, 5)]
    np.testing.assert_array_equal(again.shown[-1].points, made.shown[-1].points)
    paths = write_results(
        tmp_path / "result.json", [made.result], protocol={"name": "oracle_slices"}, pictures=[]
    )
    (case,) = read_results(paths[0]).cases
    assert [entry.prompts for entry in case.rounds] == [4, 5]
    assert all(step.prompts is None for step in _steps_of_volumes())


def _steps_of_volumes() -> list[Step]:
    truth = hollow()
    predictor = oracle_predictor(Oracle())
    predictor.set_image((truth.astype(np.float32), RAS))
    protocol, generator = InteractiveProtocol(num_clicks=1), torch.Generator()
    grid = Grid(SHAPE, RAS)
    return list(protocol.play(predictor, truth > 0, grid=grid, generator=generator))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OracleSlices(0), "num_clicks must be at least 1, got 0"),
        (lambda: OracleSlices(point_method="x"), "unknown point_method 'x'; known: default, ritm"),
        (lambda: OracleSlices(axis="x"), "axis must be one of axial"),  # type: ignore[arg-type]
        (lambda: SliceBoxes(margin=-1), "box_margin must be at least 0, got -1"),
        (lambda: Propagation(margin=-1), "box_margin must be at least 0, got -1"),
        (lambda: Propagation("x"), "prompt must be one of click, box, got 'x'"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_are_told(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
