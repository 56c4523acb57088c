"""TransBTS (arXiv:2103.04430): a U-Net whose bottleneck is a transformer over an eighth of the
resolution.

Checkpoints that fit: those of the 3DSAM-adapter's comparison (arXiv:2306.13465), by names and
shapes; the names of the parts are theirs.

Shapes: B batch, C channels; D H W = voxels along tensor axes 2 3 4, in the file's own axis order;
d h w = D/8 H/8 W/8, N = d*h*w tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.baselines.inputs import CROP_SIZE, InputRule, Sides, rule_inputs, to_sides
from neurosam3d.models.baselines.transbts_blocks import (
    Attention,
    DecoderBlock,
    EncoderBlock,
    Halve,
    LearnedPositions,
    PreNorm,
    Residual,
    Stem,
    TokenMLP,
    UpAndJoin,
    conv3,
)

STRIDE = 8  # voxels of a token along each axis


@dataclass(frozen=True)
class TransBtsConfig:
    """Size of a TransBTS.

    Attributes:
        base: Channels at full resolution; they double with every halving.
        dim: Channels of a token.
        num_heads: Attention heads.
        depth: Number of transformer layers.
        mlp_dim: Channels between the two linear layers of a transformer layer.
        dropout: Rate in the transformer, in training.
        stem_dropout: Rate at which the stem's channels are left out, in training.
    """

    base: int = 16
    dim: int = 512
    num_heads: int = 8
    depth: int = 4
    mlp_dim: int = 4096
    dropout: float = 0.1
    stem_dropout: float = 0.2


class Transformer(nn.Module):
    """Layers of attention and a small network, each pre-normalised and residual.

    Args:
        config: Widths, depth and dropout.
    """

    def __init__(self, config: TransBtsConfig) -> None:
        super().__init__()
        self.net = nn.Sequential()
        for _ in range(config.depth):
            for branch in (
                Attention(config.dim, config.num_heads, config.dropout),
                TokenMLP(config.dim, config.mlp_dim, config.dropout),
            ):
                self.net.append(Residual(PreNorm(config.dim, branch)))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        return self.net(x)


class ConvEncoder(nn.Module):
    """The encoder of the U-Net.

    Args:
        in_channels: Channels of the image.
        config: Width and dropout.
    """

    def __init__(self, in_channels: int, config: TransBtsConfig) -> None:
        super().__init__()
        dim = config.base
        self.InitConv = Stem(in_channels, dim, config.stem_dropout)
        self.EnBlock1 = EncoderBlock(dim)
        self.EnDown1 = Halve(dim)
        self.EnBlock2_1 = EncoderBlock(2 * dim)
        self.EnBlock2_2 = EncoderBlock(2 * dim)
        self.EnDown2 = Halve(2 * dim)
        self.EnBlock3_1 = EncoderBlock(4 * dim)
        self.EnBlock3_2 = EncoderBlock(4 * dim)
        self.EnDown3 = Halve(4 * dim)
        self.EnBlock4_1 = EncoderBlock(8 * dim)
        self.EnBlock4_2 = EncoderBlock(8 * dim)
        self.EnBlock4_3 = EncoderBlock(8 * dim)
        self.EnBlock4_4 = EncoderBlock(8 * dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map an image (B, C, D, H, W) to features at full resolution, a half, a quarter and an
        eighth of it.
        """
        full = self.EnBlock1(self.InitConv(image))
        half = self.EnBlock2_2(self.EnBlock2_1(self.EnDown1(full)))
        quarter = self.EnBlock3_2(self.EnBlock3_1(self.EnDown2(half)))
        x = self.EnBlock4_2(self.EnBlock4_1(self.EnDown3(quarter)))
        return full, half, quarter, self.EnBlock4_4(self.EnBlock4_3(x))


class TransBts(nn.Module):
    """Convolutional encoder, transformer, convolutional decoder.

    Args:
        config: Widths and depth.
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        crop_size: Sides of the image, for which there are positions.
        published_quirks: Leave out the last norm of the transformer, and keep a linear layer that
            nothing calls, as published weights have it; both stay frozen.
    """

    def __init__(
        self,
        config: TransBtsConfig,
        *,
        in_channels: int,
        num_classes: int,
        crop_size: Sides,
        published_quirks: bool,
    ) -> None:
        super().__init__()
        base, dim = config.base, config.dim
        bottom = 8 * base
        num_tokens = math.prod(side // STRIDE for side in crop_size)
        self.dropout = config.dropout
        self.normalises_tokens = not published_quirks
        if published_quirks:
            self.linear_encoding = nn.Linear(bottom, dim).requires_grad_(False)
        self.position_encoding = LearnedPositions(num_tokens, dim)
        self.transformer = Transformer(config)
        self.pre_head_ln = nn.LayerNorm(dim).requires_grad_(self.normalises_tokens)
        self.conv_x = conv3(bottom, dim)
        self.Unet = ConvEncoder(in_channels, config)
        self.bn = nn.BatchNorm3d(bottom)
        self.Enblock8_1 = DecoderBlock(dim, bottom)
        self.Enblock8_2 = DecoderBlock(bottom, bottom)
        self.DeUp4 = UpAndJoin(bottom)
        self.DeBlock4 = DecoderBlock(4 * base, 4 * base)
        self.DeUp3 = UpAndJoin(4 * base)
        self.DeBlock3 = DecoderBlock(2 * base, 2 * base)
        self.DeUp2 = UpAndJoin(2 * base)
        self.DeBlock2 = DecoderBlock(base, base)
        self.endconv = nn.Conv3d(base, num_classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, D, H, W) to logits (B, num_classes, D, H, W)."""
        full, half, quarter, x = self.Unet(image)
        x = self.Enblock8_2(self.Enblock8_1(self._transform(x)))
        x = self.DeBlock4(self.DeUp4(x, quarter))
        x = self.DeBlock3(self.DeUp3(x, half))
        return self.endconv(self.DeBlock2(self.DeUp2(x, full)))

    def _transform(self, x: Tensor) -> Tensor:
        """Let all voxels of (B, C, d, h, w) see each other; the result has the tokens' channels."""
        x = self.conv_x(F.relu(self.bn(x)))  # (B, dim, d, h, w)
        grid = x.shape[2:]
        tokens = self.position_encoding(x.flatten(2).transpose(1, 2))  # (B, N, dim)
        tokens = self.transformer(F.dropout(tokens, self.dropout, self.training))
        if self.normalises_tokens:
            tokens = self.pre_head_ln(tokens)
        return tokens.transpose(1, 2).unflatten(2, grid)  # (B, dim, d, h, w)


def build_transbts(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
    published_quirks: bool = True,
) -> nn.Module:
    """Build TransBTS.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the image in voxels, multiples of 8; the positions fit no other.
        published_quirks: Leave out the last norm of the transformer and keep an unused layer, as
            published weights need it. False gives the paper's form, for training from scratch.

    Raises:
        ValueError: If ``crop_size`` is not allowed.
    """
    sides = to_sides(crop_size)
    rule = InputRule(in_channels, sides, step=(STRIDE,) * 3, is_fixed=True)
    network = TransBts(
        TransBtsConfig(),
        in_channels=in_channels,
        num_classes=num_classes,
        crop_size=sides,
        published_quirks=published_quirks,
    )
    return rule_inputs(network, rule)
