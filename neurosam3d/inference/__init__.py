"""Segmenting new scans by prompts."""

from neurosam3d.inference.automatic import AutomaticMaskGenerator
from neurosam3d.inference.object_prompts import ObjectPrompts
from neurosam3d.inference.prediction import Prediction
from neurosam3d.inference.predictor import Predictor

__all__ = ["AutomaticMaskGenerator", "ObjectPrompts", "Prediction", "Predictor"]
