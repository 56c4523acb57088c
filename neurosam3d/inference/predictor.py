"""Segment a scan by prompts: coordinates and masks are those of the scan as it was given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from neurosam3d.inference.adapter_network import AdapterNetwork
from neurosam3d.inference.embeddings import EmbeddingCache
from neurosam3d.inference.network import Embedding, PromptableNetwork, WindowNetwork
from neurosam3d.inference.object_prompts import (
    Coordinates,
    MaskPrompt,
    ObjectPrompts,
    place_prompts,
    require_place,
)
from neurosam3d.inference.opening import shared_windows
from neurosam3d.inference.prediction import Prediction
from neurosam3d.inference.session import Session
from neurosam3d.inference.window_reader import WindowReader
from neurosam3d.inference.windows import Window, centred_window
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.intensity import padding_value
from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.volume import Grid, Spacing, Volume, read_volume

CACHE_BYTES = 2**29

Image = Path | str | Volume | tuple[np.ndarray | Tensor, np.ndarray]


class Predictor:
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
        # What a scan would be refused for later is refused now.
        padding_value(intensity)
        if spacing is not None:
            Grid((1, 1, 1), np.eye(4)).with_spacing(spacing)
        self.network = _network_of(model, roi_size, device)
        self.spacing = spacing
        self.intensity = intensity
        self.max_windows = max_windows
        self.embeddings = EmbeddingCache(cache_bytes)
        self._scan: WorkingScan | None = None
        self._source: Path | None = None
        self._session: Session | None = None

    @property
    def scan(self) -> WorkingScan:
        """The scan.

        Raises:
            ValueError: If none was set.
        """
        if self._scan is None:
            raise ValueError("set_image must give the predictor a scan first")
        return self._scan

    @property
    def source(self) -> Path | None:
        """File or folder that the scan was read from, if it was."""
        return self._source

    def set_image(self, image: Image) -> None:
        """Take a scan; what was said about the last one is forgotten.

        Args:
            image: A file, a folder with one DICOM series, a Volume, or an array (D, H, W) and its
                affine to RAS+ millimetres.

        Raises:
            ValueError: If it cannot be read, or has several channels.
        """
        volume, source = read_scan(image)
        scan = WorkingScan(volume, spacing=self.spacing, intensity=self.intensity)
        self._scan, self._source, self._session = scan, source, None
        self.embeddings.clear()

    def embedding(self, window: Window) -> Embedding:
        """Return the network's embedding of a window, computed if it is not kept."""
        return self.embeddings.get(
            window, lambda window: self.network.encode(self.scan.cut(window))
        )

    def predict(
        self,
        points: Coordinates | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        box: Coordinates | None = None,
        mask: MaskPrompt | None = None,
        world: bool = False,
    ) -> Prediction:
        """Segment one object, in one round, without regard to earlier ones.

        Args:
            points: Coordinates (N, 3).
            labels: One per point: 1 inside the object, 0 outside. By default all are inside.
            box: [[min0, min1, min2], [max0, max1, max2]], both corners included.
            mask: A rough mask; see `ObjectPrompts`.
            world: Points and box are RAS+ millimetres.

        Raises:
            ValueError: If there is no scan, a prompt is unfit, or none says where the object is.
        """
        prompts = ObjectPrompts(points=points, labels=labels, box=box, mask=mask, world=world)
        return self.open_session().add(prompts)

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

    def add_point(
        self, point: Sequence[float] | np.ndarray, label: int = 1, *, world: bool = False
    ) -> Prediction:
        """Add a point to the predictor's own session and predict; see `Session.add_point`."""
        return self._own_session().add_point(point, label, world=world)

    def undo(self) -> Prediction:
        """Take the last round of the predictor's own session back; see `Session.undo`."""
        return self._own_session().undo()

    def reset(self) -> Prediction:
        """Begin the predictor's own session anew; see `Session.reset`."""
        return self._own_session().reset()

    def _own_session(self) -> Session:
        if self._session is None:
            self._session = self.open_session()
        return self._session


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


def read_scan(image: Image) -> tuple[Volume, Path | None]:
    """Return a scan, and the file or folder that it was read from, if it was.

    Raises:
        ValueError: If it cannot be read, or an array has other axes than (D, H, W).
    """
    if isinstance(image, Path | str):
        return read_volume(image), Path(image)
    if isinstance(image, Volume):
        return image, None
    array, affine = image
    data = torch.as_tensor(array)
    if data.ndim != 3:
        raise ValueError(f"an array must be (D, H, W), got shape {tuple(data.shape)}")
    return Volume(data[None], np.asarray(affine)), None
