"""Prompts simulated from a reference mask, as pure functions on tensors."""

from neurosam3d.prompts.boxes import boxes_from_masks
from neurosam3d.prompts.clicks import CLICK_METHODS, draw_voxels, sample_clicks, to_indices
from neurosam3d.prompts.components import largest_component
from neurosam3d.prompts.distance import distance_transform
from neurosam3d.prompts.foreground import foreground
from neurosam3d.prompts.types import Prompts

__all__ = [
    "CLICK_METHODS",
    "Prompts",
    "boxes_from_masks",
    "distance_transform",
    "draw_voxels",
    "foreground",
    "largest_component",
    "sample_clicks",
    "to_indices",
]
