"""The CVPR25 challenge: where clicks fall, what counts, and the six steps of a case."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosam3d.evaluation.cvpr25 import (
    ChallengeClick,
    area_under_clicks,
    challenge_scores,
    find_click,
    play_cvpr25,
)
from neurosam3d.npz_cases import read_npz_case

SHAPE = (9, 12, 10)
SPACING = (2.5, 0.8, 1.0)


def block(*corners: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(low, end) for low, end in corners)] = True
    return mask


OBJECT = block((2, 7), (3, 8), (4, 9))  # 5 x 5 x 5


def case(**changes: Any) -> dict[str, Any]:
    given = {
        "imgs": np.zeros(SHAPE, np.uint8),
        "spacing": np.array(SPACING),
        "gts": OBJECT.astype(np.uint8),
        "boxes": [{"z_min": 2, "z_max": 6}],
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


class Recorder:
    """Answers with one prepared map after the other and remembers what it was given."""

    def __init__(self, *answers: np.ndarray) -> None:
        self.answers = [answer.astype(np.uint8) for answer in answers]
        self.given: list[Mapping[str, Any]] = []

    def __call__(self, given: Mapping[str, Any]) -> np.ndarray:
        self.given.append(given)
        return self.answers[min(len(self.given), len(self.answers)) - 1]


def test_click_on_a_missed_object_is_its_deepest_voxel() -> None:
    click = find_click(np.zeros(SHAPE, bool), OBJECT)
    assert click == ChallengeClick((4, 5, 6), True)
    assert find_click(OBJECT, np.zeros(SHAPE, bool)) == ChallengeClick((4, 5, 6), False)
    assert find_click(OBJECT, OBJECT) is None


def test_only_the_largest_piece_of_the_error_counts() -> None:
    truth = OBJECT | block((0, 1), (0, 3), (0, 3))  # 125 and 9 voxels missed ...
    added = block((8, 9), (9, 12), (0, 2))  # ... and 6 too many
    assert find_click(added, truth) == ChallengeClick((4, 5, 6), True)
    assert find_click(added | OBJECT, truth) == ChallengeClick((0, 0, 0), True)
    assert find_click(added, np.zeros(SHAPE, bool)) == ChallengeClick((8, 9, 0), False)


def test_large_piece_counts_even_where_a_small_one_is_deeper() -> None:
    plate, cube = block((8, 9), (1, 11), (0, 10)), block((1, 5), (1, 5), (1, 5))  # 100, 64 voxels
    assert find_click(np.zeros(SHAPE, bool), plate | cube) == ChallengeClick((8, 1, 0), True)


def test_missed_and_added_voxels_that_touch_are_one_piece() -> None:
    truth, prediction = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    truth[1, 1, 1:3] = True
    prediction[2, 2, 3:5] = True  # joined at a corner: 4 voxels
    prediction[6, 6, 1:4] = truth[6, 6, 1:4] = True
    truth[7, 9, 6:9] = True  # 3 voxels
    assert find_click(prediction, truth) == ChallengeClick((1, 1, 1), True)


def test_equal_pieces_and_depths_are_decided_by_memory_order() -> None:
    truth = block((1, 3), (1, 2), (7, 9)) | block((1, 3), (5, 6), (0, 2))
    assert find_click(np.zeros(SHAPE, bool), truth) == ChallengeClick((1, 1, 7), True)


def test_volume_border_counts_as_background() -> None:
    # Deepest by the distance to background inside the volume would be the corner (0, 0, 0).
    truth = block((0, 5), (0, 5), (0, 5))
    assert find_click(np.zeros(SHAPE, bool), truth) == ChallengeClick((2, 2, 2), True)


def test_surface_dice_counts_above_a_dice_of_a_fifth_only() -> None:
    truth = block((4, 5), (2, 3), (0, 9))  # 9 voxels in a row
    near = block((4, 5), (2, 3), (0, 1))  # Dice 2 / 10, surfaces near
    assert challenge_scores(near, truth, spacing=SPACING).dice == 0.2
    assert challenge_scores(near, truth, spacing=SPACING).surface_dice == 0
    nearer = block((4, 5), (2, 3), (0, 2))
    assert challenge_scores(nearer, truth, spacing=SPACING).surface_dice > 0.3


def test_surfaces_may_lie_two_millimetres_apart_along_the_axes_of_the_image() -> None:
    along_h = np.roll(OBJECT, 2, axis=1)  # by 1.6 mm
    along_d = np.roll(OBJECT, 1, axis=0)  # by 2.5 mm
    assert challenge_scores(along_h, OBJECT, spacing=SPACING).surface_dice == 1
    assert challenge_scores(along_d, OBJECT, spacing=SPACING).surface_dice < 1


def test_area_under_five_clicks() -> None:
    assert area_under_clicks([1.0] * 5) == 4
    assert area_under_clicks([0.5, 0.6, 0.8, 0.8, 1.0]) == pytest.approx(2.95)
    assert area_under_clicks([0.0, 0.0, 0.0, 0.0, 1.0]) == 0.5


def test_oracle_has_the_full_area_and_is_never_clicked() -> None:
    oracle = Recorder(OBJECT)
    result = play_cvpr25(oracle, case())
    assert (result.dice_auc, result.surface_dice_auc) == (4, 4)
    assert (result.dice_final, result.surface_dice_final) == (1, 1)
    assert [step.num_clicks for step in result.steps] == [0, 1, 2, 3, 4, 5]
    assert all(step.clicks == ((),) for step in result.steps)
    assert "clicks" not in oracle.given[0]
    assert oracle.given[5]["clicks"] == [{"fg": [], "bg": []}]
    assert oracle.given[5]["clicks_order"] == [[]]


def test_steps_are_told_everything_so_far_and_nothing_of_the_truth() -> None:
    too_much = OBJECT | block((0, 3), (9, 12), (0, 3))
    model = Recorder(np.zeros(SHAPE), too_much, OBJECT)
    answers = []
    result = play_cvpr25(model, case(), on_answer=lambda n, segs: answers.append((n, segs.sum())))
    first, second, third, *_, last = model.given
    assert set(first) == {"imgs", "spacing", "boxes"}
    assert set(second) == {"imgs", "spacing", "boxes", "clicks", "clicks_order", "prev_pred"}
    assert second["clicks"] == [{"fg": [[4, 5, 6]], "bg": []}]
    assert not second["prev_pred"].any()
    assert third["clicks"] == [{"fg": [[4, 5, 6]], "bg": [[1, 10, 1]]}]
    assert third["clicks_order"] == [["fg", "bg"]]
    assert third["prev_pred"].sum() == too_much.sum()
    assert last["clicks_order"] == [["fg", "bg"]]  # nothing was wrong any more
    assert [number for number, _ in answers] == [0, 1, 2, 3, 4, 5]
    dice = 2 * 125 / (125 + too_much.sum())
    assert [step.dice for step in result.steps] == pytest.approx([0, dice, 1, 1, 1, 1])
    assert result.dice_auc == pytest.approx(3.5 + dice / 2)
    assert all(step.seconds is not None and step.seconds >= 0 for step in result.steps)


def test_without_a_box_the_first_step_scores_zero_and_is_not_run() -> None:
    for boxes in (None, []):
        model = Recorder(OBJECT)
        result = play_cvpr25(model, case(boxes=boxes))
        assert len(model.given) == 5
        assert result.steps[0].seconds is None
        assert (result.steps[0].dice, result.steps[0].surface_dice) == (0, 0)
        assert result.steps[0].scores[0].prediction_empty
        assert model.given[0]["clicks"] == [{"fg": [[4, 5, 6]], "bg": []}]
        assert model.given[0]["prev_pred"].shape == SHAPE
        assert not model.given[0]["prev_pred"].any()
        assert result.dice_auc == 4


def test_classes_are_clicked_side_by_side_and_averaged() -> None:
    other = block((0, 1), (9, 12), (0, 3))
    truth = OBJECT * 4 + other * 7  # the model knows them as 1 and 2
    right = OBJECT * 1 + other * 2
    model = Recorder(OBJECT * 1, OBJECT * 1, right)
    result = play_cvpr25(model, case(gts=truth, boxes=[{}, {}]))
    assert result.classes == (4, 7)
    assert model.given[1]["clicks"] == [{"fg": [], "bg": []}, {"fg": [[0, 9, 0]], "bg": []}]
    assert model.given[1]["clicks_order"] == [[], ["fg"]]
    assert [step.dice for step in result.steps] == [0.5, 0.5, 1, 1, 1, 1]
    assert [scores.dice for scores in result.steps[1].scores] == [1, 0]
    assert result.surface_dice_final == 1


def test_case_from_a_file_can_be_played(tmp_path: Path) -> None:
    np.savez(tmp_path / "case.npz", **case(boxes=None))
    result = play_cvpr25(Recorder(OBJECT), read_npz_case(tmp_path / "case.npz"))
    assert result.surface_dice_auc == 4


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="a case needs its truth, gts"):
        play_cvpr25(Recorder(OBJECT), case(gts=None))
    with pytest.raises(ValueError, match="a class above 0"):
        play_cvpr25(Recorder(OBJECT), case(gts=np.zeros(SHAPE, int)))
    with pytest.raises(ValueError, match=r"shape \(9, 12, 10\), got uint8 of shape \(8, 12, 10\)"):
        play_cvpr25(Recorder(OBJECT[1:]), case())
