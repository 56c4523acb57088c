"""Networks that segment an image without prompts, as the baselines of promptable ones.

All of them map images (B, in_channels, D, H, W) to logits (B, num_classes, D, H, W) and are built
with ``in_channels``, ``num_classes`` and ``crop_size``. Libraries are imported when a network is
built.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from neurosam3d.models.baselines.monai_nets import (
    build_mednext,
    build_segresnet,
    build_segresnet_ds,
    build_swin_unetr,
    build_unetr,
)
from neurosam3d.models.baselines.nnformer import build_nnformer
from neurosam3d.models.baselines.nnunet import build_nnunet
from neurosam3d.models.baselines.transbts import build_transbts
from neurosam3d.models.baselines.unetr_pp import build_unetr_pp
from neurosam3d.models.baselines.uxnet3d import build_uxnet3d

BASELINES: dict[str, Callable[..., nn.Module]] = {
    # The comparison of the 3DSAM-adapter (arXiv:2306.13465).
    "swin_unetr": partial(build_swin_unetr, 1),
    "unetr": build_unetr,
    "3d_uxnet": build_uxnet3d,
    "nnformer": build_nnformer,
    "unetr++": build_unetr_pp,
    "transbts": build_transbts,
    # What it lacks.
    "nnunet_resenc": partial(build_nnunet, "residual"),
    "nnunet_plain": partial(build_nnunet, "plain"),
    "mednext_s": partial(build_mednext, "S"),
    "mednext_b": partial(build_mednext, "B"),
    "mednext_m": partial(build_mednext, "M"),
    "mednext_l": partial(build_mednext, "L"),
    "segresnet": build_segresnet,
    "segresnet_ds": build_segresnet_ds,
    "swin_unetr_v2": partial(build_swin_unetr, 2),
}
