import numpy as np
import pytest

from neurosam3d.inference.sparse_mask import (
    SparseMask,
    bounding_slices,
    clean_mask,
    covered_share,
    mask_iou,
    num_shared,
)


def block(shape: tuple[int, ...], *corners: tuple[int, int]) -> np.ndarray:
    """Return a mask that is true from the first to before the last index along each axis."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(low, high) for low, high in corners)] = True
    return mask


@pytest.mark.parametrize("shape", [(7,), (6, 9), (5, 4, 11), (3, 4, 5, 2)])
def test_what_is_kept_comes_back_bit_for_bit(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(3).random(shape) > 0.7
    sparse = SparseMask.from_array(mask)
    np.testing.assert_array_equal(sparse.dense(shape), mask)
    assert sparse.num_voxels == mask.sum()


def test_a_mask_knows_its_box_in_the_scan() -> None:
    mask = block((6, 8, 5), (1, 4), (2, 3), (0, 5))
    sparse = SparseMask.from_array(mask, start=(10, -2, 100))
    assert sparse.box.tolist() == [[11, 0, 100], [13, 0, 104]]
    assert sparse.shape == (3, 1, 5)
    assert sparse.crop().all()
    assert len(sparse.bits) == 2  # 15 voxels


def test_an_empty_mask_has_no_voxels_and_shares_none() -> None:
    empty = SparseMask.from_array(np.zeros((4, 5, 6), dtype=bool))
    full = SparseMask.from_array(np.ones((4, 5, 6), dtype=bool))
    assert (empty.num_voxels, empty.shape) == (0, (0, 0, 0))
    assert not empty.dense((4, 5, 6)).any()
    assert mask_iou(empty, full) == mask_iou(empty, empty) == covered_share(empty, full) == 0


def test_overlaps_are_counted_by_hand() -> None:
    shape = (8, 6, 7)
    one = SparseMask.from_array(block(shape, (0, 4), (0, 3), (0, 5)))  # 60 voxels
    two = SparseMask.from_array(block(shape, (3, 8), (1, 6), (2, 4)))  # 50 voxels
    apart = SparseMask.from_array(block(shape, (4, 8), (0, 3), (0, 5)))
    assert num_shared(one, two) == num_shared(two, one) == 1 * 2 * 2
    assert mask_iou(one, two) == 4 / (60 + 50 - 4)
    assert covered_share(one, two) == 4 / 60
    assert covered_share(two, one) == 4 / 50
    assert mask_iou(one, apart) == 0


def test_overlaps_equal_those_of_whole_arrays() -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        low = random.integers(0, 6, (2, 3))
        dense = np.zeros((2, 12, 11, 10), dtype=bool)
        for mask, (d, h, w) in zip(dense, low, strict=True):
            mask[d : d + 5, h : h + 4, w : w + 3] = random.random((5, 4, 3)) > 0.4
        one, two = (SparseMask.from_array(mask) for mask in dense)
        shared = (dense[0] & dense[1]).sum()
        assert num_shared(one, two) == shared
        assert mask_iou(one, two) == shared / (dense[0] | dense[1]).sum()


def test_masks_of_too_different_sizes_are_not_compared() -> None:
    large = SparseMask.from_array(np.ones((4, 4, 5), dtype=bool))
    small = SparseMask.from_array(block((4, 4, 5), (0, 2), (0, 4), (0, 5)))
    assert mask_iou(large, small) == mask_iou(large, small, at_least=0.5) == 0.5
    assert mask_iou(large, small, at_least=0.51) == 0


def test_slices_bound_a_mask_of_any_number_of_axes() -> None:
    assert bounding_slices(block((9, 5), (2, 6), (4, 5))) == (slice(2, 6), slice(4, 5))
    assert bounding_slices(np.zeros((3, 2), dtype=bool)) == (slice(0, 0), slice(0, 0))


@pytest.mark.parametrize("axes", [2, 3])
def test_small_holes_are_filled_and_small_islands_removed(axes: int) -> None:
    mask = block((12, 20, 9)[:axes], *[(1, 8)] * axes)
    mask[(slice(3, 5),) + (4,) * (axes - 1)] = False  # a hole of two voxels
    expected = block((12, 20, 9)[:axes], *[(1, 8)] * axes)
    mask[(11, 15, 0)[:axes]] = True  # islands of one voxel and of two, joined by a corner
    mask[(10, 11, 0)[:axes]] = mask[(11, 12, 1)[:axes]] = True
    np.testing.assert_array_equal(clean_mask(mask, min_voxels=3), expected)
    np.testing.assert_array_equal(clean_mask(mask, min_voxels=1), mask)
    kept = clean_mask(mask, min_voxels=2)
    assert kept[(11, 12, 1)[:axes]]
    assert not kept[(11, 15, 0)[:axes]]
    assert not kept[(4,) * axes]


def test_a_pocket_at_the_border_is_no_hole() -> None:
    mask = np.ones((5, 6, 7), dtype=bool)
    mask[0, 3, 3] = mask[2, 2, 2] = False
    cleaned = clean_mask(mask, min_voxels=10)
    assert not cleaned[0, 3, 3]
    assert cleaned[2, 2, 2]


def test_of_islands_that_are_all_small_the_largest_stays() -> None:
    mask = block((9, 6, 5), (0, 2), (0, 1), (0, 1)) | block((9, 6, 5), (5, 8), (3, 4), (2, 3))
    expected = block((9, 6, 5), (5, 8), (3, 4), (2, 3))
    np.testing.assert_array_equal(clean_mask(mask, min_voxels=100), expected)
    assert not clean_mask(np.zeros((3, 4, 5), dtype=bool), min_voxels=100).any()
