"""Segment a scan by prompts with a network of slices: SAM, MedSAM or SAM-Med2D."""

from collections.abc import Sequence

import numpy as np
import torch

from neurosam3d.inference.scan_predictor import ScanPredictor
from neurosam3d.inference.slice_network import SliceNetwork
from neurosam3d.inference.slice_reader import SliceReader
from neurosam3d.inference.slice_session import SliceSession
from neurosam3d.models.sam2d import Sam2D
from neurosam3d.slices import Axis, axis_order
from neurosam3d.volume import Spacing

# 512 slices at SAM's 1024 pixels: rounds on every slice of a scan must not encode them all again.
CACHE_BYTES = 2**31


class SlicePredictor(ScanPredictor):
    """Answers prompts about one scan at a time, slice by slice.

        predictor = SlicePredictor(load_model("medsam_vit_b.pth", "medsam_vit_b"), feeding="medsam")
        predictor.set_image("scan.nii.gz")
        predictor.predict(box=[[40, 52, 31], [80, 90, 44]]).save("mask.nii.gz")

    Prompts lie anywhere in the scan, on as many slices as one likes; from those the object is
    followed through the others, see `SliceSession`.

    Args:
        model: The network.
        feeding: How slices are fed, a name in `FEEDINGS`, as in its training.
        spacing: Voxel size in millimetres at which the network sees the scan; None for the scan's
            own, which networks of slices are trained with.
        intensity: Preset of the intensities, of values from 0 to 1 for SAM and SAM-Med2D.
        axis: What the slices are stacked along.
        propagate: Whether objects are followed from slice to slice at all.
        cache_bytes: Memory for the embeddings of slices.
        device: Where to compute; by default where the model is.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        model: Sam2D,
        *,
        feeding: str = "sam",
        spacing: Spacing | None = None,
        intensity: str = "medsam",
        axis: Axis = "axial",
        propagate: bool = True,
        cache_bytes: int = CACHE_BYTES,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(spacing=spacing, intensity=intensity, cache_bytes=cache_bytes)
        axis_order(axis)  # tells an unknown one
        self.network = SliceNetwork(model, feeding=feeding, device=device)
        self.axis: Axis = axis
        self.propagate = propagate

    def open_session(
        self, roi_center: Sequence[float] | np.ndarray | None = None, grow: bool = True
    ) -> SliceSession:
        """Begin with an object.

        Args:
            roi_center: Of no account: slices are seen whole.
            grow: Whether the object is followed from slice to slice.

        Raises:
            ValueError: If there is no scan.
        """
        reader = SliceReader(self.network, self.scan, self.axis, self.embeddings)
        return SliceSession(reader, follow=self.propagate and grow, source=self.source)
