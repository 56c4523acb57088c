"""The network of a supervised run: by name, with what the run asks of it and the network knows."""

from collections.abc import Mapping, Sequence

from torch import nn

from neurosam3d.models import BASELINES, build_model, list_overrides
from neurosam3d.models.adapter3d_encoder import ADAPTER3D_CONFIGS


def build_network(
    model_type: str,
    *,
    crop_size: Sequence[int],
    classes: Sequence[str],
    asked: Mapping[str, bool | None],
) -> nn.Module:
    """Build a network that segments patches.

    Args:
        model_type: A baseline, or a 3DSAM-adapter.
        crop_size: Sides of a patch in voxels.
        classes: Names of the classes but the background.
        asked: Overrides. A network need not know one that is None, its own choice, or False.

    Raises:
        ValueError: If the network is another, a number is not allowed, or the network does not know
            what is asked of it.
    """
    is_adapter = model_type in ADAPTER3D_CONFIGS
    if not is_adapter and model_type not in BASELINES:
        raise ValueError(
            f"model_type must be one of {', '.join([*BASELINES, *ADAPTER3D_CONFIGS])}, "
            f"got {model_type!r}; other networks are of task promptable or slices"
        )
    if not classes:
        raise ValueError("classes names what the network segments, got none")
    known = list_overrides(model_type)
    overrides = {n: v for n, v in asked.items() if v or (v is not None and n in known)}
    if not is_adapter:
        return build_model(
            model_type, num_classes=1 + len(classes), crop_size=tuple(crop_size), **overrides
        )
    if len(classes) > 1:
        raise ValueError(f"{model_type} segments one class, got {', '.join(classes)}")
    if len(set(crop_size)) > 1:
        raise ValueError(f"the crops of {model_type} are cubes, got {tuple(crop_size)}")
    return build_model(model_type, crop_size=crop_size[0], **overrides)
