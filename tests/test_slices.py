import pytest
import torch

from neurosam3d.axes import swap_slices
from neurosam3d.slices import (
    AXES,
    Axis,
    axis_order,
    from_slices,
    in_slice_order,
    points_from_slices,
    points_to_slices,
    to_slices,
)

SCAN = torch.arange(2 * 3 * 5).reshape(1, 2, 3, 5)  # R 2, A 3, S 5


@pytest.mark.parametrize(
    ("axis", "shape", "index", "expected"),
    [
        ("axial", (5, 3, 2), (4, 2, 1), SCAN[0, 1, 2, 4]),
        ("coronal", (3, 5, 2), (2, 4, 1), SCAN[0, 1, 2, 4]),
        ("sagittal", (2, 5, 3), (1, 4, 2), SCAN[0, 1, 2, 4]),
    ],
)
def test_slices_rows_and_columns_follow_their_axes(
    axis: Axis, shape: tuple[int, ...], index: tuple[int, ...], expected: torch.Tensor
) -> None:
    slices = to_slices(SCAN, axis)
    assert slices.shape == shape == in_slice_order(SCAN.shape[1:], axis)
    assert slices[index] == expected


def test_axial_slices_are_those_of_the_networks_that_know_slices() -> None:
    assert torch.equal(to_slices(SCAN, "axial"), swap_slices(SCAN)[0])


@pytest.mark.parametrize("axis", AXES)
def test_slices_come_back(axis: Axis) -> None:
    slices = to_slices(SCAN, axis)
    assert torch.equal(from_slices(slices, axis), SCAN[0])
    masks = torch.stack([slices, -slices], dim=1)  # (N, 2, H, W)
    assert torch.equal(from_slices(masks, axis), torch.stack([SCAN[0], -SCAN[0]]))


@pytest.mark.parametrize("axis", AXES)
def test_points_name_the_same_voxels_in_slices(axis: Axis) -> None:
    points = torch.tensor([[0, 2, 4], [1, 0, 3]])
    slices, inside = points_to_slices(points, axis)
    found = to_slices(SCAN, axis)[slices, inside[:, 1], inside[:, 0]]
    assert torch.equal(found, SCAN[0][tuple(points.T)])
    assert torch.equal(points_from_slices(slices, inside, axis), points)


def test_points_between_voxels_stay_between_them() -> None:
    back = points_from_slices(torch.tensor([3]), torch.tensor([[0.5, 1.25]]), "coronal")
    assert back.tolist() == [[0.5, 3.0, 1.25]]


def test_an_unknown_axis_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="axial, coronal, sagittal, got 'oblique'"):
        axis_order("oblique")  # type: ignore[arg-type]
