"""Resampling held against the published 3DSAM-adapter, which places its grid by a corner."""

import numpy as np
import pytest
import torch

from neurosam3d.volume import Grid, Volume, resample, resample_to
from tests.reference.golden import Golden
from tests.reference.seeded import seeded_array

GOLDEN = Golden("golden_resampling.npz", "adapter3d")


def scan(name: str) -> Volume:
    voxels = torch.from_numpy(seeded_array("adapter3d/volume", (7, 19, 21)))[None]
    return Volume(voxels, np.diag([*GOLDEN.input(name).tolist(), 1.0]))


def published_grid(volume: Volume) -> Grid:
    """Return its grid of 1 mm: the first corners of both grids coincide, lengths round down."""
    affine = np.eye(4)
    affine[:3, 3] = (1 - np.array(volume.spacing)) / 2
    d, h, w = np.floor(np.round(np.multiply(volume.shape, volume.spacing), 6)).astype(int).tolist()
    return Grid((d, h, w), affine)


@pytest.mark.parametrize("name", ["resample_iso", "resample_aniso"])
def test_sampling_equals_the_published_one_on_its_grid(name):
    volume = scan(name)
    result = resample_to(volume, published_grid(volume), mode="linear")
    GOLDEN.check(name, result.data[0])


@pytest.mark.parametrize("name", ["resample_iso", "resample_aniso"])
def test_our_grid_differs_by_less_than_half_a_voxel_in_place_and_length(name):
    ours, published = resample(scan(name), (1, 1, 1)).grid, published_grid(scan(name))
    assert np.abs(ours.affine - published.affine).max() < 0.5
    longer = np.subtract(ours.shape, published.shape)
    assert longer.min() >= 0
    assert longer.max() == 1
