"""Windowed attention on real tokens against its plain reading with padded windows."""

import pytest
import torch

from benchmarks.plain_attention import plain_attention, plain_encoder
from neurosam3d.models.vit3d import RelativeAttention3d, ViT3D, ViT3DConfig

GRIDS = [
    pytest.param((3, 3, 3), 3, id="full window"),
    pytest.param((2, 3, 4), 5, id="one padded window"),
    pytest.param((5, 2, 3), 5, id="padding on two axes"),
    pytest.param((3, 5, 5), 5, id="padding on the first axis"),
    pytest.param((5, 3, 5), 5, id="padding on the second axis"),
    pytest.param((5, 5, 3), 5, id="padding on the last axis"),
    pytest.param((5, 3, 7), 3, id="several windows, some padded"),
    pytest.param((4, 6, 2), 2, id="several full windows"),
]


def make_attention(window: int, *, published_quirks: bool) -> RelativeAttention3d:
    torch.manual_seed(1)
    layer = RelativeAttention3d(12, 3, window=window, published_quirks=published_quirks)
    for table in (layer.rel_pos_d, layer.rel_pos_h, layer.rel_pos_w):
        torch.nn.init.normal_(table)
    return layer


@pytest.mark.parametrize("published_quirks", [True, False])
@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_attention_equals_plain_reading(grid, window, published_quirks):
    layer = make_attention(window, published_quirks=published_quirks)
    x = torch.randn(2, *grid, 12)
    expected = plain_attention(layer, x)
    torch.testing.assert_close(layer(x), expected, atol=2e-6, rtol=1e-5)
    with torch.no_grad():  # the fused path
        torch.testing.assert_close(layer(x), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("published_quirks", [True, False])
@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_gradients_equal_plain_reading(grid, window, published_quirks):
    layer = make_attention(window, published_quirks=published_quirks)
    x = torch.randn(1, *grid, 12)
    grads = []
    for forward in (layer, lambda y: plain_attention(layer, y)):
        layer.zero_grad()
        leaf = x.clone().requires_grad_()
        forward(leaf).square().sum().backward()
        grads.append({"x": leaf.grad, **{n: p.grad for n, p in layer.named_parameters()}})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], atol=1e-4, rtol=1e-4, msg=name)


def test_the_two_forms_differ():
    x = torch.randn(1, 2, 3, 4, 12)
    published = make_attention(5, published_quirks=True)
    correct = make_attention(5, published_quirks=False)
    assert (published(x) - correct(x)).abs().max() > 1e-2


@pytest.mark.parametrize("published_quirks", [True, False])
def test_encoder_equals_plain_reading(published_quirks):
    torch.manual_seed(2)
    config = ViT3DConfig(dim=24, depth=3, num_heads=2, global_blocks=(1,), window=3, out_dim=16)
    encoder = ViT3D(config, image_size=64, published_quirks=published_quirks)
    for name, parameter in encoder.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    image = torch.randn(1, 1, 64, 64, 64)
    torch.testing.assert_close(encoder(image), plain_encoder(encoder, image), atol=1e-5, rtol=1e-4)


def test_image_of_another_size_is_refused():
    config = ViT3DConfig(dim=12, depth=1, num_heads=2, global_blocks=())
    encoder = ViT3D(config, image_size=32, published_quirks=True)
    with pytest.raises(ValueError, match=r"image must be \(B, 1, 32, 32, 32\), got \(1, 1, 32, 48"):
        encoder(torch.zeros(1, 1, 32, 48, 32))


@pytest.mark.parametrize("image_size", [0, 8, 100])
def test_image_size_must_be_whole_patches(image_size):
    config = ViT3DConfig(dim=12, depth=1, num_heads=2, global_blocks=())
    with pytest.raises(ValueError, match=f"positive multiple of 16, got {image_size}"):
        ViT3D(config, image_size=image_size, published_quirks=True)
