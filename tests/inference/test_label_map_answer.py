"""Label maps brought from the grid that a network worked on to the scan's own."""

import numpy as np
import pytest
import torch

from neurosam3d.inference.label_map_answer import restore_labels
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.volume import Volume

AFFINE = np.diag([-1.0, 1.0, 1.0, 1.0])  # its first axis runs from right to left


def scan_of(spacing: tuple[float, float, float] | None) -> WorkingScan:
    volume = Volume(torch.zeros(1, 10, 7, 9), AFFINE)
    return WorkingScan(volume, spacing=spacing, intensity="none")


@pytest.mark.parametrize("spacing", [None, (4.0, 3.0, 1.0), (0.4, 0.7, 3.5)])
def test_no_label_is_made_up_and_none_lost_at_the_border(
    spacing: tuple[float, float, float] | None,
) -> None:
    scan = scan_of(spacing)
    everywhere = torch.full(scan.grid().shape, 3, dtype=torch.uint8)
    np.testing.assert_array_equal(restore_labels(everywhere, scan), 3)
    halves = everywhere.clone()
    halves[: len(halves) // 2] = 0  # the left half, which is at the end of the scan's first axis
    restored = restore_labels(halves, scan)
    assert restored.dtype == np.uint8
    assert set(np.unique(restored)) == {0, 3}
    assert (restored[:4] == 3).all()
    assert (restored[6:] == 0).all()
