"""Slices scaled as by SciPy, without the border that it blackens."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from neurosam3d.slice_zoom import zoom_labels, zoom_slices


@pytest.mark.parametrize("sides", [(23, 12), (5, 40), (9, 14)])
def test_images_and_labels_are_those_of_scipy(sides: tuple[int, int]) -> None:
    generator = np.random.default_rng(3)
    images = generator.random((2, 3, 9, 14)).astype(np.float32)
    labels = generator.integers(0, 9, images.shape).astype(np.uint8)
    factors = (sides[0] / 9, sides[1] / 14)
    scaled = zoom_slices(torch.from_numpy(images), sides)
    assert scaled.dtype == torch.float32
    expected = [[ndimage.zoom(one, factors, order=3) for one in row] for row in images]
    np.testing.assert_allclose(scaled, expected, atol=1e-6)
    nearest = zoom_labels(torch.from_numpy(labels), sides)
    assert nearest.dtype == torch.uint8
    expected = [[ndimage.zoom(one, factors, order=0) for one in row] for row in labels]
    np.testing.assert_array_equal(nearest, expected)


def test_corners_keep_their_places_where_scipy_loses_them() -> None:
    image = torch.arange(512 * 6, dtype=torch.float32).view(512, 6) + 1
    assert not ndimage.zoom(image.numpy(), (224 / 512, 2), order=3)[-1].any()
    scaled = zoom_slices(image, (224, 12))
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert scaled[corner] == pytest.approx(float(image[corner]), rel=1e-4)
        assert zoom_labels(image, (224, 12))[corner] == image[corner]


def test_the_same_sides_change_nothing() -> None:
    image = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(1))
    assert zoom_slices(image, (7, 5)) is image
    assert torch.equal(zoom_labels(image, (7, 5)), image)
