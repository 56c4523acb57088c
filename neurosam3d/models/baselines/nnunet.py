"""nnU-Net's networks (arXiv:1904.08128; with residual encoders arXiv:2404.09556).

Their parts come from dynamic-network-architectures, an optional package. nnU-Net plans kernels,
strides and depths for each data set. Those here are of no plan but typical for scans whose first
axis is coarser: six stages, the first with flat kernels, the second halving only H and W. Names of
weights are nnU-Net's.

Shapes: B batch, C channels; D H W = voxels along tensor axes 2 3 4, in the file's own axis order.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from neurosam3d.models.baselines.inputs import CROP_SIZE, InputRule, rule_inputs, to_sides

STEP = (16, 32, 32)  # the product of the strides
STAGES: dict[str, Any] = {
    "n_stages": 6,
    "features_per_stage": (32, 64, 128, 256, 320, 320),
    "conv_op": nn.Conv3d,
    "kernel_sizes": ((1, 3, 3), *[(3, 3, 3)] * 5),
    "strides": ((1, 1, 1), (1, 2, 2), *[(2, 2, 2)] * 4),
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
}


class NnUNet(nn.Module):
    """An encoder and decoder of nnU-Net that return several logits in training only.

    Args:
        encoder: Maps an image to features, finest first.
        decoder: Maps these to logits by the last of its ``seg_layers``, or to a list by all of them
            while its ``deep_supervision`` is set.
        deep_supervision: Return logits at all levels in training. The coarser heads are there
            without it, too, so that weights fit; they stay frozen then.
    """

    decoder: Any

    def __init__(self, encoder: nn.Module, decoder: Any, *, deep_supervision: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.deep_supervision = deep_supervision
        if not deep_supervision:
            decoder.seg_layers[:-1].requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "NnUNet":
        """Switch to training, or to evaluation."""
        self.decoder.deep_supervision = mode and self.deep_supervision
        return super().train(mode)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Map an image (B, C, D, H, W) to logits (B, num_classes, D, H, W); with deep supervision,
        in training, to a list of logits, finest first: (D, H/2, W/2) is the second, and each
        further one has half the sides of the one before.
        """
        return self.decoder(self.encoder(image))


def build_nnunet(
    encoder: Literal["residual", "plain"],
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
    deep_supervision: bool = False,
) -> nn.Module:
    """Build a network of nnU-Net.

    Args:
        encoder: Of residual blocks, or of two plain convolutions a stage as originally.
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the crops in voxels, multiples of (16, 32, 32); other multiples
            fit the same weights.
        deep_supervision: In training, return logits at all five levels of the decoder, finest
            first; the second has half of H and W, and each further one half of all sides.

    Raises:
        ValueError: If ``crop_size`` is not allowed, or dynamic-network-architectures is missing.
    """
    rule = InputRule(in_channels, to_sides(crop_size), STEP)
    unet = _architectures()
    if encoder == "residual":
        build = partial(
            unet.ResidualEncoderUNet,
            n_blocks_per_stage=(1, 3, 4, 6, 6, 6),
            n_conv_per_stage_decoder=(1,) * 5,
        )
    else:
        build = partial(
            unet.PlainConvUNet, n_conv_per_stage=(2,) * 6, n_conv_per_stage_decoder=(2,) * 5
        )
    built = build(input_channels=in_channels, num_classes=num_classes, **STAGES)
    network = NnUNet(built.encoder, built.decoder, deep_supervision=deep_supervision)
    return rule_inputs(network, rule)


def _architectures() -> Any:
    """Import nnU-Net's U-Nets.

    Raises:
        ValueError: If their package is not installed.
    """
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as error:
        raise ValueError(
            "nnU-Net's networks need dynamic-network-architectures: pip install -e '.[nnunet]'"
        ) from error
    return unet
