"""nnFormer against a plain reading: windows of a rolled grid, pairs hidden by a mask, each bias
looked up by its offset.
"""

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models import build_model
from neurosam3d.models.baselines.nnformer import NnFormer, NnFormerConfig
from neurosam3d.models.baselines.nnformer_block import (
    WindowAttention,
    WindowBlock,
    relative_position_index,
)

CONFIG = NnFormerConfig(dim=8, num_heads=(1, 2, 2), windows=(4, 3, 2), depth=2)

LAYERS = [
    pytest.param((4, 4, 4), 4, 0, id="one window"),
    pytest.param((4, 8, 12), 4, 2, id="shifted, nothing to fill"),
    pytest.param((5, 6, 8), 3, 0, id="filled up"),
    pytest.param((5, 7, 4), 3, 1, id="shifted and filled up"),
    pytest.param((6, 5, 9), 4, 2, id="shifted, even, filled up on all axes"),
]


def make(module: nn.Module) -> nn.Module:
    """Make every weight matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module.double().eval()


def tokens_of(*grid: int, dim: int = 8, seed: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *grid, dim, generator=generator, dtype=torch.float64)


def plain_bias(layer: WindowAttention, quirks: bool) -> Tensor:
    """Look up the bias (tokens, tokens, heads) of a whole window, pair by pair."""
    w, table = layer.window, layer.relative_position_bias_table
    places = list(product(range(w), repeat=3))
    step = 3 * w - 1 if quirks else (2 * w - 1) ** 2
    rows = [
        sum(n * (a - b + w - 1) for n, a, b in zip((step, 2 * w - 1, 1), q, k, strict=True))
        for q, k in product(places, repeat=2)
    ]
    return table[torch.tensor(rows)].view(w**3, w**3, -1)


def plain_attention(layer: WindowAttention, x: Tensor, skip: Tensor | None, quirks: bool) -> Tensor:
    """Roll, cut, hide, attend one window and head at a time, put back."""
    grid, w, s = x.shape[1:4], layer.window, layer.shift
    padded = [-(-side // w) * w for side in grid]
    real = torch.zeros(padded, dtype=torch.bool)
    real[: grid[0], : grid[1], : grid[2]] = True
    group = torch.zeros(padded, dtype=torch.long)  # of the rolled grid
    for axis, side in enumerate(padded):
        slab = torch.zeros(side, dtype=torch.long)
        if s:
            slab[side - w : side - s], slab[side - s :] = 1, 2
        group = 3 * group + slab.view([-1 if axis == other else 1 for other in range(3)])

    def fill(t: Tensor) -> Tensor:
        whole = t.new_zeros(len(t), *padded, t.shape[4])
        whole[:, : grid[0], : grid[1], : grid[2]] = t
        return whole.roll([-s] * 3, dims=(1, 2, 3))

    q = fill(x)
    if skip is None:
        q, k, v = (q @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, -1)
    else:
        k, v = (fill(skip) @ layer.kv.weight.T + layer.kv.bias).chunk(2, -1)
    real = real.roll([-s] * 3, dims=(0, 1, 2))
    bias, width = plain_bias(layer, quirks), q.shape[-1] // layer.num_heads
    out = torch.zeros_like(k)
    for corner in product(*(range(0, side, w) for side in padded)):
        region = [slice(low, low + w) for low in corner]
        own = group[*region].flatten()
        hidden = (own[:, None] != own) * -100.0
        if not quirks:
            hidden = hidden + ~real[*region].flatten() * -1e30
        parts = [t[:, *region].flatten(1, 3) for t in (q, k, v)]
        heads = []
        for head in range(layer.num_heads):
            qh, kh, vh = (t[..., head * width : (head + 1) * width] for t in parts)
            logits = qh @ kh.transpose(1, 2) * width**-0.5 + bias[..., head] + hidden
            heads.append(logits.softmax(-1) @ vh)
        out[:, *region] = torch.cat(heads, -1).view(2, w, w, w, -1)
    out = out.roll([s] * 3, dims=(1, 2, 3))[:, : grid[0], : grid[1], : grid[2]]
    return out @ layer.proj.weight.T + layer.proj.bias


@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("reads_skip", [False, True])
@pytest.mark.parametrize(("grid", "window", "shift"), LAYERS)
def test_attention_equals_plain_reading(grid, window, shift, reads_skip, quirks):
    layer = make(
        WindowAttention(
            8, 2, window=window, shift=shift, reads_skip=reads_skip, published_quirks=quirks
        )
    )
    x, skip = tokens_of(*grid), tokens_of(*grid, seed=5) if reads_skip else None
    torch.testing.assert_close(layer(x, skip), plain_attention(layer, x, skip, quirks))


@pytest.mark.parametrize(("window", "reached"), [(8, 547), (6, 291), (4, 115)])
def test_rows_that_published_tables_use(window, reached):
    assert len(relative_position_index(window, published_quirks=True).unique()) == reached
    index = relative_position_index(window, published_quirks=False)
    assert torch.equal(index.unique(), torch.arange((2 * window - 1) ** 3))


def test_a_table_row_stands_for_one_offset():
    index = relative_position_index(3, published_quirks=False).view(3, 3, 3, 3, 3, 3)
    assert index[0, 1, 2, 1, 1, 0] == index[1, 0, 2, 2, 0, 0]
    assert index[0, 1, 2, 1, 1, 0] != index[0, 1, 2, 1, 1, 1]


def test_block_adds_what_it_reads():
    block = make(
        WindowBlock(8, 2, window=3, shift=0, reads_skip=True, published_quirks=True, drop_path=0.0)
    )
    x, skip = tokens_of(3, 4, 5), tokens_of(3, 4, 5, seed=5)
    norm1, norm2, mlp = block.norm1, block.norm2, block.mlp
    stream = x + skip + block.attn(norm1(x), norm1(skip))
    expected = stream + mlp.fc2(F.gelu(mlp.fc1(norm2(stream))))
    torch.testing.assert_close(block(x, skip), expected)


def tiny(**options: object) -> NnFormer:
    return NnFormer(
        CONFIG,
        **{
            "in_channels": 2,
            "num_classes": 3,
            "crop_size": (24, 48, 64),
            "published_quirks": True,
            "deep_supervision": False,
            "drop_path": 0.0,
            "checkpoint_blocks": False,
            **options,
        },
    )


def image() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(2, 2, 24, 48, 64, generator=generator, dtype=torch.float64)


def volume(layer: nn.Module, tokens: Tensor) -> Tensor:
    return layer(tokens.movedim(4, 1)).movedim(1, 4)


@torch.no_grad()
def test_network_equals_plain_reading():
    model = make(tiny(deep_supervision=True))
    down, up, x = model.model_down, model.decoder, image()
    p1, p2 = down.patch_embed.proj1, down.patch_embed.proj2
    x = p1.norm1(F.gelu(volume(p1.conv1, x.movedim(1, 4))))
    x = p1.norm2(F.gelu(volume(p1.conv2, x)))
    x = p2.norm1(F.gelu(volume(p2.conv1, x)))
    x = down.patch_embed.norm(volume(p2.conv2, x))
    assert x.shape == (2, 12, 12, 16, 8)
    stages = []
    for index, layer in enumerate(down.layers):
        x = layer.blocks[1](layer.blocks[0](x))
        stages.append(getattr(down, f"norm{index}")(x))
        if index < 2:
            x = volume(layer.downsample.reduction, layer.downsample.norm(F.gelu(x)))
    assert [stage.shape[1:] for stage in stages] == [(12, 12, 16, 8), (6, 6, 8, 16), (3, 3, 4, 32)]
    x, levels = stages[2], []
    for index in (1, 0):
        layer = up.layers[index]
        x = volume(layer.Upsample.up, layer.Upsample.norm(x))
        x = layer.blocks[1](layer.blocks[0](x, stages[index]))
        levels.insert(0, model.final[index].up(x.movedim(4, 1)))
    torch.testing.assert_close(model(image()), levels[0])
    torch.testing.assert_close(model.train()(image()), levels)
    assert [level.shape[2:] for level in levels] == [(24, 48, 64), (12, 24, 32)]


@pytest.mark.parametrize(
    ("crop_size", "windows"),
    [
        ((64, 160, 160), [(8, 4), (8, 4), (6, 3), (4, 0)]),
        ((32, 96, 96), [(8, 4), (8, 0), (4, 0), (2, 0)]),
    ],
)
def test_windows_of_the_published_size(crop_size, windows):
    with torch.device("meta"):
        model = build_model("nnformer", crop_size=crop_size)
    for layers, expected in ((model.model_down.layers, windows), (model.decoder.layers, windows)):
        for layer, (window, shift) in zip(layers, expected, strict=False):
            assert [block.attn.window for block in layer.blocks] == [window] * 2
            assert [block.attn.shift for block in layer.blocks] == [0, shift]
    encoder = [b.drop_path.rate for layer in model.model_down.layers for b in layer.blocks]
    assert encoder == pytest.approx(
        [0, 0.0286, 0.0571, 0.0857, 0.1143, 0.1429, 0.1714, 0.2], abs=1e-4
    )
    decoder = [b.drop_path.rate for layer in reversed(model.decoder.layers) for b in layer.blocks]
    assert decoder == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])


@torch.no_grad()
def test_correct_forms_on_request():
    published, correct = make(tiny()), make(tiny(published_quirks=False))
    assert not torch.allclose(published(image()), correct(image()))
    for module in correct.modules():
        if isinstance(module, WindowAttention):
            assert not module.padding_keys
            assert module.relative_position_index.max() == (2 * module.window - 1) ** 3 - 1


def test_every_parameter_of_the_small_network_learns():
    model = tiny(deep_supervision=True).double()
    sum(level.square().mean() for level in model(image())).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_checkpointing_runs_blocks_again_and_changes_no_gradient():
    gradients, runs = [], []
    for checkpoint_blocks in (False, True):
        model = make(tiny(checkpoint_blocks=checkpoint_blocks))
        calls: list[int] = []
        for module in model.modules():
            if isinstance(module, WindowAttention):
                module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model(image()).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
        runs.append(len(calls))
    assert runs == [10, 18]  # the two blocks that read skip connections run once
    torch.testing.assert_close(*gradients)


def test_the_order_of_skips_is_left_alone():
    model = make(tiny())
    with torch.no_grad():
        stages = model.model_down(image())
        before = [stage.clone() for stage in stages]
        model.decoder(stages)
    torch.testing.assert_close(stages, before, rtol=0, atol=0)


def test_drop_path_is_checked():
    with pytest.raises(ValueError, match=r"drop_path must lie in \[0, 1\), got 1.5"):
        build_model("nnformer", drop_path=1.5)
