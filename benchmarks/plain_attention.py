"""The windowed attention of SAM-Med3D written down plainly: padded windows, full bias, explicit
softmax.

It is slow and large on purpose. Tests compare the fast form with it, the benchmark measures the
distance between both. Index letters as in `neurosam3d.models.relative_position`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.models.relative_position import relative_table
from neurosam3d.models.vit3d import Block, RelativeAttention3d, ViT3D
from neurosam3d.models.windows import merge_windows, split_windows


def plain_attention(layer: RelativeAttention3d, x: Tensor) -> Tensor:
    """Compute ``layer(x)`` for tokens (B, d, h, w, C) with every window padded to its full side."""
    size = layer.window
    grid = x.shape[1:4]
    counts = (-(-grid[0] // size), -(-grid[1] // size), -(-grid[2] // size))
    padding = [count * size - side for side, count in zip(grid, counts, strict=True)]
    pad = (0, 0, 0, padding[2], 0, padding[1], 0, padding[0])
    windows = split_windows(F.pad(x, pad), counts)  # (B', T, T, T, C)
    real = split_windows(F.pad(torch.ones_like(x[:1, ..., :1]), pad), counts)[..., 0] > 0
    qkv = layer.qkv(windows).unflatten(4, (3, layer.num_heads, -1))
    q, k, v = qkv.permute(4, 0, 5, 1, 2, 3, 6)  # each (B', N, T, T, T, x)
    logits = torch.einsum("mnijlx,mnabcx->mnijlabc", q * layer.scale, k)
    r_d, r_h, r_w = (
        relative_table(table, size, size)
        for table in (layer.rel_pos_d, layer.rel_pos_h, layer.rel_pos_w)
    )
    if layer.published_quirks:
        logits = logits + torch.einsum("mnijlx,icx->mnijlc", q, r_d)[..., None, None, :]
        logits = logits + torch.einsum("mnijax,jcx->mnijac", q, r_h)[..., None, :, None, :]
        logits = logits + torch.einsum("mnijbx,bcx->mnijbc", q, r_w)[..., None, None, :, :]
    else:
        logits = logits + torch.einsum("mnijlx,iax->mnijla", q, r_d)[..., None, None]
        logits = logits + torch.einsum("mnijlx,jbx->mnijlb", q, r_h)[..., None, :, None]
        logits = logits + torch.einsum("mnijlx,lcx->mnijlc", q, r_w)[..., None, None, :]
        hidden = ~real.repeat(x.shape[0], 1, 1, 1)[:, None, None, None, None]
        logits = logits.masked_fill(hidden, float("-inf"))
    attention = logits.flatten(5).softmax(-1)  # (B', N, T, T, T, T^3)
    out = torch.einsum("mnijlk,mnkx->mijlnx", attention, v.flatten(2, 4)).flatten(4)
    return layer.proj(merge_windows(out, counts)[:, : grid[0], : grid[1], : grid[2]])


def plain_encoder(encoder: ViT3D, image: Tensor) -> Tensor:
    """Compute ``encoder(image)`` with `plain_attention` in every block."""
    x = encoder.patch_embed.proj(image).movedim(1, -1) + encoder.pos_embed
    for block in encoder.blocks:
        assert isinstance(block, Block)
        x = x + plain_attention(block.attn, block.norm1(x))
        x = x + block.mlp(block.norm2(x))
    return encoder.neck(x.movedim(-1, 1))
