"""What every evaluation of scans has in common: which objects are judged, and how they score.

Shapes: D H W the scan's grid.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.conventions import find_convention
from neurosam3d.evaluation.journal import Key
from neurosam3d.evaluation.metrics import dice, hausdorff95, score_masks
from neurosam3d.evaluation.protocol import Step
from neurosam3d.evaluation.results import CaseResult, RoundResult
from neurosam3d.evaluation.truths import Truth, read_image, read_truths
from neurosam3d.volume import Spacing, Volume
from neurosam3d.volume_io import VolumeFileError


@dataclass(frozen=True, eq=False)
class Judged:
    """An object that was judged.

    Args:
        result: Its scores.
        image: The scan.
        truth: Boolean reference (D, H, W).
        shown: The first and the last round, for a picture.
    """

    result: CaseResult
    image: Volume
    truth: np.ndarray
    shown: Sequence[Step]


NO_VOXEL = "the reference has no voxel on the image's grid: there is nothing to find"


@dataclass(frozen=True)
class LeftOut:
    """An object that was not judged, and why.

    Args:
        class_name: What it is.
        label: The file that was to tell where it is; empty if there is none.
        reason: Why it was not judged.
        voxels: Of a class that the scan does not have: how many voxels were found of it all the
            same, if that was asked for.
    """

    class_name: str
    label: str
    reason: str
    voxels: int | None = None


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: str
    reason: str


Finding = Judged | LeftOut | Unreadable
Judge = Callable[[Volume], Callable[[Truth], Iterator[Finding]]]
"""Takes the image of a scan and returns what judges its objects."""


@dataclass(frozen=True)
class Scoring:
    """How masks are scored, and which objects count.

    Args:
        tolerance_mm: Distance up to which a surface counts as right.
        threshold_mm3: Objects must be larger than this.
        classes: Classes of the objects that count; by default all.
        legacy: Name of a published program by whose conventions Dice and HD95 are measured, too, a
            key of `neurosam3d.evaluation.conventions.LEGACY`.

    Raises:
        ValueError: If a number is negative or the program unknown.
    """

    tolerance_mm: float = 1.0
    threshold_mm3: float = 0.0
    classes: tuple[str, ...] = ()
    legacy: str | None = None

    def __post_init__(self) -> None:
        for name in ("tolerance_mm", "threshold_mm3"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        find_convention(self.legacy)

    def judge_objects(self, scan: Scan, judge: Judge) -> Iterator[Finding]:
        """Judge the objects of a scan that count, one after the other.

        A label file that cannot be read does not keep the others from being judged.
        """
        try:
            image = read_image(scan)
        except VolumeFileError as error:
            yield Unreadable(str(scan.image), str(error))
            return
        judge_object = judge(image)
        for file in scan.labels:
            if file.mask_of and not self.wants(file.mask_of):
                continue
            try:
                for truth in read_truths(file, image.grid):
                    if not self.wants(truth.class_name):
                        continue
                    if reason := self._reason_against(truth):
                        yield LeftOut(truth.class_name, str(truth.label), reason)
                    else:
                        yield from judge_object(truth)
            except VolumeFileError as error:
                yield Unreadable(str(file.path), str(error))

    def score(self, step: Step, truth: np.ndarray, spacing: Spacing) -> RoundResult:
        """Compare what stands after a round with the truth (D, H, W)."""
        scores = score_masks(step.mask, truth, spacing=spacing, tolerance_mm=self.tolerance_mm)
        return RoundResult(
            clicks=step.clicks,
            dice=scores.dice,
            nsd=scores.surface_dice,
            hd95=scores.hausdorff95,
            iou=scores.iou,
            assd=scores.assd,
            volume_error=scores.volume_error,
            seconds=sum(step.seconds.values()) if step.seconds else None,
            encode_seconds=step.seconds.get("encode"),
            decode_seconds=step.seconds.get("decode"),
            prediction_empty=scores.prediction_empty,
            prompts=step.prompts,
            **self._score_as_published(step.mask, truth),
        )

    def wants(self, class_name: str) -> bool:
        """Tell whether objects of a class count."""
        return not self.classes or class_name in self.classes

    def _score_as_published(self, mask: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        if self.legacy is None:
            return {}
        return {
            "legacy_dice": dice(mask, truth, legacy=self.legacy),
            "legacy_hd95": hausdorff95(mask, truth, legacy=self.legacy),
        }

    def _reason_against(self, truth: Truth) -> str:
        """Return why an object is not judged; empty if it is."""
        if not truth.volume_mm3:
            return NO_VOXEL
        if truth.volume_mm3 <= self.threshold_mm3:
            return (
                f"{truth.volume_mm3:.4g} mm^3 are not more than the threshold of "
                f"{self.threshold_mm3:g} mm^3"
            )
        return ""


def key_of_object(scan: Scan, truth: Truth, *, repeat: int = 0) -> Key:
    """Return what names the result of an object."""
    return (scan.dataset, scan.set_name, truth.class_name, scan.case, repeat)


def result_of(
    scan: Scan, truth: Truth, rounds: Sequence[RoundResult], *, repeat: int = 0
) -> CaseResult:
    """Return the result of an object."""
    return CaseResult(
        dataset=scan.dataset,
        set_name=scan.set_name,
        class_name=truth.class_name,
        case=scan.case,
        image=str(scan.image),
        label=str(truth.label),
        rounds=tuple(rounds),
        repeat=repeat,
        volume_mm3=truth.volume_mm3,
    )
