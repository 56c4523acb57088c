"""Segment a scan slice by slice by a network that needs no prompts: SAMed (arXiv:2304.13785).

Shapes: N slices of a scan, n of them in a batch, H W their sides, S the side of the network's
images; K classes, the background first; d h w the working grid.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.inference.label_map_answer import (
    LabelMapAnswer,
    check_feeding,
    label_scan,
    require_all_named,
    restore_labels,
)
from neurosam3d.inference.network import undisturbed
from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from neurosam3d.inference.scan_predictor import Image, read_scan
from neurosam3d.inference.windows import Window
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.slice_zoom import zoom_labels, zoom_slices
from neurosam3d.slices import Axis, axis_order, from_slices, to_slices
from neurosam3d.volume import Spacing


class SliceSegmenter:
    """Segments scans slice by slice, each by itself.

        segmenter = SliceSegmenter(
            load_model("samed.ckpt"), ["liver"], spacing=None, intensity="clip -125 275"
        )
        segmenter.segment("scan.nii.gz").mask("liver")

    A slice is scaled to the network's side, whatever its own sides are, as in training
    (`neurosam3d.slice_zoom`), and the answer is scaled back the same way.

    Args:
        model: Maps slices (n, 3, S, S) to a mapping with `masks`, logits (n, K, S, S), and knows
            its `image_size` S. It is put into evaluation mode and moved.
        classes: Names of its classes but the background.
        spacing: Voxel size in millimetres at which the network sees the scan, as in its training;
            None for the scan's own.
        intensity: Preset of the intensities, as in its training.
        axis: What the slices are stacked along, as in its training.
        detail: Side in pixels to which slices are reduced before they are scaled to S, as SAMed's
            training data were (224); None keeps all that the scan shows.
        smooth: Bring logits, not labels, back to the slice's pixels. Labels taken from the nearest
            pixel, as published, leave steps at the borders of large slices.
        batch_size: Slices in one call of the network.
        device: Where to compute; by default where the model is.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        *,
        spacing: Spacing | None,
        intensity: str,
        axis: Axis = "axial",
        detail: int | None = None,
        smooth: bool = True,
        batch_size: int = 8,
        device: torch.device | str | None = None,
    ) -> None:
        check_feeding(classes, spacing=spacing, intensity=intensity)
        axis_order(axis)  # tells an unknown one
        for name, number in (("detail", detail), ("batch_size", batch_size)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        side: Any = getattr(model, "image_size", None)  # parts of modules have no type of their own
        if side is None:
            raise ValueError(f"a network of slices has an image_size, {type(model).__name__} not")
        self.classes = tuple(classes)
        self.spacing = spacing
        self.intensity = intensity
        self.axis: Axis = axis
        self.detail = detail
        self.smooth = smooth
        self.batch_size = batch_size
        weight = next(model.parameters(), torch.zeros(()))
        self.device = weight.device if device is None else torch.device(device)
        self._side: int = side
        self._model = model.to(self.device).eval()

    def segment(self, image: Image) -> LabelMapAnswer:
        """Segment a scan.

        Args:
            image: A file, a folder with one DICOM series, a Volume, or an array (D, H, W) and its
                affine to RAS+ millimetres.

        Raises:
            ValueError: If it cannot be read, has several channels, or the network has not as many
                classes as there are names.
        """
        times = [time.perf_counter()]
        scan = WorkingScan(read_scan(image)[0], spacing=self.spacing, intensity=self.intensity)
        whole = scan.cut(Window((0, 0, 0), scan.grid().shape))[0]  # (1, d, h, w)
        slices = to_slices(whole, self.axis)  # (N, H, W)
        times.append(time.perf_counter())
        compares_on_scan = self.smooth and scan.is_interpolated
        with undisturbed(self.device):
            found = [
                self._find(part, as_logits=compares_on_scan).cpu()
                for part in slices.split(self.batch_size)
            ]
        volume = from_slices(torch.cat(found), self.axis)  # (K, d, h, w) or (d, h, w)
        times.append(time.perf_counter())
        labels = label_scan(volume, scan) if compares_on_scan else restore_labels(volume, scan)
        times.append(time.perf_counter())
        steps = zip(("prepare", "segment", "restore"), np.diff(times).tolist(), strict=True)
        return LabelMapAnswer(labels, self.classes, scan.volume.grid, dict(steps), len(slices))

    def _find(self, slices: Tensor, *, as_logits: bool) -> Tensor:
        """Return logits (n, K, H, W) or labels (n, H, W) of slices (n, H, W)."""
        height, width = slices.shape[1:]
        masks = self._model(self._feed(slices))["masks"]  # (n, K, S, S)
        require_all_named(self.classes, masks.shape[1] - 1)
        if not self.smooth:
            return zoom_labels(_labels(masks), (height, width))
        logits = _zoom_logits(masks, (height, width))
        return logits if as_logits else _labels(logits)

    def _feed(self, slices: Tensor) -> Tensor:
        """Return slices (n, H, W) as the network takes them, (n, 3, S, S)."""
        x = slices.to(self.device)
        if self.detail is not None:
            x = zoom_slices(x, (self.detail, self.detail))
        x = zoom_slices(x, (self._side, self._side))
        return x[:, None].expand(-1, 3, -1, -1)


Unprompted = PromptFreeSegmenter | SliceSegmenter
"""Whatever segments a scan by itself."""


def _zoom_logits(logits: Tensor, sides: tuple[int, int]) -> Tensor:
    """Undo `zoom_slices`, which leaves the corner pixels in their places, for logits."""
    return F.interpolate(logits, sides, mode="bilinear", align_corners=True)


def _labels(logits: Tensor) -> Tensor:
    """Return the class of each pixel, uint8 (n, H, W), of logits (n, K, H, W)."""
    return logits.argmax(1).to(torch.uint8)
