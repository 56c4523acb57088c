"""Where first windows lie."""

import numpy as np
import torch

from neurosam3d.inference.object_prompts import ObjectPrompts, PlacedPrompts, place_prompts
from neurosam3d.inference.opening import first_window, prompt_extent, shared_windows
from neurosam3d.inference.windows import Window
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.volume import Volume

SCAN = WorkingScan(
    Volume(torch.zeros(1, 60, 50, 40), np.diag([2.0, 1.0, 1.0, 1.0])),
    spacing=(1.0, 1.0, 1.0),
    intensity="none",
)  # 120 x 50 x 40 voxels of 1 mm
ROI = (20, 20, 20)


def placed(**prompts: object) -> PlacedPrompts:
    return place_prompts(ObjectPrompts(**prompts), SCAN.volume.grid)  # type: ignore[arg-type]


def window(prompts: PlacedPrompts, *, alone: bool = False) -> Window | None:
    return first_window(prompts, SCAN, ROI, alone=alone)


def middle(opened: Window | None) -> list[float]:
    """Return the middle of a window in voxels of the scan."""
    assert opened is not None
    index = np.add(opened.start, (np.array(opened.shape) - 1) / 2)
    return SCAN.to_scan(index[None], level=opened.level)[0].round(1).tolist()


def test_points_are_in_the_middle() -> None:
    opened = window(placed(points=[[30, 20, 20], [33, 25, 22], [45, 9, 9]], labels=[1, 1, 0]))
    assert opened is not None
    assert np.abs(np.subtract(middle(opened), [31.5, 22.5, 21])).max() <= 0.5


def test_box_comes_before_mask_before_points() -> None:
    mask = np.zeros((60, 50, 40), dtype=bool)
    mask[10:14, 30:34, 20:24] = True
    box = [[40, 10, 10], [44, 19, 19]]
    point = [[30, 20, 20]]
    for prompts, expected in (
        (placed(points=point, mask=mask, box=box), [42, 14.5, 14.5]),
        (placed(points=point, mask=mask), [11.5, 31.5, 21.5]),
        (placed(points=point, mask=np.zeros((60, 50, 40))), [30, 20, 20]),
        (placed(points=point), [30, 20, 20]),
    ):
        assert np.abs(np.subtract(middle(window(prompts)), expected)).max() <= 0.5


def test_spread_points_leave_the_first_in_the_middle() -> None:
    opened = window(placed(points=[[50, 20, 20], [20, 20, 20]]))
    assert np.abs(np.subtract(middle(opened), [50, 20, 20])).max() <= 0.5


def test_large_box_is_seen_from_as_far_as_needed() -> None:
    box = [[5, 5, 5], [44, 20, 20]]  # 80 mm long
    opened = window(placed(box=box))
    assert opened is not None
    assert opened.level == 2
    assert abs(middle(opened)[0] - 24.5) <= 4  # the other axes hold the whole scan
    alone = window(placed(box=box), alone=True)
    assert alone is not None
    assert alone.level == 0


def test_large_mask_leads_the_way_itself() -> None:
    mask = np.zeros((60, 50, 40), dtype=bool)
    mask[5:45, 5:20, 5:20] = True
    assert window(placed(mask=mask)) is None
    assert window(placed(mask=mask), alone=True) is not None


def test_extent_of_a_thick_slice() -> None:
    low, high = prompt_extent(placed(box=[[7, 8, 9], [7, 8, 9]]), SCAN)
    assert (high - low).tolist() == [1, 0, 0]  # 2 mm are two voxels


def test_objects_share_a_window_that_leaves_room_around_points() -> None:
    objects = [
        placed(points=[[10, 20, 20]]),
        placed(points=[[12, 24, 20]]),  # 4 mm further along each axis
        placed(points=[[25, 20, 20]]),
        placed(box=[[8, 14, 14], [12, 22, 22]]),
        placed(points=[[10, 20, 31]]),  # too near the border of the others' window
    ]
    first, second, third, fourth, fifth = shared_windows(objects, SCAN, ROI)
    assert first is not None
    assert first == second == fourth
    assert third is None
    assert fifth is None
    for prompts in (objects[0], objects[1]):
        reach = np.array([[-5], [4]])
        assert first.holds(SCAN.place(prompts.positive) + reach).all()
