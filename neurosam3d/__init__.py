"""Promptable 3-D segmentation of medical volumes: networks, training, use and evaluation."""

from typing import TYPE_CHECKING, Any

from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.models import build_model, list_models
from neurosam3d.version import __version__
from neurosam3d.volume import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from neurosam3d.inference import Predictor

__all__ = [
    "Predictor",
    "Volume",
    "__version__",
    "build_model",
    "list_models",
    "load_model",
    "load_weights",
    "read_volume",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    """Load the predictor when it is first asked for: most commands do without it."""
    if name == "Predictor":
        from neurosam3d.inference import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
