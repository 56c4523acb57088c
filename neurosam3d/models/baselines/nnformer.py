"""nnFormer (arXiv:2109.03201): a U-Net of transformers over windows, whose skip connections are
read by attention.

Checkpoints that fit: those of the 3DSAM-adapter's comparison (arXiv:2306.13465), by names and
shapes.

Shapes: B batch, C channels; D H W = voxels along tensor axes 2 3 4, in the file's own axis order;
d h w = token grid, half as long from stage to stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from neurosam3d.models.baselines.inputs import CROP_SIZE, InputRule, Sides, rule_inputs, to_sides
from neurosam3d.models.baselines.nnformer_block import WindowBlock
from neurosam3d.models.baselines.nnformer_scales import Downsample, Head, PatchEmbed, Upsample
from neurosam3d.models.layers import drop_path_rates, run_block


@dataclass(frozen=True)
class NnFormerConfig:
    """Size of an nnFormer.

    Attributes:
        dim: Channels of the first stage; they double from stage to stage.
        num_heads: Attention heads per stage.
        windows: Side of a window in tokens per stage; smaller where the grid is.
        depth: Number of blocks per stage.
        patch: Voxels of a token of the first stage along each axis.
    """

    dim: int = 192
    num_heads: tuple[int, ...] = (6, 12, 24, 48)
    windows: tuple[int, ...] = (8, 8, 6, 4)
    depth: int = 2
    patch: Sides = (2, 4, 4)

    @property
    def num_stages(self) -> int:
        """Number of stages of the encoder."""
        return len(self.windows)

    @property
    def step(self) -> Sides:
        """Voxels of a token of the last stage, which the sides of the image are multiples of."""
        d, h, w = self.patch
        scale = 2 ** (self.num_stages - 1)
        return d * scale, h * scale, w * scale


@dataclass(frozen=True)
class Blocks:
    """What the blocks of all stages are built with.

    Attributes:
        config: Widths and windows.
        crop_size: Sides of the image in voxels.
        published_quirks: See `WindowBlock`.
    """

    config: NnFormerConfig
    crop_size: Sides
    published_quirks: bool

    def build(self, stage: int, rates: Sequence[float], *, first_reads_skip: bool) -> nn.ModuleList:
        """Build the blocks of a stage, of which every other shifts its windows."""
        config = self.config
        sides = zip(self.crop_size, config.patch, strict=True)
        smallest = min(side // unit // 2**stage for side, unit in sides)
        window = config.windows[stage]
        shift = 0 if smallest <= window else window // 2
        return nn.ModuleList(
            WindowBlock(
                config.dim * 2**stage,
                config.num_heads[stage],
                window=min(window, smallest),
                shift=shift if index % 2 else 0,
                reads_skip=first_reads_skip and index == 0,
                published_quirks=self.published_quirks,
                drop_path=rate,
            )
            for index, rate in enumerate(rates)
        )


class EncoderStage(nn.Module):
    """Blocks, and the way to the next stage if there is one.

    Args:
        blocks: The blocks.
        dim: Channels.
        is_last: No stage follows.
    """

    def __init__(self, blocks: nn.ModuleList, dim: int, *, is_last: bool) -> None:
        super().__init__()
        self.blocks = blocks
        self.downsample = None if is_last else Downsample(dim)

    def forward(self, x: Tensor, *, recompute: bool) -> tuple[Tensor, Tensor]:
        """Map tokens (B, d, h, w, C) to the same shape, and on to (B, d/2, h/2, w/2, 2C)."""
        for block in self.blocks:
            x = run_block(block, x, recompute=recompute)
        return x, x if self.downsample is None else self.downsample(x)


class Encoder(nn.Module):
    """Patches and the stages over ever coarser grids.

    Args:
        blocks: How to build the blocks.
        in_channels: Channels of the image.
        drop_path: Rate of the last block; it grows linearly from 0.
        checkpoint_blocks: Recompute each block in the backward pass.
    """

    def __init__(
        self, blocks: Blocks, *, in_channels: int, drop_path: float, checkpoint_blocks: bool
    ) -> None:
        super().__init__()
        config = blocks.config
        self.checkpoint_blocks = checkpoint_blocks
        self.patch_embed = PatchEmbed(in_channels, config.dim, config.patch)
        rates = drop_path_rates(drop_path, config.num_stages * config.depth)
        self.layers = nn.ModuleList()
        for stage in range(config.num_stages):
            own = rates[stage * config.depth :][: config.depth]
            dim = config.dim * 2**stage
            self.layers.append(
                EncoderStage(
                    blocks.build(stage, own, first_reads_skip=False),
                    dim,
                    is_last=stage == config.num_stages - 1,
                )
            )
            self.add_module(f"norm{stage}", nn.LayerNorm(dim))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, C, D, H, W) to the normalised tokens (B, d, h, w, C) of each stage."""
        x, stages = self.patch_embed(image), []
        for index, layer in enumerate(self.layers):
            tokens, x = layer(x, recompute=self.checkpoint_blocks)
            stages.append(self.get_submodule(f"norm{index}")(tokens))
        return stages


class DecoderStage(nn.Module):
    """The way from the coarser level, a block that reads the skip connection, ordinary blocks.

    Args:
        blocks: The blocks.
        dim: Channels out.
    """

    def __init__(self, blocks: nn.ModuleList, dim: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.Upsample = Upsample(dim)

    def forward(self, x: Tensor, skip: Tensor, *, recompute: bool) -> Tensor:
        """Map (B, d, h, w, 2C) and the skip (B, 2d, 2h, 2w, C) to the skip's shape."""
        first, *others = self.blocks
        x = first(self.Upsample(x), skip)
        for block in others:
            x = run_block(block, x, recompute=recompute)
        return x


class Decoder(nn.Module):
    """Stages over ever finer grids.

    Args:
        blocks: How to build the blocks.
        drop_path: Rate of the last block; it grows linearly from 0.
        checkpoint_blocks: Recompute each ordinary block in the backward pass.
    """

    def __init__(self, blocks: Blocks, *, drop_path: float, checkpoint_blocks: bool) -> None:
        super().__init__()
        config = blocks.config
        self.checkpoint_blocks = checkpoint_blocks
        num_stages = config.num_stages - 1
        rates = drop_path_rates(drop_path, num_stages * config.depth)
        self.layers = nn.ModuleList()  # finest first, as in the encoder
        for stage in range(num_stages):
            own = rates[(num_stages - 1 - stage) * config.depth :][: config.depth]
            built = blocks.build(stage, own, first_reads_skip=True)
            self.layers.append(DecoderStage(built, config.dim * 2**stage))

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Map the encoder's stages to tokens (B, d, h, w, C) on the same grids but the last."""
        *skips, x = stages
        outputs = []
        for layer, skip in zip(reversed(self.layers), reversed(skips), strict=True):
            x = layer(x, skip, recompute=self.checkpoint_blocks)
            outputs.append(x)
        return outputs[::-1]


class NnFormer(nn.Module):
    """Encoder and decoder over windows, and one head, or one for each level of the decoder.

    Args:
        config: Widths and windows.
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        crop_size: Sides of the image in voxels, which decide on the windows.
        published_quirks: See `nnformer_block.WindowAttention`.
        deep_supervision: Give each level of the decoder a head of its own, for training.
        drop_path: Rate of the last block of encoder and decoder; it grows linearly from 0.
        checkpoint_blocks: Recompute blocks in the backward pass.
    """

    def __init__(
        self,
        config: NnFormerConfig,
        *,
        in_channels: int,
        num_classes: int,
        crop_size: Sides,
        published_quirks: bool,
        deep_supervision: bool,
        drop_path: float,
        checkpoint_blocks: bool,
    ) -> None:
        super().__init__()
        blocks = Blocks(config, crop_size, published_quirks)
        self.model_down = Encoder(
            blocks,
            in_channels=in_channels,
            drop_path=drop_path,
            checkpoint_blocks=checkpoint_blocks,
        )
        self.decoder = Decoder(blocks, drop_path=drop_path, checkpoint_blocks=checkpoint_blocks)
        num_heads = config.num_stages - 1 if deep_supervision else 1
        self.final = nn.ModuleList(
            Head(config.dim * 2**level, num_classes, config.patch) for level in range(num_heads)
        )
        self.deep_supervision = deep_supervision

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Map an image (B, C, D, H, W) to logits (B, num_classes, D, H, W); with deep supervision,
        in training, to a list of logits, each at half the resolution of the one before.
        """
        levels = self.decoder(self.model_down(image))
        if self.deep_supervision and self.training:
            return [head(level) for head, level in zip(self.final, levels, strict=True)]
        return self.final[0](levels[0])


def build_nnformer(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
    deep_supervision: bool = False,
    published_quirks: bool = True,
    drop_path: float = 0.2,
    checkpoint_blocks: bool = False,
) -> nn.Module:
    """Build nnFormer.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the image in voxels, multiples of (16, 32, 32). They decide on
            the windows, so that the network takes no other.
        deep_supervision: In training, return logits at all three levels of the decoder, finest
            first, each at half the resolution of the one before.
        published_quirks: Share rows of the tables of relative positions, and let the padding of
            windows take part as keys, as published weights need it. False gives the correct forms,
            for training from scratch.
        drop_path: Probability of leaving out a branch of the last block of encoder and decoder in
            training; it grows linearly from 0 at the first.
        checkpoint_blocks: Recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: If ``crop_size`` or ``drop_path`` is not allowed.
    """
    config, sides = NnFormerConfig(), to_sides(crop_size)
    rule = InputRule(in_channels, sides, config.step, is_fixed=True)
    network = NnFormer(
        config,
        in_channels=in_channels,
        num_classes=num_classes,
        crop_size=sides,
        published_quirks=published_quirks,
        deep_supervision=deep_supervision,
        drop_path=drop_path,
        checkpoint_blocks=checkpoint_blocks,
    )
    return rule_inputs(network, rule)
