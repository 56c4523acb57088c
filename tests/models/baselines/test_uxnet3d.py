"""3D UX-Net against a plain reading."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.baselines.uxnet3d import UxBlock, UxNet3d, UxNet3dConfig

CONFIG = UxNet3dConfig(dims=(3, 4, 5, 6), depths=(1, 2, 1, 1), hidden_dim=7, layer_scale=0.5)


def make(module: nn.Module) -> nn.Module:
    """Make every weight matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module.double()


def network(*, published_quirks: bool = True) -> UxNet3d:
    return UxNet3d(CONFIG, in_channels=2, num_classes=3, published_quirks=published_quirks)


def volume_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def plain_norm(x: Tensor, norm: nn.Module) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return scaled * norm.weight[:, None, None, None] + norm.bias[:, None, None, None]


def plain_block(block: UxBlock, x: Tensor, *, mixes: bool) -> Tensor:
    """Convolve and transform one channel at a time, or let the last layers see all of them."""
    dw, one, two = block.dwconv, block.pwconv1, block.pwconv2
    y = torch.cat(
        [
            F.conv3d(x[:, c : c + 1], dw.weight[c : c + 1], dw.bias[c : c + 1], padding=3)
            for c in range(x.shape[1])
        ],
        dim=1,
    )
    y = plain_norm(y, block.norm).movedim(1, -1)  # (B, D, H, W, C)
    if mixes:
        hidden = F.gelu(y @ one.weight.flatten(1).T + one.bias)
        y = hidden @ two.weight.flatten(1).T + two.bias
    else:
        wide = y[..., None] * one.weight.view(-1, 4) + one.bias.view(-1, 4)  # (B, D, H, W, C, 4)
        y = (F.gelu(wide) * two.weight.view(-1, 4)).sum(-1) + two.bias
    return x + (block.gamma * y).movedim(-1, 1)


def test_blocks_keep_channels_apart_or_mix_them():
    for mixes in (False, True):
        block = make(UxBlock(3, layer_scale=0.5, mix_channels=mixes))
        x = volume_of(2, 3, 4, 6, 5)
        torch.testing.assert_close(block(x), plain_block(block, x, mixes=mixes))


def test_layer_scale_is_what_is_asked_for():
    encoder = network().uxnet_3d
    assert all((block.gamma == 0.5).all() for stage in encoder.stages for block in stage)
    assert UxNet3dConfig().layer_scale == 1e-6


def test_layers_of_the_correct_form_see_all_channels():
    for published_quirks, channels in ((True, 1), (False, 4)):
        block = network(published_quirks=published_quirks).uxnet_3d.stages[1][1]
        assert block.pwconv1.weight.shape == (16, channels, 1, 1, 1)
        assert block.pwconv2.weight.shape == (4, 4 * channels, 1, 1, 1)


@torch.no_grad()
def test_network_equals_plain_reading():
    model, image = make(network()), volume_of(1, 2, 32, 16, 48)
    encoder = model.uxnet_3d
    stem, norm = encoder.downsample_layers[0]
    x = plain_norm(F.conv3d(image, stem.weight, stem.bias, stride=2, padding=3), norm)
    stages = []
    for index in range(4):
        if index:
            norm, halve = encoder.downsample_layers[index]
            x = F.conv3d(plain_norm(x, norm), halve.weight, halve.bias, stride=2)
        for block in encoder.stages[index]:
            x = plain_block(block, x, mixes=False)
        stages.append(plain_norm(x, getattr(encoder, f"norm{index}")))
    assert [stage.shape[1:] for stage in stages] == [
        (3, 16, 8, 24),
        (4, 8, 4, 12),
        (5, 4, 2, 6),
        (6, 2, 1, 3),
    ]
    torch.testing.assert_close(encoder(image), stages)
    x = model.encoder5(stages[3])
    for level, skip in ((5, stages[2]), (4, stages[1]), (3, stages[0]), (2, image)):
        skip = getattr(model, f"encoder{level - 1}")(skip)
        x = getattr(model, f"decoder{level}")(x, skip)
    logits = model(image)
    assert logits.shape == (1, 3, 32, 16, 48)
    torch.testing.assert_close(logits, model.out(model.decoder1(x)))
