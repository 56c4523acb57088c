"""The mask decoder of 3DSAM-adapter (arXiv:2306.13465): four levels of features and the crop
itself, convolved to logits.

Shapes: B batch, C channels, K classes; h w d = token grid, the slice axis last.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.layers import interpolation_matrix, upsample_trilinear

NUM_LEVELS = 4
FIRST_HEAD = 2  # number of the first level's branch in the names of published weights
NUM_PARTS = 4  # in which channels are convolved, to keep temporary tensors small


def conv_block(in_dim: int, *widths: int) -> nn.Sequential:
    """Return convolutions over 3 x 3 x 3 voxels, each with its norm and ReLU."""
    layers: list[nn.Module] = []
    for before, width in zip((in_dim, *widths), widths, strict=False):
        conv = nn.Conv3d(before, width, kernel_size=3, padding=1, bias=False)
        layers += [conv, nn.InstanceNorm3d(width), nn.ReLU()]
    return nn.Sequential(*layers)


class MultiLevelDecoder(nn.Module):
    """Turn features of four levels into logits at the crop's resolution.

    Args:
        dim: Channels of the features; half as many inside.
        num_classes: Classes K, the background among them.
    """

    def __init__(self, dim: int, *, num_classes: int = 2) -> None:
        super().__init__()
        inner = dim // 2
        self.mlahead = nn.ModuleDict(
            {f"head{FIRST_HEAD + k}": conv_block(dim, inner, inner) for k in range(NUM_LEVELS)}
        )
        self.cls = conv_block(NUM_LEVELS * inner + 1, inner)
        self.cls.append(nn.Conv3d(inner, num_classes, kernel_size=3, padding=1, bias=False))

    def forward(
        self, features: list[Tensor], image: Tensor, *, size: tuple[int, int, int]
    ) -> Tensor:
        """Map features and the crop to logits (B, K, *size).

        Args:
            features: A level each, (B, C, h, w, d), the deepest last.
            image: The crop (B, 1, H, W, D), of any size.
            size: Sides of the logits.
        """
        heads = zip(self.mlahead.values(), features, strict=True)
        levels = torch.cat([head(level) for head, level in heads], dim=1)  # (B, 4 * C/2, h, w, d)
        h, w, d = levels.shape[2:]
        image = upsample_trilinear(image, (2 * h, 2 * w, 2 * d))
        weight = self.cls[0].get_parameter("weight")  # the last channel reads the image
        x = F.conv3d(image, weight[:, -1:], padding=1)  # (B, C/2, 2h, 2w, 2d)
        x = x + doubled_conv3d(levels, weight[:, :-1])
        logits = self.cls[1:](x)  # (B, K, 2h, 2w, 2d)
        return F.interpolate(logits, size, mode="trilinear", align_corners=True)


def doubled_conv3d(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve a volume of twice the sides, without making it.

    Equal to ``F.conv3d(doubled, weight, padding=1)`` of ``doubled = F.interpolate(x,
    scale_factor=2, mode="trilinear", align_corners=True)``. Interpolation works along the axes, the
    convolution's taps on the channels; so the taps go first, on an eighth of the voxels, and one
    matrix per axis doubles each tap's result and shifts it to its place.

    Args:
        x: (B, C, h, w, d).
        weight: (O, C, 3, 3, 3).

    Returns:
        (B, O, 2h, 2w, 2d).
    """
    parts = [_doubled_conv3d(x, part) for part in weight.chunk(NUM_PARTS)]
    return torch.cat(parts, dim=1)


def _doubled_conv3d(x: Tensor, weight: Tensor) -> Tensor:
    """Do the work of `doubled_conv3d` on all channels at once; i j k are taps along h w d."""
    to_h, to_w, to_d = (_doubling_taps(side, like=x) for side in x.shape[2:])
    taps = weight.permute(2, 3, 4, 0, 1).flatten(0, 3)  # (3 * 3 * 3 * O, C)
    y = (taps @ x.flatten(2)).unflatten(2, x.shape[2:]).unflatten(1, (3, 3, 3, -1))
    y = torch.einsum("bijkohwd,kzd->bijohwz", y, to_d)  # (B, 3, 3, O, h, w, 2d)
    y = torch.einsum("bijohwz,jyw->biohyz", y, to_w)  # (B, 3, O, h, 2w, 2d)
    return torch.einsum("biohyz,ixh->boxyz", y, to_h)  # (B, O, 2h, 2w, 2d)


def _doubling_taps(side: int, *, like: Tensor) -> Tensor:
    """Return, for each of three taps, the matrix that doubles an axis and shifts it: (3, 2s, s)."""
    doubling = interpolation_matrix(side, 2 * side, align_corners=True, like=like)  # (2s, s)
    return F.pad(doubling, (0, 0, 1, 1)).unfold(0, 2 * side, 1).mT  # zeros beyond both ends
