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


def test_shifted_windows_begin_and_end_with_parts():
    covered = torch.zeros(7, 6, 5, dtype=torch.long)
    sides = set()
    for region, counts in window_regions((7, 6, 5), 4, shift=1):
        part = covered[region]
        sides |= {tuple(s // n for s, n in zip(part.shape, counts, strict=True))}
        covered[region] += 1
    assert torch.equal(covered, torch.ones_like(covered))
    assert sides == {(d, h, w) for d in (1, 4, 2) for h in (1, 4) for w in (1, 4)}
    (first, _), *_, (last, counts) = window_regions((2, 9, 2), 4, shift=1)
    assert first == (slice(0, 1), slice(0, 1), slice(0, 1))
    assert last == (slice(1, 2), slice(1, 9), slice(1, 2))
    assert counts == (1, 2, 1)


def test_split_windows_keeps_positions():
    x = torch.arange(4 * 6 * 2).reshape(1, 4, 6, 2, 1)
    windows = split_windows(x, (2, 3, 1))
    assert windows.shape == (6, 2, 2, 2, 1)
    # Window 4 is the second along d and the second along h.
    assert torch.equal(windows[4, ..., 0], x[0, 2:4, 2:4, :, 0])
    assert torch.equal(merge_windows(windows, (2, 3, 1)), x)
