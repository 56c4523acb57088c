"""Promptable or automatic tumour segmentation in CT by SAM's 2-D encoder with 3-D adapters:
3DSAM-adapter (arXiv:2306.13465).

Checkpoints that fit: the published ``.pth.tar`` files of both forms; for the encoder, those of 2-D
SAM in the same size.

Shapes: B batch, N clicks, P side of a crop in voxels, d h w = token grid along tensor axes 2 3 4 of
the image. The published kernels are laid out for grids (h, w, d), the slice axis last; so are the
three parts, and the network turns image, clicks and logits on the way in and out.
"""

import re

from torch import Tensor, nn

from neurosam3d.models.adapter3d_decoder import MultiLevelDecoder
from neurosam3d.models.adapter3d_encoder import ADAPTER3D_CONFIGS, Adapter3DConfig, Adapter3DEncoder
from neurosam3d.models.adapter3d_prompts import VisualPromptEncoder

PROMPT_FREE_CROP = 256  # side, in voxels, of what the published network without prompts segments
# What the encoder learns, by its name or by part of its name in a block; the rest is SAM's.
LEARNED = re.compile(
    r"depth_embed|slice_embed\.|neck_3d\.|blocks\.\d+\.(norm[12]\.|adapter\.|attn\.rel_pos_d)"
)


class Adapter3D(nn.Module):
    """Segment the object under the clicks, or every object of the trained kind.

    Args:
        config: Size of the encoder.
        crop_size: Side P of a crop in voxels.
        prompt_free: Leave out the prompt encoder.
        labelled_clicks: Tell clicks on the object from those beside it.
        checkpoint_blocks: Recompute the encoder's blocks in the backward pass.

    Raises:
        ValueError: If ``crop_size`` is not allowed, or there are labelled clicks but no prompts.
    """

    def __init__(
        self,
        config: Adapter3DConfig,
        *,
        crop_size: int,
        prompt_free: bool = False,
        labelled_clicks: bool = False,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        if prompt_free and labelled_clicks:
            raise ValueError(
                "a network without prompts has no labelled clicks, got prompt_free=True and "
                "labelled_clicks=True"
            )
        self.crop_size = crop_size
        self.labelled_clicks = labelled_clicks
        self.image_encoder = Adapter3DEncoder(
            config, crop_size=crop_size, checkpoint_blocks=checkpoint_blocks
        )
        self.prompt_encoder = None
        if not prompt_free:
            self.prompt_encoder = VisualPromptEncoder(
                config.out_dim, labelled_clicks=labelled_clicks
            )
        self.mask_decoder = MultiLevelDecoder(config.out_dim)

    def forward(
        self, image: Tensor, points: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Segment crops in one call.

        Args:
            image: (B, 1, P, P, P).
            points: See `decode`.
            labels: See `decode`.

        Returns:
            Logits (B, 2, P, P, P): background, object.
        """
        return self.decode(self.encode(image), image, points, labels)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Map crops (B, 1, P, P, P) to features (B, C, h, w, d) of four levels.

        Raises:
            ValueError: If the crops have another side.
        """
        return self.image_encoder(_slices_last(image))

    def decode(
        self,
        features: list[Tensor],
        image: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Segment crops that were encoded before.

        Args:
            features: What `encode` returned.
            image: The same crops (B, 1, P, P, P).
            points: Voxel indices (B, N, 3), ordered (d, h, w), N at least 1. Features fade to zero
                outside the crop, so that a click there says nothing.
            labels: Labels of the points (B, N): 1 on the object; 0 beside it, which only a network
                with labelled clicks understands; -1 not a point. None for 1 everywhere.

        Returns:
            Logits (B, 2, P, P, P): background, object.

        Raises:
            ValueError: If there are no points for a network with prompts, or some for one without,
                or a label that it does not understand.
        """
        crop = (self.crop_size,) * 3
        if self.prompt_encoder is None:
            if points is not None:
                num_points = points.shape[1]
                raise ValueError(f"a network without prompts takes no points, got {num_points}")
        elif points is None:
            raise ValueError("a network with prompts needs points, got none")
        else:
            points = points[..., [1, 2, 0]]  # (B, N, 3) along H, W, D
            prompted = self.prompt_encoder(features[-1], points, labels, crop=crop)
            features = [*features[:-1], prompted]
        logits = self.mask_decoder(features, _slices_last(image), size=crop)  # (B, 2, H, W, D)
        return logits.permute(0, 1, 4, 2, 3)

    def freeze_sam(self) -> list[str]:
        """Stop the gradients of all that the encoder has from 2-D SAM, as published.

        What remains are the adapters, the norms, the position tables along the slice axis, the
        merging of slices and the necks.

        Returns:
            The names of the frozen parameters.
        """
        frozen = []
        for name, parameter in self.image_encoder.named_parameters():
            if not LEARNED.match(name):
                parameter.requires_grad_(False)
                frozen.append(f"image_encoder.{name}")
        return frozen


def _slices_last(volume: Tensor) -> Tensor:
    """Turn (B, C, D, H, W) into (B, C, H, W, D)."""
    return volume.permute(0, 1, 3, 4, 2)


def build_adapter3d(
    name: str,
    *,
    crop_size: int = 128,
    prompt_free: bool = False,
    labelled_clicks: bool = False,
    freeze_sam: bool = True,
    checkpoint_blocks: bool = False,
) -> Adapter3D:
    """Build a network, as published but for the weights of SAM that fill most of it.

    New parts start as published: adapters and convolutions as PyTorch has them, position tables of
    slices at one. So the network differs from SAM before its first step.

    Args:
        name: A key of ``ADAPTER3D_CONFIGS``.
        crop_size: Side P of the cubic crop in voxels, a multiple of 64 (of 32 for the
            tiny network).
        prompt_free: Leave out the prompt encoder; the network then segments by itself.
        labelled_clicks: Let the network tell clicks on the object from those beside it, which the
            published one cannot.
        freeze_sam: Train no more than `Adapter3D.freeze_sam` leaves.
        checkpoint_blocks: Recompute the encoder's blocks in the backward pass to save memory.

    Raises:
        ValueError: If ``crop_size`` is not allowed, or there are labelled clicks but no prompts.
    """
    model = Adapter3D(
        ADAPTER3D_CONFIGS[name],
        crop_size=crop_size,
        prompt_free=prompt_free,
        labelled_clicks=labelled_clicks,
        checkpoint_blocks=checkpoint_blocks,
    )
    if freeze_sam:
        model.freeze_sam()
    return model
