"""Geometry: grids, orientation, resampling, cropping, and the way back."""

import itertools

import numpy as np
import pytest
import torch

from neurosam3d.volume import (
    Grid,
    Volume,
    crop_or_pad,
    resample,
    resample_to,
    restore,
    splat_foreground,
    to_canonical,
)

SHAPE = (7, 5, 9)
SPACING = (0.8, 2.0, 1.25)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def affine_of(matrix: np.ndarray, spacing=SPACING, origin=(-31.0, 12.5, 7.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing
    affine[:3, 3] = origin
    return affine


OBLIQUE = affine_of(rotation((12.0, -25.0, 33.0)))
FLIPPED = affine_of(np.diag([-1.0, 1.0, -1.0]))
PERMUTED = affine_of(np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))
SHEARED = affine_of(np.array([[1.0, 0.2, 0.0], [0.0, 1.0, -0.3], [0.1, 0.0, 1.0]]))
AFFINES = {"oblique": OBLIQUE, "flipped": FLIPPED, "permuted": PERMUTED, "sheared": SHEARED}


@pytest.fixture(params=AFFINES)
def affine(request: pytest.FixtureRequest) -> np.ndarray:
    return AFFINES[request.param]


def numbered(shape=SHAPE, affine=OBLIQUE, channels: int = 1) -> Volume:
    """A volume whose every voxel has a value of its own."""
    count = channels * int(np.prod(shape))
    return Volume(torch.arange(1, count + 1, dtype=torch.int32).view(channels, *shape), affine)


def world(grid: Grid) -> np.ndarray:
    """Position of every voxel, (3, D, H, W)."""
    index = np.indices(grid.shape).reshape(3, -1)
    points = grid.affine[:3, :3] @ index + grid.affine[:3, 3:]
    return points.reshape(3, *grid.shape)


def ramp(grid: Grid) -> Volume:
    """A volume whose value is linear in world space, so that linear sampling is exact."""
    x, y, z = world(grid)
    return Volume(torch.from_numpy(2 * x - 3 * y + 0.5 * z)[None], grid.affine)


def places(volume: Volume) -> dict[int, tuple[float, ...]]:
    """World position of every value of a numbered volume."""
    points = world(volume.grid).reshape(3, -1).round(6).T + 0.0  # no negative zeros
    return dict(zip(volume.data[0].flatten().tolist(), map(tuple, points), strict=True))


def test_grid_reads_spacing_and_orientation_off_the_affine():
    assert numbered(affine=OBLIQUE).spacing == pytest.approx(SPACING)
    assert numbered(affine=FLIPPED).orientation == "LAI"
    # Axis 0 runs along +y (A), axis 1 along -z (I), axis 2 along -x (L).
    assert numbered(affine=PERMUTED).orientation == "AIL"


def test_grid_keeps_its_own_read_only_affine():
    matrix = FLIPPED.copy()
    grid = Grid(SHAPE, matrix)
    matrix[0, 3] = 999
    assert grid.affine[0, 3] == FLIPPED[0, 3]
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 1


def test_same_as_measures_corners_in_millimetres():
    grid = Grid(SHAPE, OBLIQUE)
    moved = OBLIQUE.copy()
    moved[1, 3] += 0.02
    assert grid.same_as(Grid(SHAPE, OBLIQUE + 0.0))
    assert not grid.same_as(Grid(SHAPE, moved))
    assert grid.same_as(Grid(SHAPE, moved), tolerance_mm=0.03)
    assert not grid.same_as(Grid((7, 9, 5), OBLIQUE))
    stretched = OBLIQUE @ np.diag([1, 1, 1.001, 1])  # 0.01 mm at the far corner: 8 x 1.25 x 0.001
    assert grid.same_as(Grid(SHAPE, stretched), tolerance_mm=0.0101)
    assert not grid.same_as(Grid(SHAPE, stretched), tolerance_mm=0.0099)


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((4, 0, 5), np.eye(4), r"voxels along three axes, got shape \(4, 0, 5\)"),
        ((4, 5), np.eye(4), "voxels along three axes"),
        (SHAPE, np.diag([1, 1, np.nan, 1]), "4x4 matrix of finite numbers"),
        (SHAPE, np.eye(3), "4x4 matrix"),
        (SHAPE, np.diag([1.0, 0.0, 1.0, 1.0]), "spans three axes"),
        (SHAPE, np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "spans"),
        (SHAPE, np.diag([1.0, 1.0, 1.0, 2.0]), "above 0 0 0 1"),
    ],
)
def test_unfit_grids_are_refused(shape, affine, message):
    with pytest.raises(ValueError, match=message):
        Grid(shape, affine)


def test_tiny_voxels_are_no_singular_affine():
    assert Grid(SHAPE, np.diag([1e-4, 1e-4, 1e-4, 1])).spacing == pytest.approx((1e-4,) * 3)


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 0, 6, 7)])
def test_unfit_volumes_are_refused(shape):
    with pytest.raises(ValueError, match=r"a volume is \(C, D, H, W\)"):
        Volume(torch.zeros(shape), np.eye(4))


ALL_TURNS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize("turn", ALL_TURNS)
def test_every_orientation_becomes_canonical_and_returns(turn):
    tilted = rotation((8.0, -11.0, 5.0)) @ turn
    volume = numbered(affine=affine_of(tilted), channels=2)

    canonical = to_canonical(volume)

    assert canonical.orientation == "RAS"
    assert canonical.data.dtype == torch.int32
    assert places(canonical) == places(volume)
    back = restore(canonical, volume.grid)
    assert torch.equal(back.data, volume.data)
    assert back.grid.same_as(volume.grid, tolerance_mm=1e-9)


def test_canonical_known_answer():
    volume = numbered(affine=PERMUTED)  # AIL
    canonical = to_canonical(volume)
    assert canonical.shape == (9, 7, 5)
    expected = volume.data.flip(2, 3).permute(0, 3, 1, 2)  # A I L -> R A S
    assert torch.equal(canonical.data, expected)


def test_resample_covers_the_same_field_of_view():
    volume = numbered((20, 10, 13), affine_of(np.eye(3)))
    result = resample(volume, (1.6, 1.0, 2.6))
    assert result.shape == (10, 20, 6)  # 16 mm / 1.6, 20 mm / 1, 16.25 mm / 2.6
    assert result.spacing == pytest.approx((1.6, 1.0, 2.6))
    centre_old = volume.affine @ [9.5, 4.5, 6.0, 1]
    centre_new = result.affine @ [4.5, 9.5, 2.5, 1]
    assert np.allclose(centre_old, centre_new)


def test_resample_is_exact_on_linear_intensities(affine):
    volume = ramp(Grid((12, 9, 10), affine))
    result = resample(volume, (1.1, 1.3, 0.9))
    inner = (slice(None), *(slice(2, -2),) * 3)  # the outermost half voxel repeats the edge
    assert torch.allclose(result.data[inner], ramp(result.grid).data[inner])


def test_resample_does_not_depend_on_axis_direction():
    torch.manual_seed(0)
    volume = Volume(torch.rand(1, 11, 8, 6), FLIPPED)
    once = to_canonical(resample(volume, (1.5, 1.5, 1.5)))
    other = resample(to_canonical(volume), (1.5, 1.5, 1.5))
    assert once.grid.same_as(other.grid, tolerance_mm=1e-9)
    assert torch.allclose(once.data, other.data, atol=1e-6)


def test_resampling_up_leaves_no_fill_at_the_border():
    volume = Volume(torch.full((1, 5, 6, 7), 40.0), OBLIQUE)
    for spacing in ((0.5, 0.7, 0.9), (1.5, 1.5, 1.5), (3.1, 2.9, 4.7)):
        assert (resample(volume, spacing).data == 40).all()


def test_resample_never_loses_an_axis():
    assert resample(numbered((1, 9, 9)), (4.0, 4.0, 4.0)).shape[0] == 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0)])
def test_resample_refuses_unfit_spacing(spacing):
    with pytest.raises(ValueError, match="three positive numbers in mm"):
        resample(numbered(), spacing)


def test_nearest_makes_no_new_label_and_keeps_the_type(affine):
    torch.manual_seed(1)
    labels = torch.tensor([0, 3, 7, 200], dtype=torch.uint8)[torch.randint(4, (1, 9, 8, 6))]
    result = resample(Volume(labels, affine), (0.7, 0.7, 0.7), mode="nearest")
    assert result.data.dtype == torch.uint8
    assert set(result.data.unique().tolist()) == {0, 3, 7, 200}


def test_nearest_takes_the_closest_voxel(affine):
    source = numbered((8, 7, 6), affine)
    matrix = rotation((3.0, 20.0, -9.0))
    centre = (affine @ [3.5, 3.0, 2.5, 1])[:3] - matrix * (1.1, 0.6, 1.9) @ [2.0, 4.0, 1.5]
    target = Grid((5, 9, 4), affine_of(matrix, (1.1, 0.6, 1.9), centre))
    sampled = resample_to(source, target, mode="nearest").data[0].numpy()
    index = np.linalg.inv(affine) @ np.vstack([world(target).reshape(3, -1), np.ones(5 * 9 * 4)])
    last = np.array(source.shape)[:, None] - 0.5
    inside = ((index[:3] >= -0.5) & (index[:3] < last)).all(axis=0)
    closest = np.rint(index[:3, inside]).astype(int)
    expected = np.zeros(5 * 9 * 4, dtype=np.int32)
    expected[inside] = source.data[0].numpy()[tuple(closest)]
    assert inside.sum() > 100
    assert np.array_equal(sampled.ravel(), expected)


@pytest.mark.parametrize("affine", [OBLIQUE, affine_of(np.eye(3))])
def test_nearest_breaks_ties_one_way(affine):
    """Doubling the voxels puts every sample half-way between two old ones."""
    volume = numbered((16, 12, 20), affine)
    halved = resample(volume, [2 * step for step in SPACING], mode="nearest")
    assert torch.equal(halved.data, volume.data[:, 1::2, 1::2, 1::2])


def test_booleans_stay_booleans():
    mask = Volume(torch.rand(1, 6, 5, 4) > 0.5, OBLIQUE)
    assert resample(mask, (1.0, 1.0, 1.0), mode="nearest").data.dtype == torch.bool
    assert resample(mask, (1.0, 1.0, 1.0)).data.dtype == torch.float32


def test_resample_to_fills_outside_and_keeps_channels_apart():
    volume = Volume(torch.stack([torch.full((4, 5, 6), 1.0), torch.full((4, 5, 6), 2.0)]), FLIPPED)
    far = Grid((3, 4, 5), affine_of(np.eye(3), origin=(900.0, 0.0, 0.0)))
    assert (resample_to(volume, far, mode="linear", fill=-5).data == -5).all()
    near = resample_to(volume, volume.grid, mode="linear").data
    assert (near[0] == 1).all()
    assert (near[1] == 2).all()


def test_splatting_marks_the_voxels_nearest_to_the_foreground(affine):
    torch.manual_seed(2)
    mask = Volume((torch.rand(1, 7, 5, 9) > 0.9).to(torch.int16) * 300, affine)
    grid = to_canonical(mask).grid.with_spacing((3.0, 3.5, 2.9))
    grid = grid.window((-0.13, 0.07, 0.19), grid.shape)  # no voxel lies half-way between two
    result = splat_foreground(mask, grid)
    # By hand: the new voxel with the smallest distance to each old one, in new voxels.
    points = world(mask.grid)[:, mask.data[0].numpy() > 0]  # (3, N)
    index = np.linalg.inv(grid.affine) @ np.vstack([points, np.ones(points.shape[1])])
    voxels = np.indices(grid.shape).reshape(3, -1)
    distances = np.linalg.norm(voxels[:, :, None] - index[:3, None, :], axis=0)
    expected = torch.zeros(int(np.prod(grid.shape)), dtype=torch.uint8)
    expected[np.unique(distances.argmin(axis=0))] = 1
    assert torch.equal(result.data, expected.view(1, *grid.shape))
    assert result.grid.same_as(grid)


def test_splatting_keeps_what_lies_outside_at_the_border():
    mask = Volume(torch.zeros(1, 7, 5, 9), FLIPPED)
    mask.data[0, 6, 0, 4] = 1
    result = splat_foreground(mask, mask.grid.window((1, 2, 3), (3, 2, 4)))
    assert result.data[0].nonzero().tolist() == [[2, 0, 1]]
    mask.data.zero_()
    assert not splat_foreground(mask, mask.grid).data.any()


def test_crop_or_pad_puts_the_centre_at_half_the_shape():
    volume = numbered((6, 7, 8))
    crop = crop_or_pad(volume, (4, 3, 10), center=(1, 6, 2), fill=-1)
    assert crop.shape == (4, 3, 10)
    assert crop.data[0, 2, 1, 5] == volume.data[0, 1, 6, 2]
    assert (crop.data[0, 0] == -1).all()  # one voxel outside along D
    assert (crop.data[0, :, 2] == -1).all()
    assert (crop.data[0, 1:, :2, 3:9] == volume.data[0, :3, 5:, :6]).all()
    kept = {value: place for value, place in places(volume).items() if value in crop.data}
    assert {v: p for v, p in places(crop).items() if v > 0} == kept


def test_crop_or_pad_defaults_to_the_middle():
    crop = crop_or_pad(numbered((6, 7, 8)), (2, 9, 8))
    assert torch.equal(crop.data[0, :, 1:8], numbered((6, 7, 8)).data[0, 2:4])
    assert (crop.data[0, :, [0, 8]] == 0).all()


def test_crop_wholly_outside_is_all_fill():
    crop = crop_or_pad(numbered(), (3, 3, 3), center=(40, -20, 3), fill=9)
    assert (crop.data == 9).all()


def test_a_crop_touches_nothing_but_its_own_voxels():
    endless = Volume(torch.ones(1, 1, 1, 1).expand(1, 90_000, 80_000, 70_000), OBLIQUE)
    crop = crop_or_pad(endless, (3, 4, 5), center=(0, 79_999, 35_000))
    assert crop.data.sum() == 2 * 3 * 5  # one voxel outside along D and along H


def test_restore_after_flips_permutations_and_crops_is_exact(affine):
    volume = numbered((9, 12, 10), affine, channels=2)
    crop = crop_or_pad(to_canonical(volume), (6, 30, 4), center=(4, 5, 6))
    back = restore(crop, volume.grid, fill=-7)
    inside = back.data != -7
    assert inside.sum() == (crop.data > 0).sum()
    assert torch.equal(back.data[inside], volume.data[inside])
    assert back.data.dtype == torch.int32


def test_restore_survives_an_affine_stored_in_single_precision():
    volume = numbered((9, 12, 10), OBLIQUE)
    stored = Grid(volume.shape, OBLIQUE.astype(np.float32))
    assert torch.equal(restore(volume, stored).data, volume.data)


def test_restore_interpolates_where_grids_are_half_a_voxel_apart():
    volume = Volume(torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 5, 4), np.diag([2.0, 3, 4, 1]))
    grid = volume.grid.window((0.5, 0, 0), (5, 5, 4))
    assert torch.allclose(restore(volume, grid).data[0, :, 0, 0], torch.arange(5) + 0.5)


def test_mask_returns_through_resampling_onto_the_scan(affine):
    grid = Grid((30, 24, 28), affine)
    points = world(grid)
    centre = points[:, 15, 12, 14].reshape(3, 1, 1, 1)
    ball = torch.from_numpy(((points - centre) ** 2).sum(0) < 9.0**2)[None]
    scan = Volume(ball.to(torch.uint8), affine)

    crop = crop_or_pad(
        resample(to_canonical(scan), (0.5, 0.5, 0.5), mode="nearest"), (40, 44, 48), fill=0
    )
    back = restore(crop, scan.grid, mode="nearest")

    assert back.shape == scan.shape
    assert back.data.dtype == torch.uint8
    overlap = 2 * (back.data & scan.data).sum() / (back.data.sum() + scan.data.sum())
    assert overlap > 0.97
