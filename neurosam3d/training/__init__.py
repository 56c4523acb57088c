"""Training with Lightning: promptable networks, those that learn label maps, those of slices."""

from neurosam3d.training.promptable import NeuroSamModel
from neurosam3d.training.slices import SliceModel
from neurosam3d.training.supervised import SupervisedModel

__all__ = ["NeuroSamModel", "SliceModel", "SupervisedModel"]
