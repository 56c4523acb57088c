"""Layers against the torch modules whose arithmetic they reorder."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurosam3d.models.layers import (
    DropPath,
    LayerNorm3d,
    PatchEmbed3d,
    drop_path_rates,
    from_nested,
    to_nested,
    upsample_trilinear,
)
from neurosam3d.models.mask_decoder3d import MaskUpscaling
from neurosam3d.models.prompt_encoder3d import MaskDownscaling


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_layer_norm_normalises_each_voxel_over_channels():
    norm = LayerNorm3d(5)
    x = 3 + 2 * torch.randn(2, 5, 2, 3, 4)
    y = norm(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 2, 3, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(2, 2, 3, 4))


def test_patch_embedding_is_its_strided_convolution():
    layer = PatchEmbed3d(2, 7, patch_size=4)
    x = torch.randn(2, 2, 8, 12, 4)
    torch.testing.assert_close(layer(x), layer.proj(x).movedim(1, -1), atol=1e-5, rtol=1e-5)


def test_drop_path_leaves_whole_items_out_and_keeps_the_mean():
    branch = torch.randn(4000, 2, 3)
    out = DropPath(0.25)(branch)
    kept = out.flatten(1).any(1)
    assert kept.float().mean() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(out[kept], branch[kept] / 0.75)
    assert torch.equal(DropPath(0.25).eval()(branch), branch)


def test_drop_path_rates_grow_linearly():
    assert drop_path_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0]


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_rates_are_checked(rate):
    with pytest.raises(ValueError, match=rf"drop_path must lie in \[0, 1\), got {rate}"):
        drop_path_rates(rate, 4)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_nested_layout_round_trip(levels):
    grid = (1, 2, 3)
    volume = torch.randn(2, 1, *(side * 2**levels for side in grid))
    nested = to_nested(volume, levels)
    assert nested.shape == (2, 6, *(8,) * levels)
    assert torch.equal(from_nested(nested[:, None], grid, levels), volume)


def test_nested_layout_puts_coarse_splits_first():
    volume = torch.arange(4**3).reshape(1, 1, 4, 4, 4)
    nested = to_nested(volume, 2)
    # Coarse split 1 is the half with larger w; its fine split 4 is the one with larger d.
    assert nested[0, 0, 1, 4] == volume[0, 0, 1, 0, 2]


@pytest.mark.parametrize(("widths", "skip"), [((4, 16), False), ((4, 8, 16), True)])
def test_mask_downscaling_is_its_convolutions(widths, skip):
    layer = MaskDownscaling(widths, 12, skip=skip)
    masks = torch.randn(2, 1, 32, 32, 32)
    torch.testing.assert_close(
        layer(masks), nn.Sequential.forward(layer, masks), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("widths", "norms"), [((12, 6), (True, False)), ((12, 6, 6, 6), (True,) * 4)]
)
def test_mask_upscaling_is_its_transposed_convolutions(widths, norms):
    layer = MaskUpscaling(24, widths, norms)
    x = torch.randn(2, 24, 1, 2, 3)
    voxels = layer(x.flatten(2).transpose(1, 2))
    volume = from_nested(voxels.movedim(-1, 1), (1, 2, 3), len(widths))
    torch.testing.assert_close(volume, nn.Sequential.forward(layer, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(8, 12, 20), (3, 4, 5), (7, 2, 5)])
def test_upsampling_is_trilinear_interpolation(size):
    x = torch.randn(2, 3, 3, 4, 5)
    expected = F.interpolate(x, size, mode="trilinear", align_corners=False)
    torch.testing.assert_close(upsample_trilinear(x, size), expected, atol=1e-6, rtol=1e-5)
