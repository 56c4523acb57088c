"""The image encoders written down plainly: padded windows, explicit softmax, torch's layers.

Slow and large on purpose: the benchmark measures how far the fast forms are from them, and a test
that both say the same. The ViT's is in `benchmarks.plain_attention`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.plain_attention import plain_encoder as plain_vit
from neurosam3d.models.dinov2_3d import DinoV2Encoder3D
from neurosam3d.models.dinov2_block import Attention
from neurosam3d.models.dinov2_block import Block as DinoV2Block
from neurosam3d.models.hiera3d import Hiera3D
from neurosam3d.models.hiera_block import HieraBlock, PooledAttention3d
from neurosam3d.models.vit3d import ViT3D
from neurosam3d.models.windows import merge_windows, split_windows


def plain_encoder(encoder: nn.Module, image: Tensor) -> Tensor:
    """Compute ``encoder(image)`` plainly.

    Raises:
        TypeError: If no plain reading of the encoder exists.
    """
    if isinstance(encoder, ViT3D):
        return plain_vit(encoder, image)
    if isinstance(encoder, Hiera3D):
        return plain_hiera(encoder, image)
    if isinstance(encoder, DinoV2Encoder3D):
        return plain_dinov2(encoder, image)
    raise TypeError(f"encoder must be a ViT, Hiera or DINOv2, got {type(encoder).__name__}")


def plain_softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, num_heads: int) -> Tensor:
    """Attend with all logits written out: queries (B, Q, C), keys and values (B, K, C)."""
    q, k, v = (t.unflatten(2, (num_heads, -1)).transpose(1, 2) for t in (q, k, v))
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # (B, N, Q, K)
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


def plain_hiera(encoder: Hiera3D, image: Tensor) -> Tensor:
    """Compute ``encoder(image)`` with padded windows in every block."""
    trunk = encoder.trunk
    x, stages = trunk.patch_embed(image) + trunk.positions(), []  # (B, d, h, w, C)
    for index, block in enumerate(trunk.blocks):
        assert isinstance(block, HieraBlock)
        y = block.norm1(x)
        shortcut = x if block.proj is None else _pool(block.proj(y))
        x = shortcut + _plain_pooled_attention(block.attn, y)
        x = x + block.mlp(block.norm2(x))
        if index in trunk.stage_ends:
            stages.append(x)
    return encoder.neck(stages)


def _plain_pooled_attention(layer: PooledAttention3d, x: Tensor) -> Tensor:
    """Compute ``layer(x)`` for tokens (B, d, h, w, C), windows padded to their full side."""
    assert layer.padding_keys, "of the published form alone"
    grid = x.shape[1:4]
    sides = grid if layer.window is None else (layer.window,) * 3
    counts = [-(-length // side) for length, side in zip(grid, sides, strict=True)]
    missing = [n * side - length for n, side, length in zip(counts, sides, grid, strict=True)]
    padded = F.pad(x, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
    q, k, v = layer.qkv(split_windows(padded, counts)).chunk(3, dim=-1)  # (B', T, T, T, C)
    q = _pool(q) if layer.pool else q
    tokens = (q.flatten(1, 3), k.flatten(1, 3), v.flatten(1, 3))
    out = plain_softmax_attention(*tokens, num_heads=layer.num_heads)
    out = merge_windows(layer.proj(out).unflatten(1, q.shape[1:4]), counts)
    step = 2 if layer.pool else 1
    return out[:, : grid[0] // step, : grid[1] // step, : grid[2] // step]


def _pool(x: Tensor) -> Tensor:
    return F.max_pool3d(x.movedim(4, 1), 2).movedim(1, 4)


def plain_dinov2(encoder: DinoV2Encoder3D, image: Tensor) -> Tensor:
    """Compute ``encoder(image)`` with a convolution for the patches and written-out attention."""
    trunk = encoder.model
    assert not trunk.num_registers, "the shipped settings have none"
    patches = trunk.patch_embed.proj(image)  # (B, C, d, h, w)
    x = torch.cat([trunk.cls_token.expand(len(image), -1, -1), patches.flatten(2).mT], dim=1)
    x = x + trunk.positions(patches.shape[2])
    for block in trunk.iter_blocks():
        assert isinstance(block, DinoV2Block)
        x = x + block.ls1(_plain_self_attention(block.attn, block.norm1(x)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
    return encoder.neck(trunk.norm(x[:, 1:]).mT.unflatten(2, patches.shape[2:]))


def _plain_self_attention(layer: Attention, x: Tensor) -> Tensor:
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    return layer.proj(plain_softmax_attention(q, k, v, num_heads=layer.num_heads))
