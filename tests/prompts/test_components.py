"""Largest connected components."""

import pytest
import torch

from neurosam3d.prompts import largest_component


def test_every_item_keeps_its_own_largest_component() -> None:
    mask = torch.zeros(3, 1, 4, 5, 6, dtype=torch.bool)
    mask[0, 0, 0, 0, :2] = True
    mask[0, 0, 2:, 2:, 2:] = True
    mask[1, 0, 1, 1, 1] = mask[1, 0, 2, 2, 2] = mask[1, 0, 3, 3, 3] = True  # joined by corners
    mask[1, 0, 0, 4, 4:] = True
    kept = largest_component(mask)
    expected = mask.clone()
    expected[0, 0, 0] = False
    expected[1, 0, 0] = False
    assert kept.dtype == torch.bool
    assert torch.equal(kept, expected)


def test_one_volume_of_numbers_counts_as_foreground_where_positive() -> None:
    mask = torch.zeros(3, 4, 5, dtype=torch.int16)
    mask[0, 0, 0] = -1
    mask[1, 2, 1:4] = 7
    mask[0, 0, 4] = 2
    kept = largest_component(mask)
    assert kept.shape == mask.shape
    assert kept.nonzero().tolist() == [[1, 2, 1], [1, 2, 2], [1, 2, 3]]


def test_of_equal_components_the_first_is_kept() -> None:
    mask = torch.zeros(3, 4, 5, dtype=torch.bool)
    mask[0, 3, 4] = mask[2, 0, 0] = True
    assert largest_component(mask).nonzero().tolist() == [[0, 3, 4]]


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"mask must be .* got \(2, 3\)"):
        largest_component(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"got \(1, 2, 3, 4, 5\)"):
        largest_component(torch.ones(1, 2, 3, 4, 5))
