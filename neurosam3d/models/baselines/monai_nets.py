"""Networks of MONAI, with the arguments under which they are known.

- `swin_unetr`: Swin UNETR (arXiv:2201.01266), and `swin_unetr_v2` with its convolutions before each
  stage (Swin UNETR-V2, MICCAI 2023).
- `unetr`: UNETR (arXiv:2103.10504).
- `segresnet`, `segresnet_ds`: SegResNet (arXiv:1810.11654), and Auto3DSeg's form of it.
- `mednext_s` to `mednext_l`: MedNeXt (arXiv:2303.09975) with kernels of 3 x 3 x 3.

Checkpoints that fit `swin_unetr` and `unetr`: those of the 3DSAM-adapter's comparison
(arXiv:2306.13465), and of other programs that use MONAI with these arguments; `swin_unetr` takes
the self-supervised encoder `model_swinvit.pt`, too.

MONAI takes seconds to import, so it is imported when the first network is built.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from neurosam3d.models.baselines.inputs import CROP_SIZE, InputRule, rule_inputs, to_sides


def build_swin_unetr(
    version: Literal[1, 2],
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
    feature_size: int = 48,
    checkpoint_blocks: bool = True,
) -> nn.Module:
    """Build Swin UNETR.

    Args:
        version: 2 for the form with convolutions before each stage.
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the crops in voxels, multiples of 32; other multiples fit the
            same weights.
        feature_size: Channels of the first stage, a multiple of 12.
        checkpoint_blocks: Recompute the encoder's stages in the backward pass to save memory.

    Raises:
        ValueError: If ``crop_size`` or ``feature_size`` is not allowed.
    """
    from monai.networks.nets.swin_unetr import SwinUNETR

    if feature_size <= 0 or feature_size % 12:
        raise ValueError(f"feature_size must be a positive multiple of 12, got {feature_size}")
    rule = InputRule(in_channels, to_sides(crop_size), step=(32, 32, 32))
    device = torch.get_default_device()
    with torch.device("cpu"):  # it asks for values while it is built, which meta tensors lack
        network = SwinUNETR(
            in_channels=in_channels,
            out_channels=num_classes,
            feature_size=feature_size,
            use_checkpoint=checkpoint_blocks,
            use_v2=version == 2,
        )
    return rule_inputs(network.to(device), rule)


def build_unetr(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
) -> nn.Module:
    """Build UNETR with patches of 16 voxels, 12 layers of width 768 and residual blocks.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the image in voxels, multiples of 16; the positions fit no
            other.

    Raises:
        ValueError: If ``crop_size`` is not allowed.
    """
    from monai.networks.nets.unetr import UNETR

    rule = InputRule(in_channels, to_sides(crop_size), step=(16, 16, 16), is_fixed=True)
    network = UNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        img_size=rule.crop_size,
        feature_size=16,
        hidden_size=768,
        mlp_dim=3072,
        num_heads=12,
        proj_type="perceptron",
        norm_name="instance",
        res_block=True,
        dropout_rate=0.0,
    )
    for block in network.vit.blocks:  # norms that MONAI only reads with cross-attention
        block.norm_cross_attn.requires_grad_(False)
    return rule_inputs(network, rule)


def build_segresnet(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
) -> nn.Module:
    """Build SegResNet with 32 channels at full resolution and four levels.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the crops in voxels, multiples of 8; other multiples fit the
            same weights.

    Raises:
        ValueError: If ``crop_size`` is not allowed.
    """
    from monai.networks.nets.segresnet import SegResNet

    rule = InputRule(in_channels, to_sides(crop_size), step=(8, 8, 8))
    network = SegResNet(
        spatial_dims=3,
        init_filters=32,
        in_channels=in_channels,
        out_channels=num_classes,
        blocks_down=(1, 2, 2, 4),
        blocks_up=(1, 1, 1),
    )
    return rule_inputs(network, rule)


def build_segresnet_ds(
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
    deep_supervision: bool = False,
) -> nn.Module:
    """Build Auto3DSeg's SegResNet with 32 channels at full resolution and five levels.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the crops in voxels, multiples of 16; other multiples fit the
            same weights.
        deep_supervision: In training, return logits at all four levels of the decoder, finest
            first, each at half the resolution of the one before.

    Raises:
        ValueError: If ``crop_size`` is not allowed.
    """
    from monai.networks.nets.segresnet_ds import SegResNetDS

    rule = InputRule(in_channels, to_sides(crop_size), step=(16, 16, 16))
    network = SegResNetDS(
        spatial_dims=3,
        init_filters=32,
        in_channels=in_channels,
        out_channels=num_classes,
        blocks_down=(1, 2, 2, 4, 4),
        dsdepth=4 if deep_supervision else 1,
    )
    return rule_inputs(network, rule)


def build_mednext(
    size: Literal["S", "B", "M", "L"],
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    crop_size: Sequence[int] = CROP_SIZE,
    deep_supervision: bool = False,
) -> nn.Module:
    """Build MedNeXt with kernels of 3 x 3 x 3.

    Args:
        size: Which of the paper's four.
        in_channels: Channels of the image.
        num_classes: Channels of the logits, the background's among them.
        crop_size: Sides D, H, W of the crops in voxels, multiples of 16; other multiples fit the
            same weights.
        deep_supervision: In training, return logits at all five levels, finest first, each at half
            the resolution of the one before.

    Raises:
        ValueError: If ``crop_size`` is not allowed.
    """
    from monai.networks.nets.mednext import create_mednext

    rule = InputRule(in_channels, to_sides(crop_size), step=(16, 16, 16))
    network = create_mednext(
        size,
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=num_classes,
        kernel_size=3,
        deep_supervision=deep_supervision,
    )
    network.register_forward_hook(_to_list)
    return rule_inputs(network, rule)


def _to_list(
    _network: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]
) -> Tensor | list[Tensor]:
    """Give several logits the type that they have everywhere here."""
    return output if isinstance(output, Tensor) else list(output)
