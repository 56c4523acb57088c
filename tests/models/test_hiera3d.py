"""Hiera in 3-D against a plain reading, and against the published program at full size."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.hiera3d import (
    Hiera3D,
    Hiera3DConfig,
    HieraTrunk3D,
    build_hiera_sam3d,
)
from neurosam3d.models.hiera_block import HieraBlock, PooledAttention3d
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights

CONFIG = Hiera3DConfig(
    dim=8,
    num_heads=1,
    depths=(1, 2, 3, 2),
    windows=(8, 4, 6, 3),
    global_blocks=(4,),
    position_side=5,
    out_dim=12,
)
# What CONFIG says of its blocks: heads and window. Blocks 1, 3 and 6 begin a stage.
BLOCKS = [(1, 8), (2, 8), (2, 4), (4, 4), (4, None), (4, 6), (8, 6), (8, 3)]
STAGE_ENDS = [0, 2, 5, 7]

LAYERS = [
    pytest.param((4, 4, 4), 4, id="one full window"),
    pytest.param((2, 4, 6), None, id="global"),
    pytest.param((4, 2, 2), 6, id="one padded window"),
    pytest.param((4, 8, 12), 4, id="several full windows"),
    pytest.param((6, 4, 10), 4, id="several windows, some padded"),
    pytest.param((2, 10, 4), 4, id="padding on the first two axes"),
]


def make_encoder(image_size: int, **options: float) -> Hiera3D:
    """Build a small encoder whose every weight matters: none is zero or tiny."""
    encoder = Hiera3D(CONFIG, image_size=image_size, published_quirks=True, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return encoder.eval()


def image_of(side: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 1, side, side, side, generator=torch.Generator().manual_seed(4))


def plain_attention(layer: nn.Module, x: Tensor, num_heads: int, window: int | None) -> Tensor:
    """Compute attention window by window on the padded grid, one head at a time.

    Queries are pooled if ``layer.pool``; padding is masked out unless ``layer.padding_keys``.
    """
    part, grid = dict(layer.named_parameters()), x.shape[1:4]
    sides = grid if window is None else (window,) * 3
    padded = [-(-length // side) * side for length, side in zip(grid, sides, strict=True)]
    whole = x.new_zeros(len(x), *padded, x.shape[4])
    whole[:, : grid[0], : grid[1], : grid[2]] = x
    real = torch.zeros(padded, dtype=torch.bool)
    real[: grid[0], : grid[1], : grid[2]] = True
    qkv = whole @ part["qkv.weight"].T + part["qkv.bias"]
    step = 2 if layer.pool else 1
    out = x.new_zeros(len(x), *(side // step for side in padded), qkv.shape[4] // 3)
    starts = (range(0, length, side) for length, side in zip(padded, sides, strict=True))
    for corner in product(*starts):
        region = [slice(low, low + side) for low, side in zip(corner, sides, strict=True)]
        q, k, v = qkv[:, *region].chunk(3, dim=-1)
        if layer.pool:
            q = F.max_pool3d(q.movedim(4, 1), 2).movedim(1, 4)
        shape = q.shape
        q, k, v = (t.flatten(1, 3) for t in (q, k, v))
        hidden = torch.zeros(()) if layer.padding_keys else ~real[*region].flatten() * -1e30
        width = q.shape[-1] // num_heads
        heads = []
        for head in range(num_heads):
            own = slice(head * width, (head + 1) * width)
            logits = q[..., own] @ k[..., own].transpose(1, 2) * width**-0.5 + hidden
            heads.append(logits.softmax(-1) @ v[..., own])
        region = [slice(axis.start // step, axis.stop // step) for axis in region]
        out[:, *region] = torch.cat(heads, -1).view(shape)
    out = out @ part["proj.weight"].T + part["proj.bias"]
    return out[:, : grid[0] // step, : grid[1] // step, : grid[2] // step]


def plain_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * norm.weight + norm.bias


def plain_block(block: HieraBlock, x: Tensor, num_heads: int, window: int | None) -> Tensor:
    part = dict(block.named_parameters())
    y = plain_norm(x, block.norm1)
    shortcut = x
    if "proj.weight" in part:
        shortcut = y @ part["proj.weight"].T + part["proj.bias"]
        shortcut = F.max_pool3d(shortcut.movedim(4, 1), 2).movedim(1, 4)
    x = shortcut + plain_attention(block.attn, y, num_heads, window)
    hidden = plain_norm(x, block.norm2) @ part["mlp.layers.0.weight"].T + part["mlp.layers.0.bias"]
    return x + F.gelu(hidden) @ part["mlp.layers.1.weight"].T + part["mlp.layers.1.bias"]


def plain_tokens(trunk: HieraTrunk3D, image: Tensor) -> Tensor:
    tokens = trunk.patch_embed.proj(image)  # (B, C, d, h, w)
    stretched = F.interpolate(trunk.pos_embed, tokens.shape[2:], mode="trilinear")
    index = torch.arange(tokens.shape[2]) % 8
    repeated = trunk.pos_embed_window[:, :, index][:, :, :, index][:, :, :, :, index]
    return (tokens + stretched + repeated).movedim(1, 4)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("padding_keys", [True, False])
@pytest.mark.parametrize(("grid", "window"), LAYERS)
def test_attention_and_its_gradients_equal_plain_reading(grid, window, padding_keys, pool):
    torch.manual_seed(1)
    layer = PooledAttention3d(
        6, 12, num_heads=3, window=window, pool=pool, padding_keys=padding_keys
    ).double()
    x = torch.randn(2, *grid, 6, dtype=torch.float64)
    outputs, gradients = [], []
    for forward in (layer, lambda y: plain_attention(layer, y, 3, window)):
        layer.zero_grad()
        leaf = x.clone().requires_grad_()
        outputs.append(forward(leaf))
        outputs[-1].square().sum().backward()
        gradients.append({"x": leaf.grad, **{n: p.grad for n, p in layer.named_parameters()}})
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_padding_matters_as_keys():
    torch.manual_seed(1)
    layer = PooledAttention3d(6, 6, num_heads=1, window=6, pool=False, padding_keys=True)
    x = torch.randn(1, 4, 4, 4, 6)
    with_padding = layer(x)
    layer.padding_keys = False
    assert (layer(x) - with_padding).abs().max() > 1e-2


def test_padding_takes_part_in_half_precision():
    torch.manual_seed(1)
    layer = PooledAttention3d(8, 8, num_heads=1, window=6, pool=False, padding_keys=True)
    x = torch.randn(1, 4, 4, 4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), layer(x), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("grid", [(8, 8, 8), (10, 4, 6)])
@pytest.mark.parametrize("out_dim", [8, 16])
def test_layers_of_windows_one_at_a_time_change_nothing(grid, out_dim):
    torch.manual_seed(1)
    block = HieraBlock(8, out_dim, num_heads=2, window=4, padding_keys=True, drop_path=0.0)
    x = torch.randn(2, *grid, 8)
    calls: list[int] = []
    block.attn.register_forward_hook(lambda *_: calls.append(1))
    at_once = block(x)
    with torch.no_grad():
        torch.testing.assert_close(block(x), at_once)
    assert len(calls) == 1 + -(-grid[0] // 4)


@pytest.mark.parametrize("image_size", [32, 64, 96])
def test_encoder_equals_plain_reading(image_size):
    encoder, image = make_encoder(image_size).double(), image_of(image_size, batch=2).double()
    x = plain_tokens(encoder.trunk, image)
    stages = []
    for index, (num_heads, window) in enumerate(BLOCKS):
        x = plain_block(encoder.trunk.blocks[index], x, num_heads, window)
        if index in STAGE_ENDS:
            stages.append(x)
    torch.testing.assert_close(encoder.trunk(image), stages)
    last, last_but_one = (encoder.neck.convs[i].conv(stages[3 - i].movedim(4, 1)) for i in (0, 1))
    for axis in (2, 3, 4):
        last = last.repeat_interleave(2, dim=axis)
    embedding = encoder(image)
    assert embedding.shape == (2, 12, *(image_size // 16,) * 3)
    torch.testing.assert_close(embedding, last_but_one + last)


def test_blocks_of_the_published_size():
    with torch.device("meta"):
        trunk = build_hiera_sam3d("vit_hiera").image_encoder.trunk
    windows = [8] * 3 + [4] * 3 + [14] * 12 + [7] * 2
    for index in (7, 12, 16):
        windows[index] = None
    assert [block.attn.window for block in trunk.blocks] == windows
    assert [i for i, block in enumerate(trunk.blocks) if block.attn.pool] == [2, 5, 17]
    assert [block.attn.num_heads for block in trunk.blocks] == (
        [8] * 2 + [16] * 3 + [32] * 12 + [64] * 3
    )
    assert trunk.stage_ends == [1, 4, 16, 19]


def tiny(**overrides: float) -> nn.Module:
    torch.manual_seed(0)
    return build_hiera_sam3d("hiera_tiny", **{"image_size": 32, **overrides})


def test_fine_levels_of_the_pyramid_are_not_computed():
    encoder, image = make_encoder(32), image_of(32)
    before = encoder(image)
    for level in encoder.neck.convs[2:]:
        nn.init.constant_(level.conv.weight, torch.nan)
    assert torch.equal(encoder(image), before)


def test_fine_levels_of_the_pyramid_stay_frozen():
    names = [
        f"image_encoder.neck.convs.{i}.conv.{kind}" for i in (2, 3) for kind in ("weight", "bias")
    ]
    model = tiny(mask_stride=1)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == names
    model.requires_grad_(True)
    frozen = model.freeze_unreachable(
        boxes=False, mask_always_given=True, multimask=False, iou=False
    )
    points, mask = (torch.tensor([[[4, 5, 6]]]), torch.tensor([[1]])), torch.zeros(1, 1, 32, 32, 32)
    model(image_of(32), points=points, masks=mask).mean().backward()
    assert sorted(frozen) == sorted(name for name, p in model.named_parameters() if p.grad is None)
    assert [name for name in frozen if name.startswith("image_encoder")] == names


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("mask_stride", [4, 1])
def test_small_network_segments(image_size, mask_stride):
    model = tiny(image_size=image_size, mask_stride=mask_stride).eval()
    with torch.no_grad():
        logits = model(
            image_of(image_size), points=(torch.tensor([[[4, 5, 6]]]), torch.tensor([[1]]))
        )
    assert logits.shape == (1, 1, image_size, image_size, image_size)
    assert logits.isfinite().all()
    assert model.mask_size == image_size // mask_stride


def test_correct_forms_on_request():
    published, correct = tiny(), tiny(published_quirks=False)
    assert all(block.attn.padding_keys for block in published.image_encoder.trunk.blocks)
    assert not any(block.attn.padding_keys for block in correct.image_encoder.trunk.blocks)
    pe = published.prompt_encoder.get_dense_pe()
    torch.testing.assert_close(correct.prompt_encoder.get_dense_pe(), pe.transpose(2, 3))


def test_drop_path_grows_with_depth_and_acts_in_training_only():
    trunk = make_encoder(32, drop_path=0.7).trunk
    rates = [block.drop_path.rate for block in trunk.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    block = HieraBlock(8, 8, num_heads=1, window=4, padding_keys=True, drop_path=1 - 1e-9)
    x = torch.randn(2, 4, 4, 4, 8)
    assert torch.equal(block.train()(x), x)
    assert not torch.allclose(block.eval()(x), x)


def test_checkpointing_runs_blocks_again_and_changes_no_gradient():
    gradients, runs = [], []
    for checkpoint_blocks in (False, True):
        encoder = make_encoder(32, checkpoint_blocks=checkpoint_blocks)
        calls: list[int] = []
        for block in encoder.trunk.blocks:
            block.attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        encoder(image_of(32)).square().sum().backward()
        gradients.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
        runs.append(len(calls))
    assert runs == [8, 16]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 112}, "image_size must be a positive multiple of 32, got 112"),
        ({"image_size": 0}, "image_size must be a positive multiple of 32, got 0"),
        ({"drop_path": -0.1}, r"drop_path must lie in \[0, 1\), got -0.1"),
        ({"mask_stride": 2}, "mask_stride must be 4 or 1, got 2"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (1, 2, 3)}, "must both name two or more stages"),
        ({"windows": (12, 4, 6, 3)}, "must start with a multiple of 8 .* got \\(12, 4, 6, 3\\)"),
        ({"windows": (8, 5, 6, 3)}, "be even up to the last, got \\(8, 5, 6, 3\\)"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"image must be \(B, 1, 32, 32, 32\), got \(1, 1, 64"):
        make_encoder(32)(image_of(64))


@pytest.mark.slow
@torch.no_grad()
def test_outputs_of_the_published_program_with_windows_merged_rightly():
    golden = Golden("golden_hiera.npz", "neuro.vit_hiera_fixed.128")
    model = seed_weights(build_hiera_sam3d("vit_hiera", mask_stride=1))
    trunk, image = model.image_encoder.trunk, golden.image()
    patches = trunk.patch_embed(image)
    golden.check("enc.patch_embed", patches)
    tokens = patches + trunk.positions()
    golden.check("enc.tokens_in", tokens)
    golden.check("enc.block0", trunk.blocks[0](tokens))
    for index, tokens in enumerate(trunk(image)):
        golden.check(f"enc.stage{index}", tokens.movedim(4, 1))
    embedding = model.image_encoder(image)
    golden.check("image_embedding", embedding)
    assert golden.check_answers(model, embedding) == 1
