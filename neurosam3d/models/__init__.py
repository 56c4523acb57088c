"""Networks by name: `build_model` builds one afresh, `neurosam3d.checkpoints` fills it."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from neurosam3d.models.adapter3d import build_adapter3d
from neurosam3d.models.baselines import BASELINES
from neurosam3d.models.dinov2_3d import build_dinov2_sam3d
from neurosam3d.models.hiera3d import build_hiera_sam3d
from neurosam3d.models.sam2d import Sam2D, build_sam2d, build_sam_med2d
from neurosam3d.models.sam3d import Sam3D, build_vit_sam3d
from neurosam3d.models.samed import Samed, build_samed

SAM2D: dict[str, Callable[..., Sam2D]] = {
    "sam_vit_b": partial(build_sam2d, "vit_b"),
    "sam_vit_l": partial(build_sam2d, "vit_l"),
    "sam_vit_h": partial(build_sam2d, "vit_h"),
    "medsam_vit_b": partial(build_sam2d, "vit_b"),
    "sam_med2d_vit_b": partial(build_sam_med2d, "vit_b"),
}
SAMED: dict[str, Callable[..., Samed]] = {
    "samed_vit_b": partial(build_samed, "vit_b", "trained"),
    "samed_vit_l": partial(build_samed, "vit_l", "trained"),
    "samed_vit_h": partial(build_samed, "vit_h", "trained"),
    "samed_s_vit_b": partial(build_samed, "vit_b", "adapted"),
}
MODELS: dict[str, Callable[..., nn.Module]] = {
    "vit_tiny": partial(build_vit_sam3d, "vit_tiny"),
    "vit_b_ori": partial(build_vit_sam3d, "vit_b_ori"),
    "vit_b": partial(build_vit_sam3d, "vit_b"),
    "vit_l": partial(build_vit_sam3d, "vit_l"),
    "vit_h": partial(build_vit_sam3d, "vit_h"),
    "vit_hiera": partial(build_hiera_sam3d, "vit_hiera"),
    "dinov2": build_dinov2_sam3d,
    "adapter3d_vit_tiny": partial(build_adapter3d, "adapter3d_vit_tiny"),
    "adapter3d_vit_b": partial(build_adapter3d, "adapter3d_vit_b"),
    "adapter3d_vit_l": partial(build_adapter3d, "adapter3d_vit_l"),
    "adapter3d_vit_h": partial(build_adapter3d, "adapter3d_vit_h"),
    **SAM2D,
    **SAMED,
    **BASELINES,
}

__all__ = [
    "BASELINES",
    "MODELS",
    "SAM2D",
    "SAMED",
    "Sam2D",
    "Sam3D",
    "Samed",
    "build_model",
    "list_models",
    "list_overrides",
]


def list_models() -> list[str]:
    """List the names that `build_model` accepts."""
    return list(MODELS)


def build_model(name: str, **overrides: Any) -> nn.Module:
    """Build a network with freshly initialised weights.

    Args:
        name: One of `list_models`.
        **overrides: Arguments of that network's builder, for example
            `neurosam3d.models.sam3d.build_vit_sam3d` or
            `neurosam3d.models.baselines.nnformer.build_nnformer`.

    Raises:
        ValueError: If the name or an override is unknown (the message lists the known ones) or a
        value not allowed.
    """
    known = list_overrides(name)
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise ValueError(
            f"unknown override {', '.join(map(repr, unknown))} for model {name!r}; "
            f"known: {', '.join(known)}"
        )
    return MODELS[name](**overrides)


def list_overrides(name: str) -> list[str]:
    """List the overrides that `build_model` accepts for a network.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(list_models())}")
    parameters = inspect.signature(MODELS[name]).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
