"""UNETR++ against a plain reading: one head and one pair of tokens at a time."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models import build_model
from neurosam3d.models.baselines.paired_attention import PairedAttention, PairedBlock
from neurosam3d.models.baselines.unetr_pp import UnetrPp, UnetrPpConfig

CONFIG = UnetrPpConfig(
    dims=(4, 8, 16, 32),
    depth=1,
    num_heads=2,
    projections=(5, 6, 3, 1),
    decoder_projection=2,
    base=2,
)
CROP = (32, 64, 32)


def make(module: nn.Module) -> nn.Module:
    """Make every weight matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module.double().eval()


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def attention(*, scrambles_space: bool = True, dropout: float = 0.0) -> PairedAttention:
    return PairedAttention(
        12, 8, num_heads=2, num_projected=5, dropout=dropout, scrambles_space=scrambles_space
    )


def plain_attention(layer: PairedAttention, x: Tensor) -> Tensor:
    """Attend for one item and head at a time."""
    num_tokens, dim = x.shape[1:]
    width, project = dim // layer.num_heads, layer.E
    spatial = torch.zeros(len(x), layer.num_heads, num_tokens, width, dtype=x.dtype)
    channels = torch.zeros_like(x)
    for item, head in product(range(len(x)), range(layer.num_heads)):
        weights = layer.qkvv.weight.view(4, layer.num_heads, width, dim)[:, head]
        q, k, channel_v, spatial_v = (x[item] @ w.T for w in weights)  # each (N, x)
        few_k = project.weight @ k + project.bias[:, None]  # (P, x)
        few_v = project.weight @ spatial_v + project.bias[:, None]
        q, k = (t / t.square().sum(0).sqrt() for t in (q, k))
        to_space = (q @ few_k.T * layer.temperature2[head]).softmax(-1)  # (N, P)
        spatial[item, head] = to_space @ few_v
        to_channels = (q.T @ k * layer.temperature[head]).softmax(-1)  # (x, x)
        channels[item, :, head * width : (head + 1) * width] = (to_channels @ channel_v.T).T
    if layer.scrambles_space:
        rows = [spatial[:, h, n, c] for c, h, n in product(*map(range, (width, 2, num_tokens)))]
        mixed = torch.stack(rows, dim=1).view(len(x), num_tokens, dim)
    else:
        mixed = torch.cat([spatial[:, head] for head in range(layer.num_heads)], dim=-1)
    one, two = layer.out_proj, layer.out_proj2
    return torch.cat([mixed @ one.weight.T + one.bias, channels @ two.weight.T + two.bias], dim=-1)


@pytest.mark.parametrize("scrambles_space", [True, False])
def test_attention_equals_plain_reading(scrambles_space):
    layer, x = make(attention(scrambles_space=scrambles_space)), random(2, 12, 8)
    torch.testing.assert_close(layer(x), plain_attention(layer, x))


def test_keys_and_values_share_their_projection():
    layer = attention()
    assert layer.E is layer.F
    assert {"E.weight", "F.weight"} <= layer.state_dict().keys()
    assert len(list(layer.named_parameters())) == len(layer.state_dict()) - 2


def test_both_attentions_drop_in_training_only():
    layer, x = make(attention(dropout=0.5)), random(1, 12, 8)
    torch.manual_seed(0)
    torch.testing.assert_close(layer(x), layer(x), rtol=0, atol=0)
    first, second = (layer.train()(x).chunk(2, dim=-1) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert not torch.allclose(one, other)


@torch.no_grad()
def test_block_equals_plain_reading():
    block = make(
        PairedBlock(24, 8, num_heads=2, num_projected=5, dropout=0.0, scrambles_space=True)
    )
    x = random(2, 8, 2, 3, 4)
    tokens = x.flatten(2).transpose(1, 2) + block.pos_embed
    norm = block.norm
    normed = F.layer_norm(tokens, (8,), norm.weight, norm.bias, eps=1e-5)
    tokens = tokens + block.gamma * plain_attention(block.epa_block, normed)
    y = tokens.transpose(1, 2).reshape(x.shape)
    conv = block.conv8[1]
    expected = y + F.conv3d(block.conv51(y), conv.weight, conv.bias)
    torch.testing.assert_close(block(x), expected)
    assert isinstance(block.conv51.norm1, nn.BatchNorm3d)


def tiny(**options: object) -> UnetrPp:
    return UnetrPp(
        CONFIG,
        **{
            "in_channels": 2,
            "num_classes": 3,
            "crop_size": CROP,
            "published_quirks": True,
            "deep_supervision": False,
            **options,
        },
    )


@torch.no_grad()
def test_network_equals_plain_reading():
    model, image = make(tiny(deep_supervision=True)), random(2, 2, *CROP)
    encoder, x, stages = model.unetr_pp_encoder, image, []
    for index, groups in enumerate((1, 4, 8, 16)):
        rescale, norm = encoder.downsample_layers[index]
        stride = (2, 4, 4) if index == 0 else 2
        x = F.conv3d(x, rescale.conv.weight, stride=stride)
        x = F.group_norm(x, groups, norm.weight, norm.bias, eps=1e-5)
        x = encoder.stages[index](x)
        stages.append(x)
    assert [s.shape[1:] for s in stages] == [
        (4, 16, 16, 8),
        (8, 8, 8, 4),
        (16, 4, 4, 2),
        (32, 2, 2, 1),
    ]
    outputs = {}
    for level in (5, 4, 3):
        up = getattr(model, f"decoder{level}")
        x = F.conv_transpose3d(x, up.transp_conv.conv.weight, stride=2) + stages[level - 3]
        x = outputs[level] = up.decoder_block[0](x)
    up = model.decoder2
    x = F.conv_transpose3d(x, up.transp_conv.conv.weight, stride=(2, 4, 4))
    x = up.decoder_block[0](x + model.encoder1(image))
    torch.testing.assert_close(model(image), model.out1(x))
    assert isinstance(model.encoder1.norm1, nn.InstanceNorm3d)
    model.training = True  # of the network alone: its norms and dropout stay in evaluation
    expected = [model.out1(x), model.out2(outputs[3]), model.out3(outputs[4])]
    torch.testing.assert_close(model(image), expected)


def test_tokens_of_the_published_size():
    with torch.device("meta"):
        model = build_model("unetr++")
    blocks = [stage[0] for stage in model.unetr_pp_encoder.stages]
    assert [b.pos_embed.shape[1] for b in blocks] == [51200, 6400, 800, 100]
    assert [b.epa_block.E.out_features for b in blocks] == [64, 64, 64, 32]
    assert {len(stage) for stage in model.unetr_pp_encoder.stages} == {3}
    assert {block.epa_block.dropout for block in blocks} == {0.15}
    assert {block.conv8[0].p for block in blocks} == {0.1}


@torch.no_grad()
def test_correct_form_on_request():
    image = random(1, 2, *CROP)
    published, correct = make(tiny()), make(tiny(published_quirks=False))
    assert not torch.allclose(published(image), correct(image))
    blocks = [m for m in correct.modules() if isinstance(m, PairedAttention)]
    assert len(blocks) == 7
    assert not any(block.scrambles_space for block in blocks)


def test_linear_layers_of_the_encoder_start_small():
    torch.manual_seed(0)
    model = build_model("unetr++", crop_size=(16, 32, 32))
    linear = [m for m in model.unetr_pp_encoder.modules() if isinstance(m, nn.Linear)]
    assert all(m.bias is None or not m.bias.any() for m in linear)
    weights = torch.cat([m.weight.detach().flatten() for m in linear])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    block = model.unetr_pp_encoder.stages[0][0]
    assert not block.pos_embed.any()
    assert (block.gamma == 1e-6).all()
