"""Distances between sets of grid points."""

import numpy as np
import pytest

from neurosam3d.evaluation.nearest import nearest_distances

Spacing = tuple[float, float, float]


def plain(points: np.ndarray, others: np.ndarray, spacing: Spacing) -> np.ndarray:
    steps = (points[:, None] - others) * spacing  # (n, m, 3)
    return np.sqrt((steps**2).sum(2)).min(1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.9765625, 3.0, 0.4)])
@pytest.mark.parametrize("side", [3, 12, 90])
def test_equal_to_trying_all_pairs_however_far_apart(spacing: Spacing, side: int) -> None:
    rng = np.random.default_rng(side)
    for _ in range(20):
        points, others = (rng.integers(-side, side, (n, 3)) for n in (60, 25))
        found = nearest_distances(points, others, spacing=spacing)
        np.testing.assert_allclose(found, plain(points, others, spacing), rtol=1e-15)


def test_separate_clusters() -> None:
    points = np.array([[0, 0, 0], [0, 0, 1]])
    found = nearest_distances(points, points + np.array([300, 0, 400]), spacing=(2.0, 1.0, 2.0))
    assert found == pytest.approx([1000, np.hypot(600, 798)])


@pytest.mark.parametrize("side_mm", [0.7, 0.9765625, 1.1, 0.3])
def test_whole_steps_are_not_rounded(side_mm: float) -> None:
    for step in range(9):
        (distance,) = nearest_distances(
            np.array([[0, 0, 0]]), np.array([[0, step, 0]]), spacing=(1.0, side_mm, 2.0)
        )
        assert distance == step * side_mm
