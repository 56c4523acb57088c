"""Segment a scan by a network that needs no prompts: one label map of the classes it knows.

Shapes: K classes, the background first; D H W the scan's own axes, d h w those of the working grid.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neurosam3d.axes import swap_slices
from neurosam3d.inference.label_map_answer import (
    LabelMapAnswer,
    check_feeding,
    label_scan,
    require_all_named,
)
from neurosam3d.inference.network import undisturbed
from neurosam3d.inference.scan_predictor import Image, read_scan
from neurosam3d.inference.windows import Window, as_triple, centred_window
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.sliding_window import Weighting, slide
from neurosam3d.volume import Grid, Spacing, Triple


class PromptFreeSegmenter:
    """Segments scans by windows that lie over all of them.

        segmenter = PromptFreeSegmenter(load_model("best.ckpt"), ["kidney", "tumour"])
        segmenter.segment("scan.nii.gz").mask("tumour")

    The whole scan is turned, resampled and normalised as in training, and seen slices first (see
    `neurosam3d.axes`); the logits where windows overlap are averaged, and those of each class are
    brought to the scan's own grid.

    Args:
        model: Maps windows (B, 1, d, h, w) to logits (B, K, d, h, w) and knows its `crop_size`, one
            side or three. It is put into evaluation mode and moved.
        classes: Names of its classes but the background.
        spacing: Voxel size in millimetres at which the network sees the scan, as in its training;
            None for the scan's own.
        intensity: Preset of the intensities, as in its training.
        overlap: Share of a window's side that the next one covers, too.
        weighting: How windows are weighted where they overlap.
        mirror: Average over the eight ways to mirror a window.
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
        overlap: float = 0.5,
        weighting: Weighting = "gaussian",
        mirror: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        check_feeding(classes, spacing=spacing, intensity=intensity)
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be at least 0 and less than 1, got {overlap}")
        self.classes = tuple(classes)
        self.spacing = spacing
        self.intensity = intensity
        self.overlap = overlap
        self.weighting: Weighting = weighting
        self.mirror = mirror
        weight = next(model.parameters(), torch.zeros(()))
        self.device = weight.device if device is None else torch.device(device)
        self.crop_size = _crop_size(model)  # slices first
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
        window = self._around(scan.grid())
        seen = scan.cut(window)  # (1, 1, d, h, w)
        times.append(time.perf_counter())
        logits, num_windows = self._slide(seen)
        part = window.inside(scan.grid().shape).slices(window.start)
        logits = logits[(slice(None), *part)]  # (K, d, h, w)
        times.append(time.perf_counter())
        labels = label_scan(logits, scan)
        times.append(time.perf_counter())
        steps = zip(("prepare", "segment", "restore"), np.diff(times).tolist(), strict=True)
        return LabelMapAnswer(labels, self.classes, scan.volume.grid, dict(steps), num_windows)

    def _around(self, grid: Grid) -> Window:
        """Return the window of a whole scan, not smaller than the network's along any axis."""
        shape = as_triple(np.maximum(grid.shape, self.crop_size[::-1]))
        return centred_window((0, 0, 0), shape, scan_shape=grid.shape)

    def _slide(self, seen: Tensor) -> tuple[Tensor, int]:
        """Return the logits (K, d, h, w) of a scan, and how often the network was asked."""
        num_asked = 0

        def network(windows: Tensor) -> Tensor:
            nonlocal num_asked
            num_asked += len(windows)
            return self._model(windows)

        with undisturbed(self.device):
            logits = slide(
                network,
                swap_slices(seen),
                crop_size=self.crop_size,
                overlap=self.overlap,
                weighting=self.weighting,
                mirror=self.mirror,
                device=self.device,
            )[0]
        require_all_named(self.classes, len(logits) - 1)
        return swap_slices(logits), num_asked // 8 if self.mirror else num_asked


def _crop_size(model: nn.Module) -> Triple:
    """Return the voxels of a network's window as it sees it."""
    own = getattr(model, "crop_size", None)
    if own is None:
        raise ValueError(f"a network without prompts has a crop_size, {type(model).__name__} not")
    return (own, own, own) if isinstance(own, int) else as_triple(own)
