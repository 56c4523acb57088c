"""Windows laid over each other."""

import numpy as np
import pytest
import torch

from neurosam3d.inference.mosaic import OUTSIDE_LOGIT, Mosaic
from neurosam3d.inference.windows import Window
from neurosam3d.volume import Grid

GRID = Grid((30, 12, 14), np.diag([1.0, 2.0, 3.0, 1.0]))
SHAPE = (10, 12, 8)


def smooth_field() -> torch.Tensor:
    d, h, w = torch.meshgrid(*(torch.arange(n).float() for n in GRID.shape), indexing="ij")
    return torch.sin(d / 5) + torch.cos(h / 4) * w / 7


def cut(field: torch.Tensor, window: Window) -> torch.Tensor:
    return field[window.slices()].clone()


def test_single_window_stands_unchanged() -> None:
    mosaic = Mosaic(GRID)
    assert mosaic.volume is None
    logits = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    mosaic.add(Window((3, 0, 2), SHAPE), logits)
    assert mosaic.volume is not None
    assert torch.equal(mosaic.volume.data[0], logits)
    assert mosaic.volume.grid.same_as(GRID.window((3, 0, 2), SHAPE))


def test_agreeing_windows_give_the_field_back() -> None:
    field, mosaic = smooth_field(), Mosaic(GRID)
    for start in [(12, 0, 3), (3, 0, 2), (7, 0, 6), (20, 0, 0)]:
        mosaic.add(Window(start, SHAPE), cut(field, Window(start, SHAPE)))
    assert mosaic.volume is not None
    known = mosaic.volume.data[0] != OUTSIDE_LOGIT
    assert mosaic.region == Window((3, 0, 0), (27, 12, 14))
    assert torch.equal(mosaic.volume.data[0][known], field[mosaic.region.slices()][known])


def test_disagreeing_windows_meet_without_a_seam() -> None:
    shape, mosaic = (40, 8, 8), Mosaic(Grid((60, 8, 8), np.eye(4)))
    mosaic.add(Window((0, 0, 0), shape), torch.full(shape, -1.0))
    mosaic.add(Window((20, 0, 0), shape), torch.full(shape, 1.0))
    assert mosaic.volume is not None
    profile = mosaic.volume.data[0, :, 4, 4]
    steps = profile.diff()
    assert profile[0] == -1
    assert profile[-1] == 1
    assert (steps >= 0).all()
    assert steps.max() < 0.16  # of a difference of 2, over an overlap of 20 voxels
    assert max(steps[19], steps[39]) < 0.02  # where one of the windows begins or ends
    assert profile[29].item() == pytest.approx(-profile[30].item(), abs=1e-6)


def test_what_lies_outside_the_scan_is_dropped() -> None:
    mosaic, shape = Mosaic(GRID), (10, 16, 8)
    logits = torch.ones(shape)
    logits[:, :2], logits[:, -2:] = 5, 5  # the padding
    mosaic.add(Window((0, -2, 0), shape), logits)
    assert mosaic.volume is not None
    assert mosaic.volume.data.shape == (1, 10, 12, 8)
    assert (mosaic.volume.data == 1).all()


def test_open_faces_are_those_where_foreground_ends_with_the_window() -> None:
    mosaic, logits = Mosaic(GRID), torch.full(SHAPE, -1.0)
    logits[-1, 3:5, 2:6] = 1  # at a face, with the scan beyond
    logits[:2, 0, 4] = 1  # at the scan's border, and one voxel of it at another open face
    first = Window((3, 0, 2), SHAPE)
    mosaic.add(first, logits)
    faces = {(face.axis, face.direction): face.area for face in mosaic.open_faces()}
    assert faces == {(0, 1): 8, (0, -1): 1}
    mosaic.add(Window((12, 0, 2), SHAPE), torch.full(SHAPE, -1.0))
    assert [(face.axis, face.direction) for face in mosaic.open_faces()] == [(0, -1)]


def test_face_half_covered_by_another_window_is_open_in_its_other_half() -> None:
    mosaic = Mosaic(GRID)
    mosaic.add(Window((3, 0, 0), SHAPE), torch.full(SHAPE, 1.0))
    mosaic.add(Window((13, 0, 6), SHAPE), torch.full(SHAPE, -1.0))
    areas = {
        (face.window.start, face.axis, face.direction): face.area for face in mosaic.open_faces()
    }
    assert areas == {
        ((3, 0, 0), 0, -1): 96,
        ((3, 0, 0), 0, 1): 12 * 6,  # columns 6 and 7 are known beyond
        ((3, 0, 0), 2, 1): 120,
    }


def test_what_is_not_known_reads_as_zero() -> None:
    mosaic = Mosaic(GRID)
    assert mosaic.known() is None
    assert not mosaic.read(Window((0, 0, 0), SHAPE)).any()
    mosaic.add(Window((0, 0, 0), SHAPE), torch.full(SHAPE, 3.0))
    mosaic.add(Window((20, 0, 6), SHAPE), torch.full(SHAPE, 2.0))
    read = mosaic.read(Window((8, -1, 2), SHAPE))  # it begins outside the scan
    assert (read[:2, 1:, :6] == 3).all()
    assert read.sum() == 3 * 2 * 11 * 6
    known = mosaic.known()
    assert known is not None
    assert known.data.sum() == 960 * (3 + 2)
    assert known.data.min() == 0


def test_underlay_fills_gaps_only() -> None:
    mosaic = Mosaic(GRID)
    mosaic.add(Window((5, 0, 2), SHAPE), torch.full(SHAPE, 3.0))
    mosaic.underlay(Window((0, 0, 0), (8, 12, 14)), torch.full((8, 12, 14), 2.0))
    assert mosaic.volume is not None
    logits = mosaic.volume.data[0]
    assert logits.shape == (15, 12, 14)
    assert (logits[5:, :, 2:10] == 3).all()
    assert (logits[:5] == 2).all()
    assert (logits[8:, :, 10:] == OUTSIDE_LOGIT).all()
