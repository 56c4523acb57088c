"""Which of a network's answers to a grid of points may be objects.

Shapes: B points; D H W voxels of a window's part inside the scan.
"""

from dataclasses import dataclass

import numpy as np

from neurosam3d.inference.candidates import (
    count_voxels,
    end_at_window,
    stability_scores,
    tight_boxes,
)
from neurosam3d.inference.network import WindowAnswer
from neurosam3d.inference.run_log import RunLog
from neurosam3d.inference.sparse_mask import SparseMask
from neurosam3d.inference.windows import Window
from neurosam3d.volume import Triple

EDGE_SHARE = 20 / 1024  # of a window's side: a box this near to a face reaches it, as in SAM
WHOLE_WINDOW = 0.95  # of the voxels that a window shows: more is no object


@dataclass(frozen=True, eq=False)
class Candidate:
    """An answer that may be an object, on the working grid.

    Args:
        window: Where it was given.
        point: Voxel index (3,) of the point that it was given to.
        stability: See `stability_scores`.
        iou: The network's own estimate.
        score: By which candidates are ranked: one of the two.
        is_cut: Whether it ends at its window's border, so that its object may go on.
        mask: Its voxels.
    """

    window: Window
    point: np.ndarray
    stability: float
    iou: float
    score: float
    is_cut: bool
    mask: SparseMask


@dataclass(frozen=True)
class AnswerFilter:
    """The conditions on a single answer.

    Args:
        stability_threshold: Least stability.
        stability_offset: By how much the threshold of logits is raised and lowered to measure it.
        iou_threshold: What the network's own estimate must exceed; None not to look at it.
        min_voxels: Least size.
        keep_cut: Whether to keep answers that end at their window's border.
        most: Largest share of the window's voxels inside the scan.
        edge: A border this near is reached, in voxels; None for a share of the window's sides.
    """

    stability_threshold: float
    stability_offset: float
    iou_threshold: float | None
    min_voxels: float
    keep_cut: bool
    most: float = WHOLE_WINDOW
    edge: float | None = None

    def candidates(
        self,
        answer: WindowAnswer,
        window: Window,
        points: np.ndarray,
        *,
        scan_shape: Triple,
        log: RunLog,
    ) -> list[Candidate]:
        """Pick the answers that may be objects.

        Args:
            answer: To B points, each asked alone.
            window: Where they were asked.
            points: Their voxel indices (B, 3).
            scan_shape: Voxels of the working grid.
            log: Where it is noted why the others were dropped.
        """
        inside = window.inside(scan_shape)
        logits = answer.logits[:, 0][(slice(None), *inside.slices(window.start))]  # (B, D, H, W)
        stability = stability_scores(logits, offset=self.stability_offset).tolist()
        ious = answer.iou[:, 0].tolist()
        masks = logits > 0
        most = self.most * masks[0].numel()
        reasons = [
            self._objection(*of_answer, most)
            for of_answer in zip(stability, ious, count_voxels(masks).tolist(), strict=True)
        ]
        chosen = [index for index, reason in enumerate(reasons) if not reason]
        boxes = tight_boxes(masks[chosen]).cpu().numpy() + inside.start
        is_cut = end_at_window(
            boxes,
            np.array([inside.start, np.subtract(inside.stop, 1)]),
            np.array([(0, 0, 0), np.subtract(scan_shape, 1)]),
            tolerance=EDGE_SHARE * np.array(window.shape) if self.edge is None else self.edge,
        )
        found = []
        for index, cut in zip(chosen, is_cut.tolist(), strict=True):
            if cut and not self.keep_cut:
                reasons[index] = "cut off"
                continue
            score = stability[index] if self.iou_threshold is None else ious[index]
            found.append(
                Candidate(
                    window,
                    points[index],
                    stability=stability[index],
                    iou=ious[index],
                    score=score,
                    is_cut=cut,
                    mask=SparseMask.from_array(masks[index].cpu().numpy(), inside.start),
                )
            )
        log.counts.update(reason for reason in reasons if reason)
        log.highest_stability = max(log.highest_stability, *np.nan_to_num(stability).tolist())
        return found

    def _objection(self, stability: float, iou: float, size: int, most: float) -> str:
        """Say what is against an answer; nothing if it may be an object."""
        if not size:
            return "empty"
        if not stability >= self.stability_threshold:
            return "unstable"
        if self.iou_threshold is not None and not iou > self.iou_threshold:
            return "low IoU"
        if size < self.min_voxels:
            return "small"
        return "whole window" if size > most else ""
