"""Interpolation axis by axis says what ITK says."""

import numpy as np
import pytest
import torch

from neurosam3d.separable import is_separable, sample_linearly
from neurosam3d.volume import _sample

SHAPE = (7, 5, 6)


def index_map(
    order: tuple[int, int, int], steps: tuple[float, ...], offsets: tuple[float, ...]
) -> np.ndarray:
    """Return a map whose grid axis `j` runs along the volume's axis `order[j]`."""
    mapping = np.eye(4)
    mapping[:3, :3] = 0
    for axis, (source, step) in enumerate(zip(order, steps, strict=True)):
        mapping[source, axis] = step
    mapping[:3, 3] = offsets
    return mapping


@pytest.mark.parametrize(
    ("order", "steps", "offsets", "shape"),
    [
        ((0, 1, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), SHAPE),
        ((0, 1, 2), (0.4, 1.7, 1.0), (-0.3, 0.2, 0.0), (15, 3, 6)),
        ((2, 0, 1), (-0.5, 0.25, -0.8), (0.0, 4.0, 5.25), (11, 26, 6)),
        ((1, 0, 2), (0.5, 0.5, 0.5), (-0.5, -0.5, -0.5), (12, 16, 13)),  # to the very borders
        ((0, 2, 1), (1.3, 2.0, 0.7), (-4.0, -1.0, -3.0), (12, 9, 14)),  # and beyond them
        ((0, 1, 2), (0.5, 0.5, 0.5), (40.0, 0.0, 0.0), (3, 4, 5)),  # nothing is inside
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_agrees_with_itk(order, steps, offsets, shape, dtype) -> None:
    data = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=dtype)
    mapping = index_map(order, steps, offsets)
    assert is_separable(mapping)
    found = sample_linearly(data, mapping, shape, fill=-9.0)
    expected = np.stack([_sample(one.numpy(), mapping, shape, "linear", -9.0) for one in data])
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=2e-6)


def test_a_volume_of_one_slice_and_one_value() -> None:
    data = torch.full((1, 1, 4, 3), 2.5)
    found = sample_linearly(data, np.diag([0.3, 0.5, 1.0, 1.0]), (2, 7, 3), fill=0.0)
    assert (found == 2.5).all()


@pytest.mark.parametrize("place", [(0, 1), (2, 0)])
def test_oblique_and_sheared_maps_are_not_separable(place: tuple[int, int]) -> None:
    mapping = np.eye(4)
    mapping[place] = 1e-3
    assert not is_separable(mapping)
    assert not is_separable(np.diag([1.0, 0.0, 1.0, 1.0]))


def test_what_is_not_finite_stays_where_it_is() -> None:
    data = torch.zeros(1, *SHAPE)
    data[0, 3, 2, 1] = float("inf")
    found = sample_linearly(data, np.diag([0.5, 1.0, 1.0, 1.0]), (13, 5, 6), fill=0.0)
    assert (~found.isfinite()).nonzero()[:, 1].tolist() == [5, 6, 7]
    assert found[0, :4].eq(0).all()
