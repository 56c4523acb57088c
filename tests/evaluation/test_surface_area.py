"""Area of the surface inside one cell, for every pattern of its corners."""

import numpy as np
import pytest
from surface_distance import lookup_tables

from neurosam3d.evaluation.surface_area import cell_areas


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.9, 3.1), (2.3, 0.4, 1.1)])
def test_area_of_every_pattern_equals_the_reference_table(
    spacing: tuple[float, float, float],
) -> None:
    reference = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    kernel = np.array(lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL).ravel()
    for code, area in enumerate(cell_areas(spacing)):
        corners = [code >> i & 1 for i in range(8)]
        assert area == pytest.approx(reference[int(kernel @ corners)])


def test_flat_and_corner_pieces_by_hand() -> None:
    areas = cell_areas((2.0, 3.0, 5.0))
    assert areas[0] == areas[255] == 0
    assert areas[0b00001111] == pytest.approx(3 * 5)  # halves along the first axis
    assert areas[0b01010101] == pytest.approx(2 * 3)  # halves along the last axis
    edges = np.array([[-1.0, 1.5, 0], [-1.0, 0, 2.5]])  # one corner: half the edges' cross product
    assert areas[1] == pytest.approx(np.linalg.norm(np.cross(*edges)) / 2)
