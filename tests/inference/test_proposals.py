from dataclasses import replace

import numpy as np
import pytest
import torch

from neurosam3d.inference.network import WindowAnswer
from neurosam3d.inference.proposals import AnswerFilter, Candidate
from neurosam3d.inference.run_log import RunLog
from neurosam3d.inference.windows import Window

SCAN = (80, 60, 40)
WINDOW = Window((10, 0, -4), (24, 20, 48))  # open at both ends of axis 0 and the high end of axis 1
RULES = AnswerFilter(
    stability_threshold=0.5, stability_offset=1.0, iou_threshold=None, min_voxels=20, keep_cut=True
)


def answer(*boxes: tuple[slice, slice, slice], height: float = 6.0) -> WindowAnswer:
    """Return logits that are high in boxes of the window's voxels, one for each."""
    logits = torch.full((len(boxes), 1, *WINDOW.shape), -6.0)
    for index, box in enumerate(boxes):
        logits[index, 0][box] = height
    iou = torch.linspace(0.5, 0.9, len(boxes))[:, None]
    return WindowAnswer(logits, logits, iou)


def pick(given: WindowAnswer, rules: AnswerFilter = RULES) -> tuple[list[Candidate], RunLog]:
    log = RunLog()
    points = np.arange(3 * len(given.logits)).reshape(-1, 3)
    return rules.candidates(given, WINDOW, points, scan_shape=SCAN, log=log), log


WHOLE = (slice(5, 9), slice(4, 12), slice(10, 20))
AT_SCAN = (slice(5, 9), slice(0, 12), slice(0, 48))  # ends with the scan along axes 1 and 2
CUT = (slice(0, 9), slice(4, 12), slice(10, 20))


def test_candidates_lie_on_the_scans_grid() -> None:
    (one, other), log = pick(answer(WHOLE, AT_SCAN))
    assert one.mask.box.tolist() == [[15, 4, 6], [18, 11, 15]]
    assert one.mask.num_voxels == 4 * 8 * 10
    assert other.mask.box.tolist() == [[15, 0, 0], [18, 11, 39]]  # nothing outside the scan
    assert (one.point.tolist(), other.point.tolist()) == ([0, 1, 2], [3, 4, 5])
    assert not one.is_cut
    assert not other.is_cut
    assert (one.stability, one.score) == (1, 1)
    assert log.counts == {}


def test_limits_of_size_and_edge_can_be_others() -> None:
    most = (slice(1, 23), slice(2, 19), slice(4, 44))  # 0.78 of the window inside the scan
    (one,), _ = pick(answer(most), replace(RULES, edge=0.5))
    assert not one.is_cut
    (cut,), _ = pick(answer(most), replace(RULES, edge=1.0))  # it ends a voxel before
    assert cut.is_cut
    found, log = pick(answer(most), replace(RULES, most=0.7))
    assert (found, log.counts) == ([], {"whole window": 1})


def test_masks_that_end_at_an_open_face_are_cut() -> None:
    near = (slice(1, 9), *CUT[1:])  # a voxel is more than a fiftieth of 24
    (cut, other), log = pick(answer(CUT, near))
    assert cut.is_cut
    assert not other.is_cut
    assert log.counts == {}
    _, log = pick(answer(CUT, WHOLE), replace(RULES, keep_cut=False))
    assert log.counts == {"cut off": 1}


@pytest.mark.parametrize(
    ("box", "height", "reason"),
    [
        ((slice(0), slice(0), slice(0)), 6, "empty"),
        ((slice(0, 9), slice(0, 9), slice(0, 3)), 6, "empty"),  # in the padding only
        (WHOLE, 0.9, "unstable"),
        ((slice(5, 6), slice(5, 9), slice(10, 14)), 6, "small"),
        ((slice(0, 24), slice(0, 20), slice(1, 48)), 6, "whole window"),
    ],
)
def test_the_reason_is_counted(box: tuple[slice, slice, slice], height: float, reason: str) -> None:
    found, log = pick(answer(box, box, height=height))
    assert found == []
    assert log.counts == {reason: 2}


def test_the_most_stable_answer_is_noted() -> None:
    given = answer(WHOLE, WHOLE)
    given.logits[:, 0, 10, 10, 10:20] = 0.0  # unsure of 10 voxels
    given.logits[1, 0, 11, 10, 10:20] = 0.0  # and of 20
    _, log = pick(given, replace(RULES, stability_threshold=1.0))
    assert log.counts == {"unstable": 2}
    assert log.highest_stability == pytest.approx(320 / 330)


def test_the_networks_estimate_must_exceed_its_limit() -> None:
    found, log = pick(answer(WHOLE, WHOLE, WHOLE), replace(RULES, iou_threshold=0.7))
    assert log.counts == {"low IoU": 2}  # 0.5 and 0.7 itself
    assert found[0].score == found[0].iou == pytest.approx(0.9)
    assert found[0].stability == 1
