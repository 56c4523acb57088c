"""The picture of methods side by side: which objects, which slice, and what a panel holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from neurosam3d.evaluation.method_pictures import Tile, choose_typical, cut_tile, plot_methods
from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.protocol import Step
from neurosam3d.evaluation.results import RoundResult
from neurosam3d.volume import Volume
from tests.evaluation.made_up import case

# Axes run to the Superior, Left and Anterior, 4, 2 and 1 mm apart.
AFFINE = np.array([[0.0, -2.0, 0, 0], [0, 0, 1.0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1.0]])
SHAPE = (12, 30, 50)


def judged(*, shift: int = 0, boxes: int = 0) -> Judged:
    """Return an object that is largest in slice 7, and an answer moved to the Left."""
    truth = np.zeros(SHAPE, dtype=bool)
    truth[5:9, 10:14, 20:26] = True
    truth[7, 10:16, 20:30] = True
    image = torch.zeros(1, *SHAPE)
    image[0, 7] = 5.0
    mask = np.roll(truth, shift, axis=1)
    step = Step(np.zeros((3, 3), dtype=int), np.ones(3, dtype=int), mask, {}, boxes=boxes)
    rounds = [RoundResult(n, 0.1 * n) for n in (1, 2, 3)]
    return Judged(case("a", "liver", *rounds), Volume(image, AFFINE), truth, [step])


def test_a_tile_is_the_axial_slice_with_most_of_the_truth() -> None:
    tile = cut_tile(judged(shift=3))
    assert (tile.dice, tile.clicks) == (pytest.approx(0.3), 3)
    assert (tile.image == 5.0).all()  # slice 7 of the first axis
    np.testing.assert_allclose(tile.spacing, [2, 1, 4])
    # Front up: 10 voxels of 1 mm; across, from Left to Right, 6 of 2 mm.
    up, across = np.nonzero(tile.truth)
    assert (np.ptp(up) + 1, np.ptp(across) + 1) == (10, 6)
    # The canonical axis runs to the Right, so 3 voxels to the Left are 3 less.
    assert np.nonzero(tile.prediction)[1].min() == across.min() - 3
    assert tile.sides_mm == (tile.image.shape[0] * 1.0, tile.image.shape[1] * 2.0)


def test_surroundings_follow_the_truth_alone_so_that_panels_agree() -> None:
    near, far = cut_tile(judged()), cut_tile(judged(shift=15))
    np.testing.assert_array_equal(near.truth, far.truth)
    assert near.image.shape == far.image.shape


def test_an_object_without_a_voxel_has_no_tile() -> None:
    one = judged()
    empty = Judged(one.result, one.image, np.zeros(SHAPE, dtype=bool), one.shown)
    with pytest.raises(ValueError, match="needs a truth with a voxel"):
        cut_tile(empty)


@pytest.mark.parametrize(("boxes", "said"), [(0, "3 clicks"), (1, "1 box"), (7, "7 boxes")])
def test_a_tile_says_what_was_given(boxes: int, said: str) -> None:
    assert cut_tile(judged(boxes=boxes)).prompts == said


def test_a_tile_is_read_as_it_was_written(tmp_path: Path) -> None:
    tile = cut_tile(judged(shift=2, boxes=4))
    tile.write(tmp_path / "kept" / "tile.npz")
    read = Tile.read(tmp_path / "kept" / "tile.npz")
    assert (read.dice, read.clicks, read.boxes) == (tile.dice, tile.clicks, 4)
    for name in ("image", "truth", "prediction", "spacing"):
        np.testing.assert_array_equal(getattr(read, name), getattr(tile, name))


@pytest.mark.parametrize(
    ("number", "names"), [(0, []), (1, ["s2"]), (2, ["s1", "s3"]), (9, [f"s{n}" for n in range(5)])]
)
def test_typical_objects_are_evenly_spaced_in_the_order_of_their_dice(
    number: int, names: list[str]
) -> None:
    dices = {"s3": 0.7, "s0": 0.1, "s4": 0.9, "s2": 0.5, "s1": 0.3}
    cases = [
        case(name, "liver", RoundResult(1, 1 - dice), RoundResult(2, dice))
        for name, dice in dices.items()
    ]
    cases += [case("s0", "liver", RoundResult(1, 0.5), repeat=1), case("none", "liver")]
    assert [one.case for one in choose_typical(cases, number)] == names


def test_a_picture_has_a_row_per_case_and_a_column_per_method(tmp_path: Path) -> None:
    tile = cut_tile(judged(shift=1))
    one, three = (
        imread(plot_methods(tmp_path / f"{len(methods)}.png", rows, methods=methods))
        for methods, rows in (
            (["a"], {"x": {"a": tile}}),
            (["a", "b", "c"], {"x": {"a": tile}, "y": {"a": tile, "c": tile}}),
        )
    )
    assert one.shape[1] == three.shape[1]
    assert three.shape[0] < one.shape[0]  # two rows of a third of the width
    yellow, blue = np.array([0xF0, 0xE4, 0x42]) / 255, np.array([0x56, 0xB4, 0xE9]) / 255
    for colour in (yellow, blue):
        near = np.abs(three[..., :3] - colour).max(axis=2) < 0.02
        width = near.shape[1] // 3
        rows = near[: near.shape[0] * 9 // 10]  # without the legend
        drawn = [rows[:, column * width : (column + 1) * width].any() for column in range(3)]
        assert drawn == [True, False, True]


def test_a_picture_needs_tiles(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows with a tile each"):
        plot_methods(tmp_path / "x.png", {"x": {}}, methods=["a"])
