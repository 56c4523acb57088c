"""Find the objects of a scan without a prompt: ask everywhere, keep the answers that hold.

SAM's automatic generator (arXiv:2304.02643, appendix B) in three dimensions: its crops are windows
here, its image borders the six faces of the scan, its pixels cubic millimetres.

Shapes: B prompts; N points; D H W voxels of a window's part inside the scan.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import numpy as np
import torch

from neurosam3d.inference.automatic_result import AutomaticMask, AutomaticResult
from neurosam3d.inference.candidates import suppress_boxes, suppress_masks
from neurosam3d.inference.completion import CompleteMask, complete, is_part_of_any
from neurosam3d.inference.foreground_grid import PromptWindow, find_body, plan_prompts
from neurosam3d.inference.predictor import Predictor
from neurosam3d.inference.proposals import AnswerFilter, Candidate
from neurosam3d.inference.run_log import RunLog
from neurosam3d.inference.sparse_mask import SparseMask
from neurosam3d.inference.windows import Window
from neurosam3d.prompts import Prompts
from neurosam3d.volume import Volume, restore

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done (`asking` or `finishing`), how much of it is done, and of how much."""

TRAINED_IOU_THRESHOLD = 0.88
_BATCH_BYTES = 2**29
_MOST_POINTS = 64


@dataclass(frozen=True)
class AutomaticEstimate:
    """What a run would take.

    Args:
        num_windows: Windows to encode.
        num_points: Points to ask, each of them decoded once.
        num_batches: In how many calls of the decoder.
        encode_s: Seconds to encode a window, as measured on one.
        decode_s: Seconds to decode and filter a point, as measured on a batch.
    """

    num_windows: int
    num_points: int
    num_batches: int
    encode_s: float
    decode_s: float

    @property
    def seconds(self) -> float:
        """Time of the run without the windows that masks grow into, which depend on the answers."""
        return self.num_windows * self.encode_s + self.num_points * self.decode_s


@dataclass(frozen=True)
class AutomaticMaskGenerator:
    """Looks for objects in the predictor's scan with a grid of points, window by window.

        predictor.set_image("scan.nii.gz")
        AutomaticMaskGenerator(predictor, points_per_side=10).generate().save("objects.nii.gz")

    Where masks are soft, few pass SAM's own limit of 0.95 for stability, and in three dimensions
    even fewer: a ball with a radius of five voxels whose border moves by half a voxel either way
    keeps (4.5 / 5.5)^3 = 0.55. The best limit differs between networks; a run that finds nothing
    says how stable the answers were.

    Args:
        predictor: Has the scan.
        points_per_side: Points along each side of a window; n^3 of them where all is body.
        overlap: Share of a window that its neighbour covers too.
        points_per_batch: Points decoded at once; by default what about 500 MB hold.
        stability_threshold: Least share of a mask that a raised threshold leaves of what a lowered
            one gives.
        stability_offset: By how much the threshold is raised and lowered, in logits.
        iou_threshold: Answers must be estimated better by the network itself. By default 0.88 if
            that part of it is trained, else off.
        iou_trained: Whether it is: training had `iou_loss_weight` above 0.
        box_nms: Largest IoU that the boxes of two masks may have.
        mask_nms: Largest IoU that two masks may have.
        max_contained: Largest share of a mask that may lie in a better one.
        min_volume_mm3: Smaller masks are dropped.
        min_region_mm3: Smaller holes are filled, smaller islands removed.
        grow: Let masks that end at their window's border grow into the next ones, as a click there
            would. Otherwise they are dropped.

    Raises:
        ValueError: If a number is not allowed.
    """

    predictor: Predictor
    _: KW_ONLY
    points_per_side: int = 8
    overlap: float = 0.5
    points_per_batch: int | None = None
    stability_threshold: float = 0.4
    stability_offset: float = 1.0
    iou_threshold: float | None = None
    iou_trained: bool = False
    box_nms: float = 0.7
    mask_nms: float = 0.5
    max_contained: float | None = None
    min_volume_mm3: float = 500.0
    min_region_mm3: float = 100.0
    grow: bool = True

    def __post_init__(self) -> None:
        for name in ("points_per_side", "points_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be from 0 to less than 1, got {self.overlap}")
        for name in ("stability_threshold", "box_nms", "mask_nms", "max_contained"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")
        for name in ("stability_offset", "min_volume_mm3", "min_region_mm3"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.iou_threshold is not None and not self.iou_trained:
            logger.warning(
                "iou_threshold is %g, but this network is not known to have learned to estimate "
                "its IoU; in the published 3-D checkpoints that estimate is noise",
                self.iou_threshold,
            )

    def plan(self) -> list[PromptWindow]:
        """Lay windows over the body of the predictor's scan, and points into each."""
        volume, grid = self.predictor.scan.volume, self.predictor.scan.grid()
        body = find_body(volume.data[0].cpu().numpy(), spacing=volume.spacing)
        marked = Volume(torch.from_numpy(body)[None], volume.affine)
        return plan_prompts(
            restore(marked, grid, mode="nearest").data[0].numpy(),
            roi_size=self.predictor.network.roi_size,
            points_per_side=self.points_per_side,
            overlap=self.overlap,
        )

    @property
    def batch_size(self) -> int:
        """Points decoded at once."""
        if self.points_per_batch is not None:
            return self.points_per_batch
        network = self.predictor.network
        # In full the logits and two masks; in low resolution three feature maps of the decoder.
        full, low = np.prod(network.roi_size), np.prod(network.mask_size)
        return int(np.clip(_BATCH_BYTES / (4.0 * (3 * full + 150 * low)), 1, _MOST_POINTS))

    def estimate(self) -> AutomaticEstimate:
        """Count what a run would do, and time a window and a batch of points of it.

        A first window is not timed: with it the scan is resampled and the network warms up.
        """
        plan, log = self.plan(), RunLog()
        for asked in sorted(plan, key=lambda asked: -len(asked.points))[:2]:
            points, log = self._batches(asked)[0], RunLog()
            self._ask(asked.window, points, log)
            log.seconds["decode"] /= len(points)
        return AutomaticEstimate(
            num_windows=len(plan),
            num_points=_count_points(plan),
            num_batches=sum(len(self._batches(asked)) for asked in plan),
            encode_s=log.seconds["encode"],
            decode_s=log.seconds["decode"],
        )

    def generate(self, *, progress: Progress | None = None) -> AutomaticResult:
        """Find the objects.

        Args:
            progress: Called after every batch of points and after every mask.
        """
        plan, log = self.plan(), RunLog()
        tell = progress or (lambda *_: None)
        found = self._finish(self._ask_everywhere(plan, tell, log), tell, log)
        if not found:
            self._warn_of_nothing(log)
        shows_iou = self.iou_trained or self.iou_threshold is not None
        scan = self.predictor.scan
        records = [
            AutomaticMask(
                id=number,
                mask=one.mask,
                stability=one.candidate.stability,
                predicted_iou=one.candidate.iou if shows_iou else None,
                point=scan.to_scan(one.candidate.point[None])[0],
                num_windows=one.num_windows,
                grid=scan.volume.grid,
            )
            for number, one in enumerate(found, start=1)
        ]
        return AutomaticResult(
            records=tuple(records),
            grid=scan.volume.grid,
            settings=self._settings(),
            counts={"windows": len(plan), **log.counts, "objects": len(records)},
            seconds=log.seconds,
            source=self.predictor.source,
        )

    def _ask_everywhere(
        self, plan: Sequence[PromptWindow], tell: Progress, log: RunLog
    ) -> list[Candidate]:
        """Ask every window about its points; return what may be an object, without doubles."""
        total = _count_points(plan)
        kept: list[Candidate] = []
        for asked in plan:
            proposed: list[Candidate] = []
            for points in self._batches(asked):
                proposed += self._ask(asked.window, points, log)
                log.counts["points"] += len(points)
                tell("asking", log.counts["points"], total)
            kept += self._without_doubles(proposed, log)
        return self._without_doubles(kept, log)

    def _ask(self, window: Window, points: np.ndarray, log: RunLog) -> list[Candidate]:
        """Ask a window about each of the points (B, 3) alone, and filter the answers."""
        with log.timed("encode"):
            embedding = self.predictor.embedding(window)
            if self.predictor.network.device.type == "cuda":
                torch.cuda.synchronize(self.predictor.network.device)
        coords = torch.from_numpy(points - window.start).float()[:, None]  # (B, 1, 3)
        labels = torch.ones(len(points), 1, dtype=torch.int64)
        with log.timed("decode"):
            answer = self.predictor.network.decode(embedding, Prompts(coords, labels))
            scan_shape = self.predictor.scan.grid().shape
            return self._filter.candidates(answer, window, points, scan_shape=scan_shape, log=log)

    def _batches(self, asked: PromptWindow) -> list[np.ndarray]:
        size = self.batch_size
        return [asked.points[first : first + size] for first in range(0, len(asked.points), size)]

    @property
    def _filter(self) -> AnswerFilter:
        threshold = self.iou_threshold
        if threshold is None and self.iou_trained:
            threshold = TRAINED_IOU_THRESHOLD
        return AnswerFilter(
            stability_threshold=self.stability_threshold,
            stability_offset=self.stability_offset,
            iou_threshold=threshold,
            min_voxels=self.min_volume_mm3 / self.predictor.scan.grid().voxel_mm3,
            keep_cut=self.grow,
        )

    def _without_doubles(self, candidates: Sequence[Candidate], log: RunLog) -> list[Candidate]:
        """Drop candidates that overlap better ones: whole masks and cut ones apart."""
        kept: list[Candidate] = []
        for is_cut in (False, True):
            group = [one for one in candidates if one.is_cut == is_cut]
            if group:
                boxes = np.stack([one.mask.box for one in group])
                scores = np.array([one.score for one in group])
                group = [group[i] for i in suppress_boxes(boxes, scores, threshold=self.box_nms)]
            chosen = self._choose(group, [one.mask for one in group])
            kept += [group[index] for index in chosen]
        log.counts["double"] += len(candidates) - len(kept)
        return kept

    def _choose(self, candidates: Sequence[Candidate], masks: Sequence[SparseMask]) -> list[int]:
        """Return positions of masks that overlap no better one's too much, the best first."""
        scores = np.array([one.score for one in candidates])
        return suppress_masks(
            masks, scores, threshold=self.mask_nms, containment=self.max_contained
        )

    def _finish(
        self, candidates: Sequence[Candidate], tell: Progress, log: RunLog
    ) -> list[CompleteMask]:
        """Bring candidates to the scan's grid and return the masks, the largest first.

        Those that are cut come last and grow only if no mask before holds them.
        """
        scan = self.predictor.scan
        found: list[CompleteMask] = []
        for done, candidate in enumerate(candidates, start=1):
            if candidate.is_cut and is_part_of_any(candidate, found, scan, share=self.mask_nms):
                log.counts["double"] += 1
            else:
                one = complete(
                    candidate,
                    self.predictor,
                    min_volume_mm3=self.min_volume_mm3,
                    min_region_mm3=self.min_region_mm3,
                    log=log,
                )
                found += [] if one is None else [one]
            tell("finishing", done, len(candidates))
        chosen = self._choose([one.candidate for one in found], [one.mask for one in found])
        log.counts["double"] += len(found) - len(chosen)
        return sorted((found[index] for index in chosen), key=lambda one: -one.mask.num_voxels)

    def _warn_of_nothing(self, log: RunLog) -> None:
        """Say why there is no object."""
        reasons = [f"{count} {reason}" for reason, count in log.counts.items() if count]
        logger.warning(
            "no object found (%s); the most stable answer reaches %.2f, stability_threshold is %g",
            ", ".join(reasons),
            log.highest_stability,
            self.stability_threshold,
        )

    def _settings(self) -> dict[str, Any]:
        """Return what the result depends on, as plain values."""
        predictor = self.predictor
        own = [one.name for one in fields(self) if one.name != "predictor"]
        return {
            "spacing": None if predictor.spacing is None else list(predictor.spacing),
            "roi_size": list(predictor.network.roi_size),
            "intensity": predictor.intensity,
            **{name: getattr(self, name) for name in own},
            "iou_threshold": self._filter.iou_threshold,
        }


def _count_points(plan: Sequence[PromptWindow]) -> int:
    return sum(len(asked.points) for asked in plan)
