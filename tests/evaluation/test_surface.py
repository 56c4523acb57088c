"""Area of the surface inside one cell, for every pattern of its corners."""

import numpy as np
import pytest
from surface_distance import lookup_tables

from neurosam3d.evaluation.surface import measure_surfaces


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.9, 3.1), (2.3, 0.4, 1.1)])
def test_area_of_every_pattern_equals_the_reference_table(
    spacing: tuple[float, float, float],
) -> None:
    # Eight voxels in a box of background: each of the 27 cells is cut by some of them.
    reference = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    kernel = np.array(lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL)
    for code in range(1, 256):
        mask = np.array([code >> i & 1 for i in range(8)], bool).reshape(2, 2, 2)
        padded = np.pad(mask, 1)
        cells = np.lib.stride_tricks.sliding_window_view(padded, (2, 2, 2))  # (3, 3, 3, 2, 2, 2)
        expected = reference[(cells * kernel).sum((3, 4, 5))].sum()
        surface, _ = measure_surfaces(mask, mask, spacing=spacing)
        assert surface.areas_mm2.sum() == pytest.approx(expected)
        assert not surface.distances_mm.any()


def test_pieces_are_ordered_by_distance() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 7, 5, 9)) < 0.3
    for surface in measure_surfaces(first, second, spacing=(0.7, 1.9, 3.1)):
        assert (np.diff(surface.distances_mm) >= 0).all()
        assert surface.area_within(np.inf) == pytest.approx(surface.areas_mm2.sum())
        half = surface.percentile_mm(50)
        assert surface.area_within(half) >= surface.areas_mm2.sum() / 2
