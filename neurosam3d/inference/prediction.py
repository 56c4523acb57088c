"""A predicted object on the grid of the scan it was asked of.

Shapes: D H W the scan's own axes.
"""

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from neurosam3d.inference.mosaic import OUTSIDE_LOGIT
from neurosam3d.inference.windows import Window, box_window
from neurosam3d.inference.working_scan import WorkingScan, map_points, repeat_outermost
from neurosam3d.prompts import boxes_from_masks
from neurosam3d.volume import Grid, Volume, restore, write_volume


class KnownLogits(Protocol):
    """Logits on a part of the working grid."""

    @property
    def windows(self) -> Sequence[Window]:
        """Windows, or slices, that they were put together from."""

    @property
    def region(self) -> Window | None:
        """The smallest box that holds these; None where there is none."""

    @property
    def volume(self) -> Volume | None:
        """The logits (1, D, H, W) in it."""


class Prediction:
    """What the network says about one object; brought to the scan's grid when it is asked for.

    Args:
        scan: The scan.
        mosaic: Logits on its working grid, put together from windows or slices.
        roi: Grid of the first window, on the working grid; None if there was none.
        is_quiet: False if foreground reaches a border beyond which no window was allowed.
        seconds: Time of encoding and decoding.
        source: File of the scan, if it has one.
    """

    def __init__(
        self,
        scan: WorkingScan,
        mosaic: KnownLogits,
        *,
        roi: Grid | None,
        is_quiet: bool,
        seconds: dict[str, float],
        source: Path | None,
    ) -> None:
        self.grid = scan.volume.grid
        self.roi = roi
        self.is_quiet = is_quiet
        self.seconds = {**seconds, "restore": 0.0}
        self._scan = scan
        self._mosaic = mosaic
        self._source = source

    @property
    def num_windows(self) -> int:
        """Windows, or slices, that the logits were put together from."""
        return len(self._mosaic.windows)

    @cached_property
    def mask(self) -> np.ndarray:
        """The object, uint8 (D, H, W): 1 where the logit is above 0."""
        start = time.perf_counter()
        mask = np.zeros(self.grid.shape, dtype=np.uint8)
        if (known := self._known()) is not None and bool((known.data > 0).any()):
            known = _around_foreground(known)
            if not self._scan.is_interpolated:  # voxels are only copied, and bytes faster
                known = Volume((known.data > 0).to(torch.uint8), known.affine)
            box, values = self._on_scan(known, fill=0)
            mask[box.slices()] = values > 0
        self.seconds["restore"] += time.perf_counter() - start
        return mask

    @cached_property
    def logits(self) -> np.ndarray:
        """Logits, float32 (D, H, W); a constant negative number where no window looked."""
        start = time.perf_counter()
        logits = np.full(self.grid.shape, OUTSIDE_LOGIT, dtype=np.float32)
        if (known := self._known()) is not None:
            box, values = self._on_scan(known, fill=OUTSIDE_LOGIT)
            logits[box.slices()] = values
        self.seconds["restore"] += time.perf_counter() - start
        return logits

    def foreground_logits(self) -> tuple[Window, np.ndarray]:
        """Return the box of the scan around the object, and the logits in it.

        They are those of `logits` wherever these are above 0. No array of the whole scan is made
        or kept, so that many objects of a large one can be compared.
        """
        start = time.perf_counter()
        box, values = Window((0, 0, 0), (0, 0, 0)), np.zeros((0, 0, 0), dtype=np.float32)
        if (known := self._known()) is not None and bool((known.data > 0).any()):
            box, values = self._on_scan(_around_foreground(known), fill=OUTSIDE_LOGIT)
        self.seconds["restore"] += time.perf_counter() - start
        return box, values

    def save(self, path: Path | str) -> None:
        """Write the mask with the scan's affine.

        Args:
            path: A file ending as `write_volume` knows it. In NIfTI the space is named as in the
                scan's file.

        Raises:
            ValueError: If the suffix is unknown.
        """
        is_nifti = self._source is not None and self._source.name.endswith((".nii", ".nii.gz"))
        volume = Volume(torch.from_numpy(self.mask)[None], self.grid.affine)
        write_volume(volume, path, like=self._source if is_nifti else None)

    def _known(self) -> Volume | None:
        """Return the logits on the working grid, out to the outermost voxels of the scan."""
        known, region, shape = self._mosaic.volume, self._mosaic.region, self._scan.grid().shape
        if known is None or region is None or not self._scan.is_interpolated:
            return known
        # The scan's outermost voxels may lie further out than the working grid's: repeat those.
        return repeat_outermost(
            known, at_start=np.equal(region.start, 0), at_stop=np.equal(region.stop, shape)
        )

    def _on_scan(self, known: Volume, *, fill: float) -> tuple[Window, np.ndarray]:
        """Return the box of the scan's voxels that a part of the working grid covers, and them."""
        ends = np.stack([np.full(3, -0.5), np.subtract(known.shape, 0.5)])
        corners = map_points(ends, known.affine, self.grid.affine)  # axes may run backwards
        low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1
        box = box_window(low, high).inside(self.grid.shape)
        part = restore(known, self.grid.window(box.start, box.shape), fill=fill)
        return box, part.data[0].numpy()


def _around_foreground(logits: Volume) -> Volume:
    """Cut logits to the only part where interpolation can give values above 0."""
    first, last = boxes_from_masks(logits.data[None] > 0)[0].int().numpy()
    low, high = np.maximum(first - 1, 0), np.minimum(last + 2, logits.shape)
    start, shape = low.tolist(), (high - low).tolist()
    return restore(logits, logits.grid.window(start, shape))
