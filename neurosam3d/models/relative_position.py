"""Relative position terms of windowed attention, in a form that never builds a padded window.

Shapes: B batch (times windows), N heads, x head channels. A window has side T; (d, h, w) of its
tokens along each axis are real, the rest is zero padding. Queries are indexed (i, j, l), keys
(a, b, c). Q = d*h*w.

The published SAM-Med3D weights were trained with a bias whose axes are mixed up (the released
program computes it; arXiv:2310.15161 does not describe it) and with padding tokens that take
part as keys:

    logit = s q(i,j,l).k(a,b,c) + q(i,j,l).R_d[i,c] + q(i,j,a).R_h[j,c] + q(i,j,b).R_w[b,c],
    R_*[x,y] = table[x - y + T - 1]

Every padding key has the same key and value vectors (the bias of the qkv layer), so all of them
together act as one virtual key whose logit is a log-sum-exp. `published_terms` returns exactly
that. `decomposed_terms` is the form one would expect (q.R_d[i,a] + q.R_h[j,b] + q.R_w[l,c], padding
ignored), for training from scratch. In 2-D it is SAM's (arXiv:2304.02643; arXiv:2203.16527).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Tables = tuple[Tensor, Tensor, Tensor]


class BiasTerms(NamedTuple):
    """What attention adds to q.k, split so that the large (Q, K) matrix is written once.

    logits = q.k + query @ key.T + shared, where ``shared`` does not depend on the query's last
    index.

    Attributes:
        query: (B, N, Q, e) extra query channels.
        key: (K, e) extra key channels; zeros and ones.
        shared: (B, N, d*h, K) added to the w queries of a row alike, or None.
    """

    query: Tensor
    key: Tensor
    shared: Tensor | None


def relative_table(table: Tensor, num_queries: int, window: int) -> Tensor:
    """Look up R[x, y] = table[x - y + window - 1] as (num_queries, window, head channels)."""
    x = torch.arange(num_queries, device=table.device)[:, None]
    y = torch.arange(window, device=table.device)[None, :]
    return table[x - y + window - 1]


def decomposed_terms(q: Tensor, tables: Sequence[Tensor], window: int) -> BiasTerms:
    """Return the terms of the correct decomposed bias over real keys only (K = Q).

    Written for grids of three axes, it takes any number of them.

    Args:
        q: Unscaled queries (B, N, d, h, w, x).
        tables: rel_pos_d, rel_pos_h, rel_pos_w, each (2T-1, x).
        window: T.
    """
    sides = q.shape[2:-1]
    entries = [  # those that keys need, falling, and one of zeros that makes rows even
        F.pad(table[window - side : window + side - 1].flip(0), (0, 0, 0, 1))  # (2 side, x)
        for table, side in zip(tables, sides, strict=True)
    ]
    scores = q @ torch.cat(entries).T.to(q.dtype)  # (B, N, d, h, w, 2 (d+h+w))
    parts = scores.split([len(table) for table in entries], dim=-1)  # (B, N, d, h, w, 2 side)
    query = torch.cat([_skew(part, axis) for axis, part in enumerate(parts, 2)], dim=-1)
    # (B, N, d, h, w, d+h+w)
    units = [torch.eye(side, dtype=q.dtype, device=q.device) for side in sides]
    key = torch.cat(
        [
            unit.unflatten(0, [-1 if i == axis else 1 for i in range(len(sides))]).expand(
                *sides, -1
            )
            for axis, unit in enumerate(units)
        ],
        dim=-1,
    )  # (d, h, w, d+h+w)
    return BiasTerms(query.flatten(2, -2), key.flatten(0, -2), None)


def _skew(scores: Tensor, axis: int) -> Tensor:
    """Pick the scores of the keys' positions along an axis of side s.

    Query i needs the entries s - 1 - i ... 2s - 2 - i. Rows laid end to end and cut one entry
    shorter begin one entry earlier from row to row.

    Args:
        scores: (B, N, d, h, w, 2s).
        axis: The axis.

    Returns:
        (B, N, d, h, w, s).
    """
    side = scores.shape[axis]
    rows = scores.movedim(axis, -2).flatten(-2)[..., side - 1 : -1]  # (B, N, ., ., s * (2s - 1))
    return rows.unflatten(-1, (side, -1))[..., :side].movedim(-2, axis)


def published_terms(q: Tensor, pad_q: Tensor, tables: Tables, window: int) -> BiasTerms:
    """Return the terms of the published bias over K = d*h*w + 1 keys, the last one standing for the
    padding.

    Without padding (d = h = w = T) there is no virtual key and K = d*h*w.

    Args:
        q: Unscaled queries of the real tokens (B, N, d, h, w, x).
        pad_q: The query of a padding token (N, x): the query part of the qkv bias.
        tables: rel_pos_d, rel_pos_h, rel_pos_w, each (2T-1, x).
        window: T.
    """
    d, h, w = q.shape[2:5]
    r_d = relative_table(tables[0], d, window).to(q.dtype)  # (d, T, x), indexed [i, c]
    r_h = relative_table(tables[1], h, window).to(q.dtype)  # (h, T, x), indexed [j, c]
    r_w = relative_table(tables[2], window, window).to(q.dtype)  # (T, T, x), indexed [b, c]
    # A row of queries (i, j, :) as it stands in the padded window.
    row = torch.cat([q, pad_q[None, :, None, None, None].expand(*q.shape[:4], window - w, -1)], 4)
    term_d = torch.einsum("mnijlx,icx->mnijlc", q, r_d)  # (B, N, d, h, w, T)
    term_h = torch.einsum("mnijax,jcx->mnijac", row, r_h)  # (B, N, d, h, T, T)
    term_w = torch.einsum("mnijbx,bcx->mnijbc", row, r_w)  # (B, N, d, h, T, T)
    shared = term_h[..., :d, None, :w] + term_w[..., None, :h, :w]  # (B, N, d, h, a, b, c)
    shared = shared.flatten(4).flatten(2, 3)  # (B, N, d*h, d*h*w)
    key = torch.eye(w, dtype=q.dtype, device=q.device).repeat(d * h, 1)  # (d*h*w, w)
    query = term_d[..., :w].flatten(2, 4)  # (B, N, Q, w)
    if d == h == w == window:
        return BiasTerms(query, key, shared)
    padding = _padding_logit(term_d, term_h, term_w, (d, h, w)).flatten(2, 4)  # (B, N, Q)
    query = torch.cat([query, padding[..., None].to(q.dtype)], dim=-1)  # (B, N, Q, w+1)
    key = F.pad(key, (0, 1, 0, 1))
    key[-1, -1] = 1
    return BiasTerms(query, key, F.pad(shared, (0, 1)))


def _padding_logit(
    term_d: Tensor, term_h: Tensor, term_w: Tensor, extent: tuple[int, int, int]
) -> Tensor:
    """Return the log-sum-exp of the bias over all padding keys, for each query (B, N, d, h, w)."""
    d, h, w = extent
    h_all, w_all = term_h.logsumexp(4), term_w.logsumexp(4)  # (B, N, d, h, T), indexed by c
    parts = []
    if w < term_h.shape[-1]:  # c beyond the real extent: every (a, b) is padding
        parts.append((term_d + (h_all + w_all)[..., None, :])[..., w:])
    if d < term_h.shape[4]:  # c real, a padding: every b
        g = term_h[..., d:, :w].logsumexp(4) + w_all[..., :w]
        parts.append(term_d[..., :w] + g[..., None, :])
    if h < term_w.shape[4]:  # c and a real, b padding
        g = term_h[..., :d, :w].logsumexp(4) + term_w[..., h:, :w].logsumexp(4)
        parts.append(term_d[..., :w] + g[..., None, :])
    return torch.cat(parts, dim=-1).logsumexp(-1)  # (B, N, d, h, w)


def attend(q: Tensor, k: Tensor, v: Tensor, terms: BiasTerms, *, fused: bool) -> Tensor:
    """Attend with the relative terms; exact for both ways of computing.

    Args:
        q: Scaled queries (B, N, Q, x).
        k: Keys (B, N, K, x).
        v: Values (B, N, K, x).
        terms: See `BiasTerms`.
        fused: Use ``scaled_dot_product_attention`` with an additive bias (faster without gradients)
            instead of two batched products around a softmax (faster with them: no fused kernel
            returns the gradient of the bias).

    Returns:
        (B, N, Q, x).
    """
    rows = q.shape[2] // terms.shared.shape[2] if terms.shared is not None else 1
    if fused:
        bias = terms.query @ terms.key.T  # (B, N, Q, K)
        if terms.shared is not None:
            bias.unflatten(2, (-1, rows)).add_(terms.shared[:, :, :, None])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
    query = torch.cat([q, terms.query], dim=-1)  # (B, N, Q, x+e)
    key = torch.cat([k, terms.key.expand(*k.shape[:2], -1, -1)], dim=-1)  # (B, N, K, x+e)
    logits = query @ key.transpose(-2, -1)  # (B, N, Q, K)
    if terms.shared is not None:
        logits = (logits.unflatten(2, (-1, rows)) + terms.shared[:, :, :, None]).flatten(2, 3)
    return logits.softmax(-1).to(v.dtype) @ v


def attend_by_channels(q: Tensor, k: Tensor, v: Tensor, *, query: Tensor, key: Tensor) -> Tensor:
    """Attend with the logits q.k + query.key by a fused kernel that returns all gradients.

    What is added to q.k stands in channels of its own, so that no (Q, K) matrix is ever kept, with
    gradients or without. Fused kernels want values as wide as keys.

    Args:
        q: Scaled queries (B, N, Q, x).
        k: Keys (B, N, K, x).
        v: Values (B, N, K, x).
        query: Extra query channels (B, N, Q, e).
        key: Extra key channels, broadcastable to (B, N, K, e).

    Returns:
        (B, N, Q, x).
    """
    q = torch.cat([q, query], dim=-1)  # (B, N, Q, x+e)
    k = torch.cat([k, key.expand(*k.shape[:2], -1, -1)], dim=-1)  # (B, N, K, x+e)
    padded = F.pad(v, (0, query.shape[-1]))  # (B, N, K, x+e)
    out = F.scaled_dot_product_attention(q, k, padded, scale=1.0)
    return out[..., : v.shape[-1]]


def attention_scale(head_dim: int) -> float:
    """Return the factor on q.k."""
    return 1 / math.sqrt(head_dim)
