"""How nnFormer (arXiv:2109.03201) goes from voxels to tokens, from grid to grid, and back.

Shapes: B batch, C channels; D H W = voxels along tensor axes 2 3 4; d h w = token grid.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.baselines.inputs import Sides


def convolve(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Run a convolution on tokens: (B, d, h, w, C) to (B, d', h', w', C')."""
    return layer(tokens.movedim(-1, 1)).movedim(1, -1)


class TwoConvolutions(nn.Module):
    """Two convolutions of 3 x 3 x 3 with GELU and norm between them.

    Args:
        in_channels: Channels in.
        dim: Channels out.
        stride: Of the first.
        is_last: Leave out GELU and norm after the second.
    """

    def __init__(self, in_channels: int, dim: int, *, stride: Sides, is_last: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, dim, kernel_size=3, stride=stride, padding=1)
        self.conv2 = nn.Conv3d(dim, dim, kernel_size=3, padding=1)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = None if is_last else nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d, h, w, in) to (B, d', h', w', dim)."""
        x = self.norm1(F.gelu(convolve(self.conv1, x)))
        x = convolve(self.conv2, x)
        return x if self.norm2 is None else self.norm2(F.gelu(x))


class PatchEmbed(nn.Module):
    """Four convolutions that turn patches into tokens.

    Args:
        in_channels: Channels of the image.
        dim: Channels of a token.
        patch: Voxels of a token along each axis, 2 or 4.
    """

    def __init__(self, in_channels: int, dim: int, patch: Sides) -> None:
        super().__init__()
        d, h, w = patch
        self.proj1 = TwoConvolutions(in_channels, dim // 2, stride=(2, 2, 2), is_last=False)
        self.proj2 = TwoConvolutions(dim // 2, dim, stride=(d // 2, h // 2, w // 2), is_last=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to tokens (B, d, h, w, dim)."""
        return self.norm(self.proj2(self.proj1(image.movedim(1, -1))))


class Downsample(nn.Module):
    """Halve the grid and double the channels.

    Args:
        dim: Channels in.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Conv3d(dim, 2 * dim, kernel_size=3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d, h, w, C) to (B, d/2, h/2, w/2, 2C)."""
        return convolve(self.reduction, self.norm(F.gelu(x)))


class Upsample(nn.Module):
    """Double the grid and halve the channels.

    Args:
        dim: Channels out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * dim)
        self.up = nn.ConvTranspose3d(2 * dim, dim, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d, h, w, 2C) to (B, 2d, 2h, 2w, C)."""
        return convolve(self.up, self.norm(x))


class Head(nn.Module):
    """Turn each token into a patch of logits.

    Args:
        dim: Channels of a token.
        num_classes: Channels of the logits.
        patch: Voxels of a token.
    """

    def __init__(self, dim: int, num_classes: int, patch: Sides) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(dim, num_classes, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, d, h, w, C) to logits (B, num_classes, D, H, W)."""
        return self.up(x.movedim(-1, 1))
