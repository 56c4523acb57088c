"""3D UX-Net (arXiv:2209.15076): a transformer's stages made of large depthwise convolutions, and
UNETR's decoder.

Checkpoints that fit: those of the 3DSAM-adapter's comparison (arXiv:2306.13465), by names and
shapes.

Shapes: B batch, C channels; D H W = voxels along tensor axes 2 3 4, in the file's own axis order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.baselines.inputs import CROP_SIZE, InputRule, rule_inputs, to_sides
from neurosam3d.models.baselines.monai_blocks import basic_block, out_block, up_block
from neurosam3d.models.layers import LayerNorm3d

STEP = (16, 16, 16)  # four halvings


@dataclass(frozen=True)
class UxNet3dConfig:
    """Size of a 3D UX-Net.

    Attributes:
        dims: Channels of the four stages.
        depths: Number of blocks per stage.
        hidden_dim: Channels of the decoder's coarsest level.
        layer_scale: First value of the factors on what a block adds.
    """

    dims: tuple[int, int, int, int] = (48, 96, 192, 384)
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    hidden_dim: int = 768
    layer_scale: float = 1e-6


class UxBlock(nn.Module):
    """A depthwise convolution of 7 x 7 x 7 voxels, then a layer on each voxel, added to the input.

    Args:
        dim: Channels in and out.
        layer_scale: First value of the factors on what is added.
        mix_channels: Let the layer on each voxel see all channels; the published network has a
            layer of its own for each channel instead, so that a block never mixes them.
    """

    def __init__(self, dim: int, *, layer_scale: float, mix_channels: bool) -> None:
        super().__init__()
        groups = 1 if mix_channels else dim
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))
        self.dwconv = nn.Conv3d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = LayerNorm3d(dim)
        self.pwconv1 = nn.Conv3d(dim, 4 * dim, kernel_size=1, groups=groups)
        self.pwconv2 = nn.Conv3d(4 * dim, dim, kernel_size=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to the same shape."""
        y = self.pwconv1(self.norm(self.dwconv(x)))  # (B, 4C, D, H, W)
        return x + self.gamma[:, None, None, None] * self.pwconv2(F.gelu(y))


class UxEncoder(nn.Module):
    """Four stages of blocks, each at half the resolution of the one before.

    Args:
        config: Widths and depths.
        in_channels: Channels of the image.
        mix_channels: See `UxBlock`.
    """

    def __init__(self, config: UxNet3dConfig, *, in_channels: int, mix_channels: bool) -> None:
        super().__init__()
        dims = config.dims
        stem = nn.Conv3d(in_channels, dims[0], kernel_size=7, stride=2, padding=3)
        self.downsample_layers = nn.ModuleList([nn.Sequential(stem, LayerNorm3d(dims[0]))])
        for dim, next_dim in pairwise(dims):
            halve = nn.Conv3d(dim, next_dim, kernel_size=2, stride=2)
            self.downsample_layers.append(nn.Sequential(LayerNorm3d(dim), halve))
        self.stages = nn.ModuleList()
        for dim, depth in zip(dims, config.depths, strict=True):
            blocks = (
                UxBlock(dim, layer_scale=config.layer_scale, mix_channels=mix_channels)
                for _ in range(depth)
            )
            self.stages.append(nn.Sequential(*blocks))
        for stage, dim in enumerate(dims):
            self.add_module(f"norm{stage}", LayerNorm3d(dim))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, C, D, H, W) to the normalised outputs of the stages, finest first, at a
        half to a sixteenth of the resolution.
        """
        x, outputs = image, []
        for index, (halve, stage) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True)
        ):
            x = stage(halve(x))
            outputs.append(self.get_submodule(f"norm{index}")(x))
        return outputs


class UxNet3d(nn.Module):
    """Encoder of large kernels and decoder of residual blocks with skip connections.

    Args:
        config: Widths and depths.
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        published_quirks: Layers on each voxel that do not mix channels, as in the published
            network.
    """

    def __init__(
        self, config: UxNet3dConfig, *, in_channels: int, num_classes: int, published_quirks: bool
    ) -> None:
        super().__init__()
        dims = config.dims
        self.uxnet_3d = UxEncoder(
            config, in_channels=in_channels, mix_channels=not published_quirks
        )
        self.encoder1 = basic_block(in_channels, dims[0])
        self.encoder2 = basic_block(dims[0], dims[1])
        self.encoder3 = basic_block(dims[1], dims[2])
        self.encoder4 = basic_block(dims[2], dims[3])
        self.encoder5 = basic_block(dims[3], config.hidden_dim)
        self.decoder5 = up_block(config.hidden_dim, dims[3])
        self.decoder4 = up_block(dims[3], dims[2])
        self.decoder3 = up_block(dims[2], dims[1])
        self.decoder2 = up_block(dims[1], dims[0])
        self.decoder1 = basic_block(dims[0], dims[0])
        self.out = out_block(dims[0], num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to logits (B, num_classes, D, H, W)."""
        half, quarter, eighth, sixteenth = self.uxnet_3d(image)
        x = self.decoder5(self.encoder5(sixteenth), self.encoder4(eighth))
        x = self.decoder4(x, self.encoder3(quarter))
        x = self.decoder3(x, self.encoder2(half))
        x = self.decoder2(x, self.encoder1(image))
        return self.out(self.decoder1(x))


def build_uxnet3d(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
    published_quirks: bool = True,
) -> nn.Module:
    """Build 3D UX-Net.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the crops in voxels, multiples of 16; other multiples fit the
            same weights.
        published_quirks: Keep the channels of a block apart, as published weights need it. False
            mixes them, as the paper has it; the shapes of those layers differ.

    Raises:
        ValueError: If ``crop_size`` is not allowed.
    """
    rule = InputRule(in_channels, to_sides(crop_size), STEP)
    network = UxNet3d(
        UxNet3dConfig(),
        in_channels=in_channels,
        num_classes=num_classes,
        published_quirks=published_quirks,
    )
    return rule_inputs(network, rule)
