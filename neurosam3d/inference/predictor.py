"""Segment a scan by prompts: coordinates and masks are those of the scan as it was given."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from neurosam3d.inference.adapter_network import AdapterNetwork
from neurosam3d.inference.network import Embedding, PromptableNetwork, WindowNetwork
from neurosam3d.inference.object_prompts import (
    ObjectPrompts,
    place_prompts,
    require_place,
)
from neurosam3d.inference.opening import shared_windows
from neurosam3d.inference.prediction import Prediction
from neurosam3d.inference.scan_predictor import CACHE_BYTES, ScanPredictor
from neurosam3d.inference.session import Session
from neurosam3d.inference.window_reader import WindowReader
from neurosam3d.inference.windows import Window, centred_window
from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.volume import Spacing


class Predictor(ScanPredictor):
    """Answers prompts about one scan at a time.

        predictor = Predictor(load_model("best.ckpt"))
        predictor.set_image("scan.nii.gz")
        predictor.predict(points=[[40, 52, 31]], labels=[1]).save("mask.nii.gz")

    Coordinates are voxel indices of the scan in its own axis order, or RAS+ millimetres with
    `world=True`. Orientation, resampling and windows are undone in the result.

    Args:
        model: A network of SAM's seam in 3-D, a 3DSAM-adapter with prompts, or any other
            `PromptableNetwork`.
        spacing: Voxel size in millimetres at which the network sees the scan, as in its training;
            None for the scan's own.
        roi_size: Voxels of the network's field of view; by default the model's.
        intensity: Preset of the intensities, as in its training.
        max_windows: How many windows a round may decode for one object.
        cache_bytes: Memory for the embeddings of windows.
        device: Where to compute; by default where the model is.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        model: nn.Module | PromptableNetwork,
        spacing: Spacing | None = (1.5, 1.5, 1.5),
        roi_size: int | Sequence[int] | None = None,
        intensity: str = "sam_med3d",
        *,
        max_windows: int = 27,
        cache_bytes: int = CACHE_BYTES,
        device: torch.device | str | None = None,
    ) -> None:
        if max_windows < 1:
            raise ValueError(f"max_windows must be at least 1, got {max_windows}")
        super().__init__(spacing=spacing, intensity=intensity, cache_bytes=cache_bytes)
        self.network = _network_of(model, roi_size, device)
        self.max_windows = max_windows

    def embedding(self, window: Window) -> Embedding:
        """Return the network's embedding of a window, computed if it is not kept."""
        return self.embeddings.get(
            window, lambda window: self.network.encode(self.scan.cut(window))
        )

    def predict_objects(self, objects: Sequence[ObjectPrompts]) -> list[Prediction]:
        """Segment several objects, each in one round.

        Objects whose prompts fit one window share it, and so its embedding.

        Raises:
            ValueError: As `predict`.
        """
        placed = [place_prompts(prompts, self.scan.volume.grid) for prompts in objects]
        for prompts in placed:
            require_place(prompts)
        starts = shared_windows(placed, self.scan, self.network.roi_size)
        return [
            self._session_at(start).add_placed(prompts)
            for start, prompts in zip(starts, placed, strict=True)
        ]

    def open_session(
        self, roi_center: Sequence[float] | np.ndarray | None = None, grow: bool = True
    ) -> Session:
        """Begin with an object.

        Args:
            roi_center: Voxel index of the scan that the first window is centred on, wherever that
                is: the window is padded, not moved. By default it is laid around the prompts.
            grow: Whether windows are added where the mask reaches a border.

        Raises:
            ValueError: If there is no scan.
        """
        start = None
        if roi_center is not None:
            centre = self.scan.to_working(np.asarray(roi_center, dtype=np.float64)[None])[0]
            start = centred_window(centre, self.network.roi_size)
        return self._session_at(start, grow=grow)

    def _session_at(self, start: Window | None, *, grow: bool = True) -> Session:
        return Session(
            WindowReader(self.network, self.scan, self.embeddings),
            max_windows=self.max_windows,
            grow=grow,
            start=start,
            source=self._source,
        )


def _network_of(
    model: nn.Module | PromptableNetwork,
    roi_size: int | Sequence[int] | None,
    device: torch.device | str | None,
) -> PromptableNetwork:
    """Let a model answer prompts about windows, whatever its parts are."""
    if isinstance(model, Adapter3D):
        return AdapterNetwork(model, roi_size=roi_size, device=device)
    if isinstance(model, nn.Module):
        return WindowNetwork(model, roi_size=roi_size, device=device)
    return model
