"""UNETR++ (arXiv:2212.04497): a U-Net of convolutions and paired attention.

Checkpoints that fit: those of the 3DSAM-adapter's comparison (arXiv:2306.13465), by names and
shapes.

Shapes: B batch, C channels; D H W = voxels along tensor axes 2 3 4, in the file's own axis order;
d h w = grid of a stage, half as long from stage to stage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from neurosam3d.models.baselines.inputs import CROP_SIZE, InputRule, Sides, rule_inputs, to_sides
from neurosam3d.models.baselines.monai_blocks import out_block, residual_block
from neurosam3d.models.baselines.paired_attention import PairedBlock


@dataclass(frozen=True)
class UnetrPpConfig:
    """Size of a UNETR++.

    Attributes:
        dims: Channels per stage.
        depth: Blocks per stage of encoder and decoder.
        num_heads: Attention heads.
        projections: Tokens that keys and values are projected to, per stage of the encoder.
        decoder_projection: The same in the decoder.
        base: Channels at full resolution.
        patch: Voxels of a token of the first stage along each axis.
        dropout: Rate on attention, in training.
    """

    dims: tuple[int, ...] = (32, 64, 128, 256)
    depth: int = 3
    num_heads: int = 4
    projections: tuple[int, ...] = (64, 64, 64, 32)
    decoder_projection: int = 64
    base: int = 16
    patch: Sides = (2, 4, 4)
    dropout: float = 0.15

    @property
    def step(self) -> Sides:
        """Voxels of a token of the last stage, which the sides of the image are multiples of."""
        d, h, w = self.patch
        scale = 2 ** (len(self.dims) - 1)
        return d * scale, h * scale, w * scale


@dataclass(frozen=True)
class Blocks:
    """What the blocks of all stages are built with.

    Attributes:
        config: Widths and depth.
        crop_size: Sides of the image in voxels.
        published_quirks: See `PairedAttention`'s ``scrambles_space``.
    """

    config: UnetrPpConfig
    crop_size: Sides
    published_quirks: bool

    def build(self, stage: int, num_projected: int) -> nn.Sequential:
        """Build the blocks of a stage."""
        config = self.config
        sides = zip(self.crop_size, config.patch, strict=True)
        num_tokens = math.prod(side // unit // 2**stage for side, unit in sides)
        return nn.Sequential(
            *(
                PairedBlock(
                    num_tokens,
                    config.dims[stage],
                    num_heads=config.num_heads,
                    num_projected=num_projected,
                    dropout=config.dropout,
                    scrambles_space=self.published_quirks,
                )
                for _ in range(config.depth)
            )
        )


class Rescale(nn.Module):
    """A convolution whose kernel equals its stride, up or down, under MONAI's names.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: Factor on the sides.
        up: Multiply the sides by it instead of dividing.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Sides, *, up: bool) -> None:
        super().__init__()
        layer = nn.ConvTranspose3d if up else nn.Conv3d
        self.conv = layer(in_channels, out_channels, kernel_size=stride, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, d, h, w) to (B, out, d', h', w')."""
        return self.conv(x)


class Encoder(nn.Module):
    """Patches and the stages over ever coarser grids.

    Args:
        blocks: How to build the blocks.
        in_channels: Channels of the image.
    """

    def __init__(self, blocks: Blocks, *, in_channels: int) -> None:
        super().__init__()
        config = blocks.config
        dims = config.dims
        stem = Rescale(in_channels, dims[0], config.patch, up=False)
        self.downsample_layers = nn.ModuleList([nn.Sequential(stem, nn.GroupNorm(1, dims[0]))])
        for dim, next_dim in pairwise(dims):
            halve = Rescale(dim, next_dim, (2, 2, 2), up=False)
            self.downsample_layers.append(nn.Sequential(halve, nn.GroupNorm(dim, next_dim)))
        self.stages = nn.ModuleList(
            blocks.build(stage, projected) for stage, projected in enumerate(config.projections)
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, C, D, H, W) to features (B, dim, d, h, w) per stage, finest first."""
        x, outputs = image, []
        for halve, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(halve(x))
            outputs.append(x)
        return outputs


class UpBlock(nn.Module):
    """Go to a finer grid, add a skip connection, transform.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: Factor on the sides.
        block: What follows.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: Sides, block: nn.Module
    ) -> None:
        super().__init__()
        self.transp_conv = Rescale(in_channels, out_channels, stride, up=True)
        self.decoder_block = nn.ModuleList([block])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, in, d, h, w) and the skip (B, out, d', h', w') to the skip's shape."""
        return self.decoder_block[0](self.transp_conv(x) + skip)


class UnetrPp(nn.Module):
    """Encoder, decoder, and one head, or one for each of the three finest levels.

    Args:
        config: Widths and depth.
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        crop_size: Sides of the image in voxels, which decide on the number of tokens.
        published_quirks: See `PairedAttention`'s ``scrambles_space``.
        deep_supervision: Add heads on the two levels below the finest, for training.
    """

    def __init__(
        self,
        config: UnetrPpConfig,
        *,
        in_channels: int,
        num_classes: int,
        crop_size: Sides,
        published_quirks: bool,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        blocks = Blocks(config, crop_size, published_quirks)
        base, dims = config.base, config.dims
        self.unetr_pp_encoder = Encoder(blocks, in_channels=in_channels)
        self.encoder1 = residual_block(in_channels, base, norm="instance")
        self.decoder5 = self._up_block(blocks, 2)
        self.decoder4 = self._up_block(blocks, 1)
        self.decoder3 = self._up_block(blocks, 0)
        last = residual_block(base, base, norm="instance")
        self.decoder2 = UpBlock(dims[0], base, stride=config.patch, block=last)
        self.out1 = out_block(base, num_classes)
        self.deep_supervision = deep_supervision
        if deep_supervision:
            self.out2 = out_block(dims[0], num_classes)
            self.out3 = out_block(dims[1], num_classes)

    @staticmethod
    def _up_block(blocks: Blocks, stage: int) -> UpBlock:
        """Build the way to a stage's grid."""
        config = blocks.config
        block = blocks.build(stage, config.decoder_projection)
        return UpBlock(config.dims[stage + 1], config.dims[stage], stride=(2, 2, 2), block=block)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Map an image (B, C, D, H, W) to logits (B, num_classes, D, H, W); with deep supervision,
        in training, to a list of logits: the second has one voxel for each patch, the third half
        the resolution of the second.
        """
        first, second, third, x = self.unetr_pp_encoder(image)
        x = self.decoder5(x, third)
        level3 = self.decoder4(x, second)
        level2 = self.decoder3(level3, first)
        logits = self.out1(self.decoder2(level2, self.encoder1(image)))
        if self.deep_supervision and self.training:
            return [logits, self.out2(level2), self.out3(level3)]
        return logits


def _initialise(module: nn.Module) -> None:
    """Draw the weights of a linear layer close to zero, as vision transformers do."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build_unetr_pp(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
    deep_supervision: bool = False,
    published_quirks: bool = True,
) -> nn.Module:
    """Build UNETR++.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the image in voxels, multiples of (16, 32, 32); positions and
            projections fit no other.
        deep_supervision: In training, return logits at three levels, finest first: at full
            resolution, at one voxel for each patch of (2, 4, 4), and at half of that.
        published_quirks: Lay out spatial attention as published weights need it, which scrambles
            tokens and channels. False gives the correct form, for training from scratch.

    Raises:
        ValueError: If ``crop_size`` is not allowed.
    """
    config, sides = UnetrPpConfig(), to_sides(crop_size)
    rule = InputRule(in_channels, sides, config.step, is_fixed=True)
    network = UnetrPp(
        config,
        in_channels=in_channels,
        num_classes=num_classes,
        crop_size=sides,
        published_quirks=published_quirks,
        deep_supervision=deep_supervision,
    )
    return rule_inputs(network, rule)
