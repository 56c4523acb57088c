"""Blocks of MONAI that networks written here share with UNETR (arXiv:2103.10504).

MONAI takes seconds to import, so it is imported when the first block is built.

Shapes: B batch, C channels; D H W = voxels.
"""

from typing import Literal

from torch import nn


def basic_block(in_channels: int, out_channels: int) -> nn.Module:
    """Build a residual block with instance norm, (B, in, D, H, W) to (B, out, D, H, W), whose
    weights are under ``layer``.
    """
    from monai.networks.blocks.unetr_block import UnetrBasicBlock

    return UnetrBasicBlock(
        3, in_channels, out_channels, kernel_size=3, stride=1, norm_name="instance", res_block=True
    )


def up_block(in_channels: int, out_channels: int) -> nn.Module:
    """Build a block that doubles the resolution, joins a skip connection and convolves:
    (B, in, D, H, W) and (B, out, 2D, 2H, 2W) to (B, out, 2D, 2H, 2W).
    """
    from monai.networks.blocks.unetr_block import UnetrUpBlock

    return UnetrUpBlock(
        3,
        in_channels,
        out_channels,
        kernel_size=3,
        upsample_kernel_size=2,
        norm_name="instance",
        res_block=True,
    )


def out_block(in_channels: int, num_classes: int) -> nn.Module:
    """Build a 1 x 1 x 1 convolution with bias, whose weights are under ``conv.conv``."""
    from monai.networks.blocks.dynunet_block import UnetOutBlock

    return UnetOutBlock(3, in_channels, num_classes)


def residual_block(
    in_channels: int, out_channels: int, norm: Literal["instance", "batch"]
) -> nn.Module:
    """Build two convolutions with norms and leaky ReLU and a shortcut, (B, in, D, H, W) to
    (B, out, D, H, W).
    """
    from monai.networks.blocks.dynunet_block import UnetResBlock

    return UnetResBlock(3, in_channels, out_channels, kernel_size=3, stride=1, norm_name=norm)
