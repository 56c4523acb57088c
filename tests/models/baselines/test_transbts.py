"""TransBTS: its transformer against a plain reading, dropout in its place, the unused layers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models import build_model
from neurosam3d.models.baselines.transbts import TransBts, TransBtsConfig
from neurosam3d.models.baselines.transbts_blocks import (
    Attention,
    DecoderBlock,
    EncoderBlock,
    UpAndJoin,
)

CONFIG = TransBtsConfig(base=8, dim=12, num_heads=3, depth=2, mlp_dim=20)
CROP = (8, 16, 24)
UNUSED = [
    "linear_encoding.weight",
    "linear_encoding.bias",
    "pre_head_ln.weight",
    "pre_head_ln.bias",
]


def make(module: nn.Module) -> nn.Module:
    """Make every weight matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module.double().eval()


def tiny(*, published_quirks: bool = True) -> TransBts:
    return TransBts(
        CONFIG,
        in_channels=2,
        num_classes=3,
        crop_size=CROP,
        published_quirks=published_quirks,
    )


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def plain_attention(layer: Attention, x: Tensor) -> Tensor:
    """Attend one head at a time."""
    q, k, v = (x @ layer.qkv.weight.T).chunk(3, dim=-1)
    width, heads = x.shape[-1] // layer.num_heads, []
    for head in range(layer.num_heads):
        own = slice(head * width, (head + 1) * width)
        logits = q[..., own] @ k[..., own].transpose(1, 2) * width**-0.5
        heads.append(logits.softmax(-1) @ v[..., own])
    return torch.cat(heads, -1) @ layer.proj.weight.T + layer.proj.bias


def norm_of(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, eps=1e-5)


@pytest.mark.parametrize("published_quirks", [True, False])
@torch.no_grad()
def test_network_equals_plain_reading(published_quirks):
    model, image = make(tiny(published_quirks=published_quirks)), random(2, 2, *CROP)
    x1, x2, x3, x = model.Unet(image)
    assert [t.shape[1:] for t in (x1, x2, x3, x)] == [
        (8, 8, 16, 24),
        (16, 4, 8, 12),
        (32, 2, 4, 6),
        (64, 1, 2, 3),
    ]
    x = model.conv_x(F.relu(model.bn(x)))
    tokens = x.flatten(2).transpose(1, 2) + model.position_encoding.position_embeddings
    for index in range(4):
        layer = model.transformer.net[index].fn
        y = norm_of(tokens, layer.norm)
        if index % 2 == 0:
            tokens = tokens + plain_attention(layer.fn, y)
        else:
            one, two = layer.fn.net[0], layer.fn.net[3]
            tokens = tokens + F.gelu(y @ one.weight.T + one.bias) @ two.weight.T + two.bias
    if not published_quirks:
        tokens = norm_of(tokens, model.pre_head_ln)
    x = tokens.transpose(1, 2).reshape(2, 12, 1, 2, 3)
    x = model.Enblock8_2(model.Enblock8_1(x))
    for level, skip in ((4, x3), (3, x2), (2, x1)):
        x = getattr(model, f"DeBlock{level}")(getattr(model, f"DeUp{level}")(x, skip))
    torch.testing.assert_close(model(image), model.endconv(x))


@torch.no_grad()
def test_blocks_equal_plain_reading():
    x = random(2, 16, 2, 4, 6)
    block = make(EncoderBlock(16))
    y = block.conv1(F.relu(F.group_norm(x, 8, block.bn1.weight, block.bn1.bias)))
    y = block.conv2(F.relu(F.group_norm(y, 8, block.bn2.weight, block.bn2.bias)))
    torch.testing.assert_close(block(x), x + y)
    for out_channels in (16, 4):
        block = make(DecoderBlock(16, out_channels))
        y = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
        torch.testing.assert_close(block(x), x + y if out_channels == 16 else y)
    join, skip = make(UpAndJoin(16)), random(2, 8, 4, 8, 12)
    up = join.conv2(join.conv1(x))
    torch.testing.assert_close(join(x, skip), join.conv3(torch.cat([skip, up], dim=1)))


@torch.no_grad()
def test_the_stem_drops_whole_channels_in_training_only():
    stem = make(tiny()).Unet.InitConv
    image = random(8, 2, *CROP)
    plain = stem(image)
    torch.testing.assert_close(plain, stem.conv(image))
    torch.manual_seed(0)
    dropped = stem.train()(image)
    is_zero = (dropped == 0).flatten(2)
    assert (is_zero.all(2) == is_zero.any(2)).all()
    share = is_zero.all(2).double().mean()
    assert 0.05 < share < 0.4
    kept = ~is_zero.all(2)
    torch.testing.assert_close(dropped[kept], plain[kept] / 0.8)


@torch.no_grad()
def test_evaluation_draws_nothing():
    model, image = make(tiny()), random(1, 2, *CROP)
    before = torch.get_rng_state()
    model(image)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_published_weights_have_and_nothing_reads():
    model, image = make(tiny()), random(1, 2, *CROP)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == UNUSED
    before = model(image)
    for name in UNUSED:
        model.get_parameter(name).data.fill_(torch.nan)
    assert torch.equal(model(image), before)
    with torch.device("meta"):
        model = build_model("transbts")
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == 67_072


def test_the_correct_form_has_and_trains_only_what_it_needs():
    model = make(tiny(published_quirks=False))
    assert not hasattr(model, "linear_encoding")
    model(random(1, 2, *CROP)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
