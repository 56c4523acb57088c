"""Training with Lightning: promptable networks, and those that learn label maps."""

from neurosam3d.training.promptable import NeuroSamModel
from neurosam3d.training.supervised import SupervisedModel

__all__ = ["NeuroSamModel", "SupervisedModel"]
