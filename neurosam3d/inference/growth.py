"""Windows beyond the first: until the object ends inside them.

Where foreground reaches a window's face, the window beyond it is decoded with the mask carried
over as its prompt. If the object goes on even beyond that, it is larger than a few windows: then
one window of a coarser spacing looks at all of it, and windows of the working spacing refine what
that one found.

A network that has seen half of an object in the prompt may take something else for it. What it
says is believed only if it repeats what is known already.

Shapes: N points; D H W voxels of a window.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from neurosam3d.inference.mosaic import OUTSIDE_LOGIT, Mosaic
from neurosam3d.inference.windows import (
    Window,
    box_window,
    centred_window,
    count_by_window,
    next_window,
)
from neurosam3d.inference.working_scan import WorkingScan, map_points
from neurosam3d.prompts import boxes_from_masks
from neurosam3d.volume import Grid, Volume, restore

OVERLAP = 0.5  # of a window's side, shared with the next one
REFINED_OVERLAP = 0.25  # the same where a mask or a coarser window tells what lies beyond
AGREEMENT = 0.9  # Dice with what is known, from which on a window is believed
REFINED_AGREEMENT = 0.8  # the same with a coarser window, whose borders lie between voxels
ROUGH_AGREEMENT = 0.5  # the same with a mask that the user gave, which may be rough

Ask = Callable[[Window, Tensor], Tensor]
"""Returns the logits (D, H, W) of a window for the prompts in it and carried logits (D, H, W)."""


class Growth:
    """The windows of one object, from those that hold its prompts to those that its mask needs.

    Args:
        scan: The scan.
        shape: Voxels of a window.
        ask: Decodes a window.
        first: Logits (D, H, W) of the windows of level 0 that were decoded before.
        guide: Logits on a grid of their own that tell where the object lies, if they are known.
        max_windows: How many windows may be decoded.
    """

    def __init__(
        self,
        scan: WorkingScan,
        shape: tuple[int, int, int],
        ask: Ask,
        *,
        first: Mapping[Window, Tensor],
        guide: Volume | None,
        max_windows: int,
    ) -> None:
        self.mosaic = lay_out(first, scan.grid())
        self.afar: Window | None = None  # the window of a coarser spacing that led on
        self.has_gaps = False  # the guide tells of foreground that no window has confirmed
        self._scan = scan
        self._shape = shape
        self._ask = ask
        self._first = first
        self._guide = guide
        self._may_look_afar = guide is None
        self._budget = max_windows
        self._refused: set[Window] = set()

    def run(self) -> None:
        """Decode windows until foreground reaches no open face or the budget is spent."""
        if self._guide is not None:
            self._refine(self._guide, ROUGH_AGREEMENT)
        while self._budget > 0 and (beyond := self._windows_beyond()):
            if self._may_look_afar and any(map(self._is_far, beyond)):
                self._may_look_afar = False
                self._guide = self._look_from_afar()
                if self._guide is not None:
                    self.mosaic = lay_out(self._first, self._scan.grid())
                    self._refine(self._guide, REFINED_AGREEMENT)
            else:
                self._follow(max(beyond, key=beyond.__getitem__))
        if self._guide is not None and self.has_gaps:
            self._fill_gaps(self._guide)

    def _windows_beyond(self) -> Counter[Window]:
        """Count the foreground at open faces by the windows beyond them, less those refused."""
        scan_shape, steps = self._scan.grid().shape, self._steps(OVERLAP)
        beyond: Counter[Window] = Counter()
        for face in self.mosaic.open_faces():
            step = face.direction * steps[face.axis]
            window = next_window(face.window, face.axis, step, scan_shape=scan_shape)
            if window not in self._refused:
                beyond[window] += face.area
        return beyond

    def _follow(self, window: Window) -> None:
        """Decode a window beyond a face and take it if it repeats what is known."""
        logits = self._decode(window, carried_logits(window, self._scan, self.mosaic, self._guide))
        if agreement(logits, self.mosaic.read(window)) >= AGREEMENT:
            self.mosaic.add(window, logits)
        else:
            self._refused.add(window)

    def _decode(self, window: Window, carried: Tensor) -> Tensor:
        self._budget -= 1
        return self._ask(window, carried)

    def _steps(self, overlap: float) -> list[int]:
        """Return the voxels from one window to the next, along each axis."""
        return [max(side - int(side * overlap), 1) for side in self._shape]

    def _is_far(self, window: Window) -> bool:
        """Tell whether a window is no neighbour of any of the first ones."""
        return all(
            (np.abs(np.subtract(window.start, first.start)) > self._steps(OVERLAP)).any()
            for first in self._first
        )

    def _look_from_afar(self) -> Volume | None:
        """Return the logits of a window of a coarser spacing that holds the whole object.

        There are none if it shows something else, as it does if the object is too thin for it.
        """
        level, known, guide = 0, self.mosaic.known(), None
        while self._budget > 0:
            level += 1
            assert known is not None
            grid = self._scan.grid(level)
            low, high = foreground_box(guide or known, grid)
            is_last = np.less_equal(grid.shape, self._shape).all()
            if not is_last and (high - low + 1 >= self._shape).any():
                continue
            centre = (low + high) / 2
            window = centred_window(centre, self._shape, scan_shape=grid.shape, level=level)
            part = self._scan.window_grid(window)
            logits = self._decode(window, restore(guide or known, part).data[0])
            if agreement(logits, restore(known, part).data[0]) < AGREEMENT:
                self.afar = None
                return None
            afar = Mosaic(grid)
            afar.add(window, logits)
            self.afar, guide = window, afar.volume
            if is_last or not afar.open_faces():
                break
        return guide

    def _refine(self, guide: Volume, enough: float) -> None:
        """Decode the windows over a guide's foreground, those with most of it first.

        Args:
            guide: What is known from elsewhere.
            enough: Dice with it, from which on a window is believed.
        """
        for window, _ in self._windows_over(guide).most_common():
            if self._budget <= 0:
                self.has_gaps = True
                return
            carried = carried_logits(window, self._scan, self.mosaic, guide)
            logits = self._decode(window, carried)
            if agreement(logits, carried) >= enough:
                self.mosaic.add(window, logits)
            else:
                self.has_gaps = True

    def _windows_over(self, guide: Volume) -> Counter[Window]:
        """Count a guide's foreground in windows that hold what the first ones do not."""
        grid, steps = self._scan.grid(), self._steps(REFINED_OVERLAP)
        anchor = next(iter(self._first), None)
        if anchor is None:
            low, high = foreground_box(guide, grid)
            anchor = centred_window((low + high) / 2, self._shape, scan_shape=grid.shape)
        counts: Counter[Window] = Counter()
        for d, plane in enumerate(guide.data[0] > 0):  # all at once they would fill the memory
            found = np.insert(plane.nonzero().numpy(), 0, d, axis=1)  # (N, 3)
            points = map_points(found, guide.affine, grid.affine)
            for window in self._first:
                points = points[~self._is_settled(window, points)]
            counts += count_by_window(points, anchor, steps, scan_shape=grid.shape)
        return counts

    def _is_settled(self, window: Window, points: np.ndarray) -> np.ndarray:
        """Tell which points (N, 3) lie so far inside a window that no other one is needed."""
        scan_shape = self._scan.grid().shape
        margin = np.subtract(self._shape, self._steps(REFINED_OVERLAP)) // 2
        low = np.where(np.less_equal(window.start, 0), window.start, window.start + margin)
        ends = np.greater_equal(window.stop, scan_shape)
        high = np.where(ends, window.stop, window.stop - margin)
        return box_window(low, high).holds(points)

    def _fill_gaps(self, guide: Volume) -> None:
        """Let a guide speak where no window does."""
        grid = self._scan.grid()
        low, high = foreground_box(guide, grid)
        reach = np.divide(guide.spacing, grid.spacing)  # what is foreground ends between voxels
        box = box_window(np.floor(low - reach), np.ceil(high + reach)).inside(grid.shape)
        if min(box.shape) == 0:  # the guide's foreground lies outside the scan
            return
        part = grid.window(box.start, box.shape)
        self.mosaic.underlay(box, restore(guide, part, fill=OUTSIDE_LOGIT).data[0])


def lay_out(answers: Mapping[Window, Tensor], grid: Grid) -> Mosaic:
    """Return a mosaic of the logits (D, H, W) of windows on a grid."""
    mosaic = Mosaic(grid)
    for window, logits in answers.items():
        mosaic.add(window, logits)
    return mosaic


def carried_logits(
    window: Window, scan: WorkingScan, mosaic: Mosaic, guide: Volume | None
) -> Tensor:
    """Return the logits (D, H, W) that are known inside a window, 0 where nothing is.

    Args:
        window: The window.
        scan: The scan.
        mosaic: Answers of windows of level 0; they count more than the guide.
        guide: Logits on a grid of their own.
    """
    known = mosaic.read(window) if window.level == 0 else torch.zeros(window.shape)
    if guide is None:
        return known
    guided = restore(guide, scan.window_grid(window), fill=OUTSIDE_LOGIT).data[0]
    return torch.where(known == 0, guided, known)


def agreement(logits: Tensor, known: Tensor) -> float:
    """Return the Dice of an answer (D, H, W) with known logits, 0 where nothing is known."""
    expected, repeated = known > 0, (logits > 0) & (known != 0)
    total = int(expected.sum()) + int(repeated.sum())
    return 2 * int((expected & repeated).sum()) / total if total else 1.0


def foreground_box(logits: Volume, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last index (3,) of a mask's foreground, as indices on another grid."""
    corners = boxes_from_masks(logits.data[None] > 0)[0].numpy().astype(float)  # (2, 3)
    ends = map_points(corners, logits.affine, grid.affine)
    return ends.min(axis=0), ends.max(axis=0)
