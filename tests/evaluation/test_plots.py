"""The picture of a case: what it shows, where, and in which proportions."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch import Tensor

from neurosam3d.evaluation.plots import TRUTH_COLOUR, plot_case
from neurosam3d.evaluation.scene import Round, arrange_scene
from neurosam3d.prompts import Prompts

# Axes run to the Posterior, Right and Superior, 1, 2 and 3 mm a voxel: the canonical order is axis
# 1, axis 0 flipped, axis 2.
SHAPE = (30, 40, 20)
AFFINE = np.array([[0, 2.0, 0, -40], [-1.0, 0, 0, 15], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def _truth() -> Tensor:
    """Mark a block of 8 x 20 x 18 mm (P, R, S) on the right of the patient, in item 1 of 2."""
    truth = torch.zeros(2, 1, *SHAPE, dtype=torch.bool)
    truth[1, 0, 4:12, 25:35, 7:13] = True
    return truth


def _round(prediction: Tensor, points: list[list[float]], labels: list[int]) -> Round:
    coords = torch.tensor([points, points], dtype=torch.float32).view(2, -1, 3)
    prompts = Prompts(coords, torch.tensor([labels, labels]))
    return Round(prompts, prediction, torch.tensor([0.0, 0.625]))


def test_scene_is_canonical_and_cuts_most_of_the_object() -> None:
    truth = _truth()
    truth[1, 0, 5, 26, 13:16] = True  # a thin tail
    image = torch.arange(truth.numel(), dtype=torch.float32).view(truth.shape)
    entry = _round(truth, [[4, 25, 7], [0, 0, 0]], [1, -1])
    scene = arrange_scene(image, truth, [entry], affine=AFFINE, item=1)
    expected = image[1, 0].numpy().transpose(1, 0, 2)[:, ::-1]
    np.testing.assert_array_equal(scene.image, expected)
    np.testing.assert_array_equal(scene.spacing, (2, 1, 3))
    np.testing.assert_array_equal(scene.answers[0].points[0], (25, 25, 7))
    assert 25 <= scene.slices[0] < 35
    assert 30 - 12 <= scene.slices[1] < 30 - 4
    assert scene.slices[2] == 7
    # 25 mm, here 12.5 voxels, around what is marked, at most to the border; a not-a-point is not.
    np.testing.assert_array_equal(scene.shown, [[12, 0, 0], [39, 29, 19]])
    assert scene.answers[0].dice == 0.625


def test_scene_of_an_empty_truth_follows_the_prediction() -> None:
    empty = torch.zeros(2, 1, *SHAPE, dtype=torch.bool)
    prediction = empty.clone()
    prediction[:, :, 3, 4, 5] = True
    scene = arrange_scene(
        empty.float(), empty, [_round(prediction, [[0, 0, 0]], [-1])], affine=AFFINE, item=1
    )
    np.testing.assert_array_equal(scene.slices, (4, 26, 5))
    nothing = arrange_scene(
        empty.float(), empty, [_round(empty, [[0, 0, 0]], [-1])], affine=AFFINE, item=1
    )
    np.testing.assert_array_equal(nothing.slices, (20, 15, 10))
    np.testing.assert_array_equal(nothing.shown, [[0, 0, 0], [39, 29, 19]])


def _columns_of(pixels: np.ndarray, colour: str) -> list[tuple[int, int, int]]:
    """Find the groups of columns that hold a colour; return (first column, width, height)."""
    same = np.abs(pixels[..., :3] - to_rgb(colour)).max(-1) < 0.08
    columns = np.flatnonzero(same.any(0))
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 20) + 1)
    heights = [np.ptp(np.flatnonzero(same[:, group].any(1))) for group in groups]
    return [(int(g[0]), int(np.ptp(g)), int(h)) for g, h in zip(groups, heights, strict=True)]


def test_picture_has_physical_proportions_and_the_right_side_on_the_left(tmp_path: Path) -> None:
    truth = _truth()
    empty = torch.zeros_like(truth)
    path = tmp_path / "pictures" / "case.png"
    image = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))
    written = plot_case(path, image, truth, [_round(empty, [], [])], affine=AFFINE, item=1)
    assert written == path
    assert [file.name for file in path.parent.iterdir()] == ["case.png"]
    pixels = matplotlib.image.imread(path)
    above_legend = pixels[: int(0.85 * len(pixels))]
    axial, coronal, sagittal = _columns_of(above_legend, TRUTH_COLOUR)
    for (_, width, height), expected in (
        (axial, 20 / 8),
        (coronal, 20 / 18),
        (sagittal, 8 / 18),
    ):
        assert width / height == pytest.approx(expected, rel=0.06)
    assert axial[0] < pixels.shape[1] * 0.15


def test_rows_are_the_asked_for_rounds(tmp_path: Path) -> None:
    truth = _truth()
    empty = torch.zeros_like(truth)
    points = [[6.0, 30, 9], [20, 10, 9], [7, 31, 9]]
    rounds = [
        _round(prediction, points[: n + 1], [1, 0, 1][: n + 1])
        for n, prediction in enumerate((empty, truth, truth))
    ]

    def draw(clicks: tuple[int, ...]) -> np.ndarray:
        path = tmp_path / "case.png"
        plot_case(path, truth.float(), truth, rounds, affine=AFFINE, item=1, clicks=clicks)
        return matplotlib.image.imread(path)

    one, three, both, last = draw((1,)), draw((3,)), draw((1, 3)), draw((99,))
    assert len(both) > 1.3 * len(one)
    np.testing.assert_array_equal(last, three)
    upper = slice(0, int(0.85 * len(one)))
    assert not _has(one[upper], "#D55E00")
    assert _has(three[upper], "#D55E00")
    assert _has(one[upper], "#009E73")


def _has(pixels: np.ndarray, colour: str) -> bool:
    return bool((np.abs(pixels[..., :3] - to_rgb(colour)).max(-1) < 0.03).any())


def test_no_round_is_named(tmp_path: Path) -> None:
    truth = _truth()
    with pytest.raises(ValueError, match="at least one round, got none"):
        plot_case(tmp_path / "x.png", truth.float(), truth, [], affine=AFFINE)
