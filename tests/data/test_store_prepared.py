"""Prepared images and objects: where their voxels lie, and which of them are drawn."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine

from neurosam3d.data.case import Case
from neurosam3d.data.sampler import SampleKey
from neurosam3d.data.store.chunks import read_chunks, write_chunks
from neurosam3d.data.store.prepared import ObjectMask, Preparation, PreparedImage
from neurosam3d.volume import Volume, crop_or_pad, read_volume, resample, to_canonical

SPACING = (1.5, 1.5, 1.5)


def prepare(case: Case, spacing: tuple[float, float, float] | None = SPACING) -> ObjectMask:
    return Preparation(spacing, "none").prepare_object(case.label, image=case.image)


def voxels_of(mask: ObjectMask) -> np.ndarray:
    return mask.voxels[(slice(None),) * 3]


@pytest.mark.parametrize("spacing", [SPACING, None])
def test_an_object_mask_is_the_label_on_the_grid_of_its_image(toy_tree, spacing):
    case = toy_tree.case("pair")
    mask = prepare(case, spacing)
    label = to_canonical(read_volume(case.label))
    expected = label if spacing is None else resample(label, spacing, mode="nearest")
    placed = torch.zeros_like(expected.data)
    d, h, w = (slice(a, a + n) for a, n in zip(mask.start, mask.shape, strict=True))
    placed[0, d, h, w] = torch.from_numpy(voxels_of(mask))
    assert torch.equal(placed, expected.data)
    for axis in range(3):  # no empty slice at the border of the box
        assert voxels_of(mask).take(0, axis).any()
        assert voxels_of(mask).take(-1, axis).any()


def test_foreground_voxels_are_all_there_in_order(toy_tree):
    mask = prepare(toy_tree.case("scattered"))
    assert np.array_equal(mask.foreground, np.flatnonzero(voxels_of(mask)))
    assert mask.num_foreground == voxels_of(mask).sum()
    assert voxels_of(mask)[mask.center] == 1


def test_every_voxel_of_an_object_is_equally_likely(toy_tree):
    mask = prepare(toy_tree.case("scattered"), (4.0, 4.0, 4.0))
    torch.manual_seed(0)
    draws = torch.tensor([mask.draw_voxel() for _ in range(400 * mask.num_foreground)])
    voxels, counts = draws.unique(dim=0, return_counts=True)
    assert np.array_equal(voxels, np.argwhere(voxels_of(mask)))
    assert (counts / 400 - 1).abs().max() < 0.25  # five standard deviations


def thin(case: Case, where: tuple) -> np.ndarray:
    """Replace a label by a box of voxels; returns their positions, (N, 3)."""
    old = nibabel.load(case.label)
    label = np.zeros(old.shape, np.uint8)
    label[where] = 1
    nibabel.save(nibabel.Nifti1Image(label, old.affine), case.label)
    return apply_affine(old.affine, np.argwhere(label))


@pytest.mark.parametrize(
    ("where", "spacing"),
    [
        (np.s_[7, 7, 7], (9.0, 9.0, 9.0)),  # 3 mm^3
        (np.s_[5:7, 8:9, 4:6], (4.0, 5.0, 6.0)),  # 12 mm^3
        (np.s_[6:20, 5:21, 10], (1.5, 1.5, 5.0)),  # one slice
        (np.s_[29, 25, 19], (9.0, 9.0, 9.0)),  # in a corner, beyond the last new voxel
    ],
)
def test_an_object_between_the_voxels_is_kept_where_it_lies(own_case, make_dataset, where, spacing):
    points = thin(own_case, where)
    label = to_canonical(read_volume(own_case.label))
    assert not resample(label, spacing, mode="nearest").data.any()  # so it is between them
    mask = prepare(own_case, spacing)
    grid = Preparation(spacing, "none").prepare_image(own_case.image).grid
    kept = apply_affine(grid.affine, np.argwhere(voxels_of(mask)) + mask.start)
    voxels = apply_affine(grid.affine, np.argwhere(np.ones(grid.shape)))
    nearest = np.linalg.norm(points[:, None] - voxels, axis=-1).min(axis=1)  # (N,)
    distances = np.linalg.norm(points[:, None] - kept, axis=-1)  # (N, kept)
    assert np.allclose(distances.min(axis=1), nearest)
    assert np.isclose(distances, nearest[:, None]).any(axis=0).all()  # nothing else is kept
    sample = make_dataset([own_case], spacing=spacing, training=True)[SampleKey(0, seed=4)]
    assert sample["label"].any()


def test_an_object_that_resampling_finds_is_left_as_it_is(toy_tree):
    case = toy_tree.case("scattered")
    label = resample(to_canonical(read_volume(case.label)), (4.0, 4.0, 4.0), mode="nearest")
    assert prepare(case, (4.0, 4.0, 4.0)).num_foreground == label.data.sum()


# Crops, from memory and from a file, on a volume larger than a chunk along two axes

SHAPE = (70, 33, 20)


@pytest.fixture(params=["memory", "file"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Volume, PreparedImage]:
    data = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    affine = np.array([[0, 1.2, 0, 4], [1.5, 0.1, 0, -7], [0, 0, 3, 2], [0, 0, 0, 1.0]])
    voxels = data[0].numpy()
    if request.param == "file":
        write_chunks(tmp_path / "image", {"voxels": voxels}, about={})
        voxels = read_chunks(tmp_path / "image")[0]["voxels"]
    return Volume(data, affine), PreparedImage(voxels, affine)


@pytest.mark.parametrize(
    ("size", "center"),
    [
        ((16, 12, 10), (35, 16, 10)),
        ((70, 33, 20), (35, 16, 10)),  # all of it
        ((40, 40, 40), (0, 0, 0)),  # over the first corner
        ((9, 7, 5), (69, 32, 19)),  # over the last one
        ((100, 8, 64), (32, 31, 2)),  # over both ends, across a chunk's border
        ((4, 4, 4), (90, 16, 10)),  # outside
    ],
)
def test_a_crop_is_that_of_the_whole_volume(image, size, center):
    volume, prepared = image
    expected = crop_or_pad(volume, size, center=center, fill=-3.5)
    crop = prepared.crop(size, center=center, fill=-3.5)
    assert torch.equal(crop.data, expected.data)
    assert np.array_equal(crop.affine, expected.affine)
