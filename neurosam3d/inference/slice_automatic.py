"""Find the objects of one slice without a prompt: SAM's generator as published (arXiv:2304.02643,
appendix B).

To the parts that it shares with volumes, a slice is a scan that is one voxel deep, and a crop is a
window.

Shapes: P points; H W rows and columns of the slice, h w of a crop; M side of the network's masks.
"""

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosam3d.inference.candidates import suppress_boxes
from neurosam3d.inference.foreground_grid import cell_centres
from neurosam3d.inference.network import WindowAnswer, undisturbed
from neurosam3d.inference.proposals import AnswerFilter, Candidate
from neurosam3d.inference.run_log import RunLog
from neurosam3d.inference.sparse_mask import SparseMask, clean_mask
from neurosam3d.inference.windows import Window
from neurosam3d.models.sam2d import Sam2D
from neurosam3d.slice_feeding import find_feeding

_EDGE = 20.0  # pixels: a box this near to a crop's border reaches it


@dataclass(frozen=True, eq=False)
class SliceMask:
    """An object of a slice.

    Args:
        mask: Its pixels, rows and columns.
        iou: The network's own estimate.
        stability: See `stability_scores`.
        point: The pixel (x, y) that it was the answer to.
        crop: Where that was asked: lowest x and y, width and height.
    """

    mask: SparseMask
    iou: float
    stability: float
    point: tuple[float, float]
    crop: tuple[int, int, int, int]

    def record(self, shape: tuple[int, int]) -> dict[str, Any]:
        """Return it under the names that SAM's program gives, of a slice of H rows, W columns.

        As there, the box's width and height are one less than the pixels that it covers.
        """
        (top, left), (bottom, right) = self.mask.box.tolist()
        return {
            "segmentation": {"size": list(shape), "counts": run_lengths(self.mask.dense(shape))},
            "area": self.mask.num_voxels,
            "bbox": [left, top, right - left, bottom - top],
            "predicted_iou": self.iou,
            "point_coords": [list(self.point)],
            "stability_score": self.stability,
            "crop_box": list(self.crop),
        }


@dataclass(frozen=True)
class SliceMaskGenerator:
    """Asks a network of slices about a grid of points, each alone, and keeps what holds.

        masks = SliceMaskGenerator(model).generate(grey)

    Args:
        model: Answers; computes where it is.
        feeding: How slices are fed, a name in `FEEDINGS`.
        points_per_side: Points along each side of the slice.
        points_per_batch: Points decoded at once.
        iou_threshold: What the network's own estimate must exceed.
        stability_threshold: Least share of a mask that a raised threshold leaves of what a lowered
            one gives.
        stability_offset: By how much the threshold is raised and lowered, in logits.
        box_nms: Largest IoU that the boxes of two masks of a crop may have.
        crop_layers: Layers of crops: the first has 2 along each side, the next 4, and so on.
        crop_nms: Largest IoU that the boxes of masks of different crops may have; the one of the
            smaller crop stays.
        crop_overlap: Share of the slice's shorter side by which two crops of the first layer
            overlap; in the next layer half of it, and so on.
        crop_point_divisor: By what each layer divides the points along a side.
        min_region: Holes and islands of fewer pixels are filled and removed.

    Raises:
        ValueError: If a number is not allowed, or the feeding is unknown.
    """

    model: Sam2D
    _: KW_ONLY
    feeding: str = "sam"
    points_per_side: int = 32
    points_per_batch: int = 64
    iou_threshold: float = 0.88
    stability_threshold: float = 0.95
    stability_offset: float = 1.0
    box_nms: float = 0.7
    crop_layers: int = 0
    crop_nms: float = 0.7
    crop_overlap: float = 512 / 1500
    crop_point_divisor: int = 1
    min_region: int = 0

    def __post_init__(self) -> None:
        find_feeding(self.feeding)
        for name in ("points_per_side", "points_per_batch", "crop_point_divisor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("crop_layers", "stability_offset", "min_region"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("stability_threshold", "box_nms", "crop_nms", "crop_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")

    def generate(self, image: Tensor) -> list[SliceMask]:
        """Find the objects of a grey slice (H, W), or one in colour (3, H, W).

        Args:
            image: Values from 0 to 1.

        Returns:
            Those of smaller crops first, then in the order of their estimated IoU.
        """
        image = image if image.ndim == 3 else image[None]
        crops = lay_crops(image.shape[1], image.shape[2], self.crop_layers, self.crop_overlap)
        found: list[Candidate] = []
        for layer, crop in crops:
            found += self._apart(list(self._ask(image, crop, layer)), self.box_nms)
        if self.crop_layers:
            by_size = np.array([1 / np.prod(one.window.shape) for one in found])
            found = self._apart(found, self.crop_nms, by_size)
        return [self._finish(one) for one in found]

    def _ask(self, image: Tensor, crop: Window, layer: int) -> Iterator[Candidate]:
        """Ask a crop about its points, batch by batch."""
        feeding, side = find_feeding(self.feeding), self.model.image_size
        shape, slice_shape = crop.shape[1:], (1, image.shape[1], image.shape[2])
        device = next(self.model.parameters()).device
        per_side = max(1, self.points_per_side // self.crop_point_divisor**layer)
        grid = cell_centres(np.array([(0, 0), shape]), (per_side, per_side))  # (P, 2), y and x
        pixels = image[(slice(None), *crop.slices()[1:])][None].cpu()  # (1, 1 or 3, h, w)
        with undisturbed(device):
            fed = feeding.image(pixels, side).to(device)  # 8-bit images are scaled on the host
            embedding = self.model.eval().image_encoder(fed)
        for first in range(0, len(grid), self.points_per_batch):
            asked = grid[first : first + self.points_per_batch]
            coords = torch.from_numpy(asked[:, ::-1].copy()).float()[:, None]  # (P, 1, 2)
            points = feeding.place(coords, shape, side).to(device)
            labels = torch.ones(len(asked), 1, dtype=torch.int64, device=device)
            with undisturbed(device):
                low_res, iou = self.model.decode(
                    embedding, points=(points, labels), multimask_output=True
                )  # (P, 3, M, M), (P, 3)
                logits = feeding.restore(low_res, shape, side)  # (P, 3, h, w)
            answer = WindowAnswer(
                logits.flatten(0, 1)[:, None, None],  # (3P, 1, 1, h, w)
                low_res.flatten(0, 1)[:, None, None],
                iou.flatten()[:, None],
            )
            places = np.insert(asked + crop.start[1:], 0, 0, axis=1).repeat(3, axis=0)  # (3P, 3)
            yield from self._filter.candidates(
                answer, crop, places, scan_shape=slice_shape, log=RunLog()
            )

    @property
    def _filter(self) -> AnswerFilter:
        return AnswerFilter(
            stability_threshold=self.stability_threshold,
            stability_offset=self.stability_offset,
            iou_threshold=self.iou_threshold,
            min_voxels=0,
            keep_cut=False,
            most=1.0,
            edge=_EDGE,
        )

    @staticmethod
    def _apart(
        found: list[Candidate], threshold: float, scores: np.ndarray | None = None
    ) -> list[Candidate]:
        """Drop those whose boxes overlap a better one's too much."""
        if not found:
            return []
        boxes = np.stack([one.mask.box for one in found])
        if scores is None:
            scores = np.array([one.score for one in found])
        return [found[index] for index in suppress_boxes(boxes, scores, threshold=threshold)]

    def _finish(self, one: Candidate) -> SliceMask:
        """Return an answer as an object of the slice."""
        _, top, left = one.window.start
        _, height, width = one.window.shape
        mask = one.mask
        flat = SparseMask(mask.start[1:], mask.shape[1:], mask.bits, mask.num_voxels)
        if self.min_region:
            margin = flat.dense((top + height, left + width))[top:, left:]
            flat = SparseMask.from_array(
                clean_mask(margin, min_voxels=self.min_region), (top, left)
            )
        _, y, x = one.point.tolist()
        return SliceMask(flat, one.iou, one.stability, (x, y), (left, top, width, height))


def lay_crops(height: int, width: int, layers: int, overlap: float) -> list[tuple[int, Window]]:
    """Cover a slice with crops, layer by layer; layer 0 is the whole slice.

    Args:
        height: Rows H of the slice.
        width: Columns W.
        layers: Layers after that; layer i has 2^i crops along each side.
        overlap: Share of the shorter side by which two crops of the first layer overlap; those of
            layer i by 2 / 2^i of it.

    Returns:
        Each crop's layer and place, the rows fastest.
    """
    crops = [(0, Window((0, 0, 0), (1, height, width)))]
    for layer in range(1, layers + 1):
        count = 2**layer
        shared = int(overlap * min(height, width) * (2 / count))
        rows, columns = (_lay_along(length, count, shared) for length in (height, width))
        crops += [
            (layer, Window((0, top, left), (1, bottom - top, right - left)))
            for left, right in columns
            for top, bottom in rows
        ]
    return crops


def _lay_along(length: int, count: int, shared: int) -> list[tuple[int, int]]:
    """Cover `length` pixels with intervals (from, to) that share pixels with the next one."""
    size = math.ceil((shared * (count - 1) + length) / count)
    starts = [index * (size - shared) for index in range(count)]
    return [(start, min(start + size, length)) for start in starts]


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return the lengths of the runs of a boolean mask (H, W), column after column, beginning with
    the background, as COCO's uncompressed run-length code has it.
    """
    pixels = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *ends.tolist(), pixels.size]).tolist()
    return [0, *runs] if pixels[0] else runs
