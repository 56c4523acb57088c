"""Small layers that several 3-D networks share.

Shapes: B batch, C channels; D H W = voxels along tensor axes 2 3 4, in the file's own axis order.
"Nested" layout: a volume of side n * 2^L kept as (B, n^3, 8, ..., 8) with L axes of 8, coarse to
fine: each 8 is one 2 x 2 x 2 split in (d, h, w) order. A convolution whose kernel equals its stride
is a linear layer in that layout, and no large tensor is ever permuted: only single-channel masks
enter or leave it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class LayerNorm3d(nn.Module):
    """Normalise every voxel of a volume (B, C, D, H, W), or pixel of an image, over its channels.

    Args:
        dim: Number of channels.
        eps: Added to the (biased) variance.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, D, H, W)."""
        return self.channels_last(x.movedim(1, -1)).movedim(-1, 1)

    def channels_last(self, x: Tensor) -> Tensor:
        """Normalise a tensor whose last axis holds the channels."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class MLP(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        dim: Channels in and out.
        hidden_dim: Channels between the layers.
        activation: The non-linearity; SAM's encoders use GELU, its decoder ReLU.
    """

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.lin2(self.act(self.lin1(x)))


class DropPath(nn.Module):
    """Leave out a residual branch at random while training: stochastic depth (arXiv:1603.09382).

    Each item of the batch draws on its own; branches that stay are scaled up, so that the mean is
    the same as in evaluation, where nothing is left out.

    Args:
        rate: Probability of leaving the branch out, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map the branch's output (B, ...) to the same shape, zero for the items left out."""
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(x.shape[0], *(1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * (kept.to(x.dtype) / (1 - self.rate))


def drop_path_rates(last: float, depth: int) -> list[float]:
    """Return a rate per block that grows linearly from 0 at the first to ``last`` at the last.

    Raises:
        ValueError: If ``last`` lies outside [0, 1).
    """
    if not 0 <= last < 1:
        raise ValueError(f"drop_path must lie in [0, 1), got {last}")
    return [last * index / max(depth - 1, 1) for index in range(depth)]


def check_image_size(image_size: int, step: int) -> None:
    """Refuse an image side that the patches, or the finest grid of a pyramid, do not divide.

    Raises:
        ValueError: If ``image_size`` is not a positive multiple of ``step``.
    """
    if image_size < step or image_size % step:
        raise ValueError(f"image_size must be a positive multiple of {step}, got {image_size}")


def run_block(block: nn.Module, *inputs: Tensor | None, recompute: bool) -> Tensor:
    """Run a block; with ``recompute``, its activations are made again in the backward pass."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


class PatchEmbed3d(nn.Module):
    """Cut a volume into cubes and project each to one token.

    The weights are those of a Conv3d with kernel = stride = ``patch_size``; the work is one matrix
    product.

    Args:
        in_channels: Channels of the volume.
        dim: Channels of a token.
        patch_size: Side of a cube in voxels.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to channels-last tokens (B, D/p, H/p, W/p, dim)."""
        p = self.patch_size
        x = (
            x.unflatten(4, (-1, p)).unflatten(3, (-1, p)).unflatten(2, (-1, p))
        )  # (B, C, d, p, h, p, w, p)
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # (B, d, h, w, C*p*p*p)
        return F.linear(x, self.proj.weight.flatten(1), self.proj.bias)  # (B, d, h, w, dim)


def to_nested(volume: Tensor, levels: int) -> Tensor:
    """Bring a single-channel volume (B, 1, D, H, W) into the nested layout (B, d*h*w, 8, ..., 8).

    Args:
        volume: Sides divisible by 2^levels.
        levels: Number of 2 x 2 x 2 splits.
    """
    halves = (2,) * levels
    x = volume[:, 0]
    for axis in (3, 2, 1):
        x = x.unflatten(axis, (-1, *halves))  # finally (B, d, 2, .., 2, h, 2, .., 2, w, 2, .., 2)
    step = levels + 1
    coarse = [1, 1 + step, 1 + 2 * step]
    splits = [axis + level for level in range(1, step) for axis in coarse]
    x = x.permute(0, *coarse, *splits)  # (B, d, h, w, 2, 2, 2, ..., 2, 2, 2)
    return x.reshape(x.shape[0], -1, *(8,) * levels)  # (B, d*h*w, 8, ..., 8)


def from_nested(x: Tensor, grid: tuple[int, int, int], levels: int) -> Tensor:
    """Undo `to_nested` for a stack of volumes: (B, C, d*h*w, 8, ..., 8) to (B, C, D, H, W).

    Args:
        x: The volumes in nested layout.
        grid: The coarse grid (d, h, w).
        levels: Number of 2 x 2 x 2 splits.
    """
    batch, channels = x.shape[:2]
    x = x.reshape(
        batch, channels, *grid, *(2, 2, 2) * levels
    )  # (B, C, d, h, w, 2, 2, 2, ..., 2, 2, 2)
    order = [0, 1]
    for axis in range(3):
        order += [2 + axis, *(5 + 3 * level + axis for level in range(levels))]
    x = x.permute(order)  # (B, C, d, 2, .., 2, h, 2, .., 2, w, 2, .., 2)
    return x.reshape(batch, channels, *(side * 2**levels for side in grid))


def upsample_trilinear(x: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Resize (B, C, D, H, W) by trilinear interpolation, as three small matrix products.

    Equal to ``F.interpolate(mode="trilinear", align_corners=False)`` and several times faster on a
    CPU, because interpolation is separable and each axis is a product with a matrix of two weights
    per row.
    """
    for axis, out_side in zip((2, 3, 4), size, strict=True):
        in_side = x.shape[axis]
        if in_side != out_side:
            weights = interpolation_matrix(in_side, out_side, like=x)  # (out, in)
            x = (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return x


def interpolation_matrix(
    in_side: int, out_side: int, *, like: Tensor, align_corners: bool = False
) -> Tensor:
    """Return the (out_side, in_side) matrix that interpolates linearly along one axis.

    Args:
        in_side: Voxels along the axis before.
        out_side: Voxels along it after.
        like: A tensor of the matrix's device and type.
        align_corners: Lay the centres of the outermost voxels on one another instead of their
            faces, as ``F.interpolate`` calls it.
    """
    exact = torch.promote_types(like.dtype, torch.float32)
    index = torch.arange(out_side, dtype=exact, device=like.device)
    if align_corners:
        position = index * ((in_side - 1) / max(out_side - 1, 1))
    else:
        position = ((index + 0.5) * (in_side / out_side) - 0.5).clamp(0, in_side - 1)
    distance = (position[:, None] - torch.arange(in_side, device=like.device)).abs()
    return (1 - distance).clamp_min(0).to(like.dtype)
