"""Promptable 3-D segmentation of medical volumes: networks, training and evaluation."""

from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.models import build_model, list_models
from neurosam3d.version import __version__
from neurosam3d.volume import Volume, read_volume, write_volume

__all__ = [
    "Volume",
    "__version__",
    "build_model",
    "list_models",
    "load_model",
    "load_weights",
    "read_volume",
    "write_volume",
]
