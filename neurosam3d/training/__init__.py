"""Training of promptable networks with Lightning."""

from neurosam3d.training.promptable import NeuroSamModel

__all__ = ["NeuroSamModel"]
