"""What all predictors have in common: a scan is given, and objects of it are asked for."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosam3d.inference.embeddings import EmbeddingCache
from neurosam3d.inference.object_prompts import Coordinates, MaskPrompt, ObjectPrompts
from neurosam3d.inference.prediction import Prediction
from neurosam3d.inference.prompt_session import PromptSession
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.intensity import padding_value
from neurosam3d.volume import Grid, Spacing, Volume, read_volume

CACHE_BYTES = 2**29

Image = Path | str | Volume | tuple[np.ndarray | Tensor, np.ndarray]


class ScanPredictor(ABC):
    """Answers prompts about one scan at a time.

    Coordinates are voxel indices of the scan in its own axis order, or RAS+ millimetres with
    `world=True`. Orientation and resampling are undone in the result.

    Args:
        spacing: Voxel size in millimetres at which the network sees the scan, as in its training;
            None for the scan's own.
        intensity: Preset of the intensities, as in its training.
        cache_bytes: Memory for the embeddings of parts of the scan.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self, *, spacing: Spacing | None, intensity: str, cache_bytes: int) -> None:
        # What a scan would be refused for later is refused now.
        padding_value(intensity)
        if spacing is not None:
            Grid((1, 1, 1), np.eye(4)).with_spacing(spacing)
        self.spacing = spacing
        self.intensity = intensity
        self.embeddings = EmbeddingCache(cache_bytes)
        self._scan: WorkingScan | None = None
        self._source: Path | None = None
        self._session: PromptSession[Any] | None = None

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

        Raises:
            ValueError: As `predict`.
        """
        return [self.open_session().add(prompts) for prompts in objects]

    @abstractmethod
    def open_session(
        self, roi_center: Sequence[float] | np.ndarray | None = None, grow: bool = True
    ) -> PromptSession[Any]:
        """Begin with an object.

        Args:
            roi_center: Voxel index of the scan around which the network looks first; by default
                around the prompts.
            grow: Whether it looks further where the object goes on.

        Raises:
            ValueError: If there is no scan.
        """

    def add_point(
        self, point: Sequence[float] | np.ndarray, label: int = 1, *, world: bool = False
    ) -> Prediction:
        """Add a point to the predictor's own session and predict; see `PromptSession.add_point`."""
        return self._own_session().add_point(point, label, world=world)

    def undo(self) -> Prediction:
        """Take the last round of the predictor's own session back; see `PromptSession.undo`."""
        return self._own_session().undo()

    def reset(self) -> Prediction:
        """Begin the predictor's own session anew; see `PromptSession.reset`."""
        return self._own_session().reset()

    def _own_session(self) -> PromptSession[Any]:
        if self._session is None:
            self._session = self.open_session()
        return self._session


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
