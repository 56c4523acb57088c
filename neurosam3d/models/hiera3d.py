"""The hierarchical vision transformer Hiera (arXiv:2306.00989) with the feature pyramid of SAM 2
(arXiv:2408.00714, section 4), in 3-D, as an image encoder.

Checkpoints that fit: NeuroSAM3D ``vit_hiera``, by names and shapes. The program that defined them
scrambled positions when it merged windows; none of its weights are public, and windows are merged
correctly here.

Shapes: B batch (times windows), C channels, N heads, x head channels; d h w = token grid along
tensor axes 2 3 4 of the image, half as long from stage to stage.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models.hiera_block import HieraBlock
from neurosam3d.models.layers import check_image_size, drop_path_rates, run_block
from neurosam3d.models.sam3d import Sam3D, assemble_sam3d

PATCH_KERNEL, PATCH_STRIDE = 7, 4  # voxels: patches overlap


@dataclass(frozen=True)
class Hiera3DConfig:
    """Size of a 3-D Hiera encoder.

    From stage to stage channels and heads double, and the sides of the token grid halve.

    Attributes:
        dim: Channels of a token in the first stage.
        num_heads: Attention heads in the first stage.
        depths: Number of blocks per stage.
        windows: Side of a window in tokens per stage; the first block of a stage, which pools,
            still has the windows of the stage before. The first is the side of the learned
            positions that repeat, too.
        global_blocks: Indices of the blocks that attend over the whole grid.
        position_side: Side of the learned positions that are stretched over the grid.
        out_dim: Channels of the embedding that the mask decoder reads.

    Raises:
        ValueError: If the numbers of stages disagree, or a window cannot be pooled.
    """

    dim: int
    num_heads: int
    depths: tuple[int, ...]
    windows: tuple[int, ...]
    global_blocks: tuple[int, ...]
    position_side: int = 14
    out_dim: int = 384

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.windows) or len(self.depths) < 2:
            raise ValueError(
                "depths and windows must both name two or more stages, "
                f"got {self.depths} and {self.windows}"
            )
        halvings = 2 ** (len(self.depths) - 1)
        if self.windows[0] % halvings or any(side % 2 for side in self.windows[:-1]):
            raise ValueError(
                f"windows must start with a multiple of {halvings} and be even up to the last, "
                f"got {self.windows}"
            )

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels per stage."""
        return tuple(self.dim * 2**stage for stage in range(len(self.depths)))

    @property
    def size_step(self) -> int:
        """Voxels that the image side must be a multiple of: one window of the first stage."""
        return PATCH_STRIDE * self.windows[0]

    @property
    def embedding_stride(self) -> int:
        """Image side divided by that of the embedding, the grid of the last stage but one."""
        return PATCH_STRIDE * 2 ** (len(self.depths) - 2)


HIERA3D_CONFIGS = {
    # Small enough for tests; no published weights.
    "hiera_tiny": Hiera3DConfig(
        dim=64, num_heads=2, depths=(1, 1, 3, 1), windows=(8, 4, 14, 7), global_blocks=(3,)
    ),
    "vit_hiera": Hiera3DConfig(
        dim=256, num_heads=8, depths=(2, 3, 12, 3), windows=(8, 4, 14, 7), global_blocks=(7, 12, 16)
    ),
}


class OverlappingPatchEmbed3d(nn.Module):
    """Project overlapping cubes of a volume to one token each.

    Args:
        dim: Channels of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, dim, PATCH_KERNEL, PATCH_STRIDE, padding=PATCH_KERNEL // 2)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, S, S, S) to channels-last tokens (B, S/4, S/4, S/4, dim)."""
        return self.proj(image).movedim(1, -1).contiguous()


class HieraTrunk3D(nn.Module):
    """Overlapping patches, learned positions, blocks in stages.

    Args:
        config: Width, depths and windows.
        image_size: Side S of the input in voxels.
        padding_keys: See `hiera_block.PooledAttention3d`.
        drop_path: Rate at the last block; it grows linearly from 0 at the first.
        checkpoint_blocks: Recompute each block in the backward pass.
    """

    def __init__(
        self,
        config: Hiera3DConfig,
        *,
        image_size: int,
        padding_keys: bool,
        drop_path: float,
        checkpoint_blocks: bool,
    ) -> None:
        super().__init__()
        self.grid_side = image_size // PATCH_STRIDE
        self.checkpoint_blocks = checkpoint_blocks
        sides = (config.position_side,) * 3
        self.pos_embed = nn.Parameter(torch.zeros(1, config.dim, *sides))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.dim, *(config.windows[0],) * 3))
        self.patch_embed = OverlappingPatchEmbed3d(config.dim)
        rates = drop_path_rates(drop_path, sum(config.depths))
        self.blocks = nn.ModuleList()
        self.stage_ends: list[int] = []
        for stage, (depth, width) in enumerate(zip(config.depths, config.dims, strict=True)):
            for position in range(depth):
                index = len(self.blocks)
                starts = stage > 0 and position == 0
                window = config.windows[stage - 1 if starts else stage]
                self.blocks.append(
                    HieraBlock(
                        width // 2 if starts else width,
                        width,
                        num_heads=config.num_heads * 2**stage,
                        window=None if index in config.global_blocks else window,
                        padding_keys=padding_keys,
                        drop_path=rates[index],
                    )
                )
            self.stage_ends.append(len(self.blocks) - 1)

    def positions(self) -> Tensor:
        """Return what is added to the tokens, (1, d, h, w, C): a stretched and a repeated table."""
        stretched = F.interpolate(
            self.pos_embed.contiguous(memory_format=torch.channels_last_3d),
            size=(self.grid_side,) * 3,
            mode="trilinear",
            align_corners=False,
        )  # (1, C, d, h, w)
        repeats = self.grid_side // self.pos_embed_window.shape[-1]
        repeated = self.pos_embed_window.movedim(1, -1).repeat(1, repeats, repeats, repeats, 1)
        return stretched.movedim(1, -1) + repeated

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, 1, S, S, S) to the tokens (B, d, h, w, C) at the end of each stage."""
        x = self.patch_embed(image) + self.positions()
        stages = []
        for index, block in enumerate(self.blocks):
            x = run_block(block, x, recompute=self.checkpoint_blocks)
            if index in self.stage_ends:
                stages.append(x)
        return stages


class PyramidLevel(nn.Module):
    """A 1 x 1 x 1 convolution, under the pyramid's names.

    Args:
        dim: Channels in.
        out_dim: Channels out.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(dim, out_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, d, h, w, dim) to a volume (B, out_dim, d, h, w)."""
        x = F.linear(x, self.conv.weight.flatten(1), self.conv.bias)
        return x.movedim(-1, 1)


class PyramidNeck(nn.Module):
    """Add the last stage to the last but one.

    Published weights have a level for each stage, of which the decoder reads nothing finer than the
    last stage but one. The other levels keep their place among the weights and are neither
    computed nor trained.

    Args:
        dims: Channels per stage, finest first.
        out_dim: Channels of the embedding.
    """

    def __init__(self, dims: tuple[int, ...], out_dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(PyramidLevel(dim, out_dim) for dim in reversed(dims))
        self.convs[2:].requires_grad_(False)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Map tokens per stage, finest first, to the embedding (B, out_dim, d, h, w) of the last
        stage but one.
        """
        coarsest, coarse = self.convs[:2]
        return coarse(stages[-2]) + F.interpolate(coarsest(stages[-1]), scale_factor=2.0)


class Hiera3D(nn.Module):
    """Image encoder: Hiera trunk and pyramid neck.

    Args:
        config: Width, depths and windows.
        image_size: Side S of the cubic input in voxels.
        published_quirks: Let the padding of windows take part as keys, as in the published
            architecture; False ignores it.
        drop_path: Probability of leaving out a branch of the last block in training; it grows
            linearly from 0 at the first block.
        checkpoint_blocks: Recompute each block in the backward pass to save memory.

    Attributes:
        unread: How the names of the parameters start that nothing reads.

    Raises:
        ValueError: If ``image_size`` is not a whole number of windows of the first stage, or
            ``drop_path`` lies outside [0, 1).
    """

    def __init__(
        self,
        config: Hiera3DConfig,
        *,
        image_size: int,
        published_quirks: bool,
        drop_path: float = 0.0,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        check_image_size(image_size, config.size_step)
        self.image_size = image_size
        self.trunk = HieraTrunk3D(
            config,
            image_size=image_size,
            padding_keys=published_quirks,
            drop_path=drop_path,
            checkpoint_blocks=checkpoint_blocks,
        )
        self.neck = PyramidNeck(config.dims, config.out_dim)
        self.unread = tuple(f"neck.convs.{level}." for level in range(2, len(config.dims)))

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, 1, S, S, S) to its embedding (B, out_dim, n, n, n), n = S/16 with four
        stages.

        Raises:
            ValueError: If the image has another shape than the one the encoder was built for.
        """
        side = self.image_size
        if tuple(image.shape[1:]) != (1, side, side, side):
            raise ValueError(
                f"image must be (B, 1, {side}, {side}, {side}), got {tuple(image.shape)}"
            )
        return self.neck(self.trunk(image))


def build_hiera_sam3d(
    name: str,
    *,
    image_size: int = 128,
    mask_stride: int = 4,
    box_prompts: bool | None = None,
    published_quirks: bool = True,
    checkpoint_upscaling: bool = False,
    drop_path: float = 0.0,
    checkpoint_blocks: bool = False,
) -> Sam3D:
    """Build a promptable network around a 3-D Hiera.

    Args:
        name: A key of ``HIERA3D_CONFIGS``.
        image_size: Side S of the cubic input in voxels, a multiple of 32.
        mask_stride: 4 for SAM-Med3D's decoder, 1 for NeuroSAM3D's, which published names and shapes
            of this network go with.
        box_prompts: Whether the network has box embeddings; by default as the published family has
            it (not at stride 4, yes at 1).
        published_quirks: Compute the window padding and the dense position encoding the way the
            published program does. False gives the correct forms, for training from scratch.
        checkpoint_upscaling: Recompute the decoder's upscaling in the backward pass to save memory.
        drop_path: Probability of leaving out a branch of the encoder's last block in training; it
            grows linearly from 0 at the first block.
        checkpoint_blocks: Recompute each block of the encoder in the backward pass to save memory.

    Raises:
        ValueError: If ``image_size``, ``mask_stride`` or ``drop_path`` is not allowed.
    """
    config = HIERA3D_CONFIGS[name]
    image_encoder = Hiera3D(
        config,
        image_size=image_size,
        published_quirks=published_quirks,
        drop_path=drop_path,
        checkpoint_blocks=checkpoint_blocks,
    )
    return assemble_sam3d(
        image_encoder,
        embed_dim=config.out_dim,
        image_size=image_size,
        grid_size=image_size // config.embedding_stride,
        mask_stride=mask_stride,
        box_prompts=box_prompts,
        published_quirks=published_quirks,
        checkpoint_upscaling=checkpoint_upscaling,
    )
