"""The block of 3DSAM-adapter against a plain reading, and against the published program."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.models.adapter3d_block import (
    Adapter,
    AdapterBlock,
    WindowAttention3d,
    shift_mask,
    shifted_regions,
    window_counts,
)
from neurosam3d.models.relative_position import relative_table
from tests.models.adapter3d_small import randomise
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights, seeded_array

WINDOW = 4


def golden_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(seeded_array(f"adapter3d/{name}", shape))


def plain_adapter(adapter: Adapter, x: Tensor) -> Tensor:
    y = F.relu(x @ adapter.linear1.weight.T + adapter.linear1.bias)
    padded, kernel = F.pad(y, (0, 0, *(1,) * 6)), adapter.conv.weight[:, 0]
    h, w, d = x.shape[1:4]
    taps = product(range(3), repeat=3)
    y = sum(padded[:, i : i + h, j : j + w, k : k + d] * kernel[:, i, j, k] for i, j, k in taps)
    y = F.relu(y + adapter.conv.bias)
    return x + F.relu(y @ adapter.linear2.weight.T + adapter.linear2.bias)


def plain_tables(attn: WindowAttention3d) -> list[Tensor]:
    return [
        F.interpolate(table.T[None], 2 * attn.window - 1, mode="linear")[0].T
        for table in (attn.rel_pos_h, attn.rel_pos_w, attn.rel_pos_d)
    ]


def plain_window(attn: WindowAttention3d, x: Tensor, mask: Tensor) -> Tensor:
    """Attend in one window (T, T, T, C), one head at a time, with a bias of every pair."""
    side, tables = attn.window, plain_tables(attn)
    q, k, v = (x @ attn.qkv.weight.T + attn.qkv.bias).flatten(0, 2).chunk(3, dim=-1)
    width = q.shape[-1] // attn.num_heads
    position = torch.cartesian_prod(*(torch.arange(side),) * 3)  # (T^3, 3)
    steps = position[:, None] - position[None, :] + side - 1  # (T^3, T^3, 3)
    heads = []
    for head in range(attn.num_heads):
        own = slice(head * width, (head + 1) * width)
        bias = sum(
            (q[:, None, own] * table[steps[..., axis]]).sum(-1) for axis, table in enumerate(tables)
        )
        logits = q[:, own] @ k[:, own].T * width**-0.5 + attn.lr * bias + mask
        heads.append(logits.softmax(-1) @ v[:, own])
    out = torch.cat(heads, dim=-1) @ attn.proj.weight.T + attn.proj.bias
    return out.view(x.shape)


def plain_block(block: AdapterBlock, x: Tensor, *, shifted: bool) -> Tensor:
    """Roll, pad and attend window by window on grids whose shift needs a mask of its own."""
    x = plain_adapter(block.adapter, x)
    y, grid = block.norm1(x), x.shape[1:4]
    side, step = block.window, block.window // 2
    if shifted:
        y = y.roll((-step,) * 3, (1, 2, 3))
    padded = [-(-length // side) * side for length in grid]
    whole = y.new_zeros(len(x), *padded, x.shape[4])
    whole[:, : grid[0], : grid[1], : grid[2]] = y
    kinds = [
        torch.tensor([(i >= n - side) + (i >= n - step) for i in range(n)])
        if shifted
        else torch.zeros(n, dtype=torch.long)
        for n in padded
    ]  # which of the three stretches of an axis a position lies in
    kind = 9 * kinds[0][:, None, None] + 3 * kinds[1][:, None] + kinds[2]
    out = torch.zeros_like(whole)
    for item, *corner in product(range(len(x)), *(range(0, n, side) for n in padded)):
        region = [slice(low, low + side) for low in corner]
        own = kind[*region].flatten()
        mask = torch.where(own[:, None] == own[None, :], 0.0, -100.0)
        out[item, *region] = plain_window(block.attn, whole[item, *region], mask.to(x))
    out = out[:, : grid[0], : grid[1], : grid[2]]
    x = x + (out.roll((step,) * 3, (1, 2, 3)) if shifted else out)
    return x + block.mlp(block.norm2(x))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", [(8, 12, 4), (8, 8, 8), (5, 8, 6)])
def test_block_and_its_gradients_equal_plain_reading(grid, shifted):
    block = randomise(AdapterBlock(8, 2, window=WINDOW, table_length=5)).double()
    x = torch.randn(2, *grid, 8, dtype=torch.float64)
    regions = shifted_regions(window_counts(grid, WINDOW), WINDOW, x.device) if shifted else None
    outputs, gradients = [], []
    for forward in (
        lambda y: block(y, regions),
        lambda y: plain_block(block, y, shifted=shifted),
    ):
        block.zero_grad()
        leaf = x.clone().requires_grad_()
        outputs.append(forward(leaf))
        outputs[-1].square().sum().backward()
        gradients.append({"x": leaf.grad, **{n: p.grad for n, p in block.named_parameters()}})
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)
    assert gradients[0]["attn.lr"] is None
    with torch.no_grad():  # one layer of windows at a time
        torch.testing.assert_close(block(x, regions), outputs[0])


def test_without_gradients_layers_of_windows_run_one_by_one():
    block = randomise(AdapterBlock(8, 2, window=WINDOW, table_length=5))
    batches: list[int] = []
    block.attn.register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    x = torch.randn(1, 8, 12, 4, 8)
    block(x)
    with torch.no_grad():
        block(x)
    assert batches == [6, 3, 3]


def test_the_weight_of_position_terms_counts():
    attn = randomise(WindowAttention3d(8, 2, window=WINDOW, table_length=5))
    x = torch.randn(1, WINDOW, WINDOW, WINDOW, 8)
    with_positions = attn(x)
    attn.lr.data.zero_()
    without = attn(x)
    for table in (attn.rel_pos_h, attn.rel_pos_w, attn.rel_pos_d):
        table.data.zero_()
    torch.testing.assert_close(attn(x), without)
    assert (with_positions - without).abs().max() > 1e-2


def test_half_precision_keeps_shifted_regions_apart():
    attn = randomise(WindowAttention3d(8, 2, window=2, table_length=3))
    regions = shifted_regions((1, 1, 1), 2, torch.device("cpu"))
    x = torch.randn(1, 2, 2, 2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = attn(x, regions)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), attn(x, regions), atol=3e-2, rtol=3e-2)
    alone = attn.proj(attn.qkv(x).chunk(3, dim=-1)[2])  # every token is a region of its own
    torch.testing.assert_close(attn(x, regions), alone)


def test_the_mask_is_that_of_published_files():
    mask = shift_mask((4, 4, 4), 8)
    Golden("golden_adapter3d.npz", "adapter3d.128").check("shift_mask", mask)
    apart = (mask[63] != 0).sum(1)
    assert apart.tolist() == [512 - 64] * 512  # eight regions of 4^3 tokens
    assert not mask[0].any()


@pytest.mark.parametrize("length", [27, 127])
def test_tables_are_resized_as_published(length):
    attn = WindowAttention3d(64, 1, window=8, table_length=length)
    attn.rel_pos_w.data = golden_tensor(f"relpos{length}", (length, 64))
    with torch.no_grad():
        table = relative_table(attn.resized_tables()[1], 8, 8)
    Golden("golden_adapter3d.npz", "adapter3d.128").check(f"relpos{length}", table)


@torch.no_grad()
def test_output_of_a_published_block_with_padding():
    block = seed_weights(AdapterBlock(768, 12, window=8, table_length=127))
    block.attn.lr.fill_(1)
    x = golden_tensor("tokens12", (1, 12, 8, 9, 768))
    Golden("golden_adapter3d.npz", "adapter3d.128").check("block_plain_global_table", block(x))
