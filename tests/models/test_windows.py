"""Windows against slices of the grid they are cut from."""

import torch

from neurosam3d.models.windows import merge_windows, split_windows, window_regions


def test_window_regions_cover_each_token_once():
    covered = torch.zeros(5, 6, 2, dtype=torch.long)
    for region, counts in window_regions((5, 6, 2), 3):
        part = covered[region]
        assert all(side % count == 0 for side, count in zip(part.shape, counts, strict=True))
        covered[region] += 1
    assert torch.equal(covered, torch.ones_like(covered))


def test_split_windows_keeps_positions():
    x = torch.arange(4 * 6 * 2).reshape(1, 4, 6, 2, 1)
    windows = split_windows(x, (2, 3, 1))
    assert windows.shape == (6, 2, 2, 2, 1)
    # Window 4 is the second along d and the second along h.
    assert torch.equal(windows[4, ..., 0], x[0, 2:4, 2:4, :, 0])
    assert torch.equal(merge_windows(windows, (2, 3, 1)), x)
