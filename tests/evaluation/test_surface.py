"""Surfaces: where their pieces lie, in which order, and how large they are together."""

import numpy as np
import pytest

from neurosam3d.evaluation.foreground_box import MaskPair, find_foreground
from neurosam3d.evaluation.surface import find_surface, measure_surfaces

SPACING = (0.7, 1.9, 3.1)


def test_single_voxel_has_eight_cells_around_it() -> None:
    mask = np.zeros((4, 6, 5), bool)
    mask[1, 3, 2] = True
    surface = find_surface(find_foreground(mask), spacing=SPACING)
    corners = np.indices((2, 2, 2)).reshape(3, -1).T + np.array([1, 3, 2])
    assert sorted(map(tuple, surface.cells)) == sorted(map(tuple, corners))
    assert surface.areas_mm2 == pytest.approx([surface.areas_mm2[0]] * 8)


def test_way_of_storing_makes_no_difference() -> None:
    mask = np.random.default_rng(2).random((7, 5, 9)) < 0.3
    expected = find_surface(find_foreground(mask), spacing=SPACING)
    by_cell = {tuple(c): area for c, area in zip(expected.cells, expected.areas_mm2, strict=True)}
    for stored in (
        np.asfortranarray(mask),
        np.ascontiguousarray(mask.transpose(1, 0, 2)).transpose(1, 0, 2),
        np.ascontiguousarray(mask.transpose(1, 2, 0)).transpose(2, 0, 1),
        np.ascontiguousarray(mask[::-1, :, ::-1])[::-1, :, ::-1],
        mask * np.float32(2.5) - 1,
    ):
        found = find_surface(find_foreground(stored), spacing=SPACING)
        assert len(found.cells) == len(by_cell)
        for cell, area in zip(found.cells, found.areas_mm2, strict=True):
            assert by_cell[tuple(cell)] == pytest.approx(area)


def test_pieces_are_ordered_by_distance() -> None:
    rng = np.random.default_rng(3)
    masks = MaskPair(*(rng.random((2, 7, 5, 9)) < 0.05))
    for surface in measure_surfaces(masks, spacing=SPACING):
        assert (np.diff(surface.distances_mm) >= 0).all()
        assert surface.area_within(np.inf) == pytest.approx(surface.area_mm2)
        half = surface.percentile_mm(50)
        assert surface.area_within(half) >= surface.area_mm2 / 2
        assert surface.area_within(np.nextafter(half, 0)) < surface.area_mm2 / 2
        weighted = (surface.distances_mm * surface.areas_mm2).sum()
        assert surface.integral_mm3() == pytest.approx(weighted)


def test_first_surface_is_seen_from_the_second() -> None:
    small, large = np.zeros((2, 6, 5, 12), bool)
    small[2, 2, 1] = True
    large[2, 2, 1:9] = True  # 7 voxels farther
    from_small, from_large = measure_surfaces(MaskPair(small, large), spacing=SPACING)
    assert from_small.distances_mm.max() < from_large.distances_mm.max() == pytest.approx(7 * 3.1)
