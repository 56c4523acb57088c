"""One scan judged: every object of it clicked, scored and written.

Shapes: D H W the scan's grid.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from neurosam3d.evaluation.case_files import LabelFile, Scan
from neurosam3d.evaluation.journal import Key
from neurosam3d.evaluation.metrics import score_masks
from neurosam3d.evaluation.predictor import Predictor
from neurosam3d.evaluation.protocol import InteractiveProtocol, Step
from neurosam3d.evaluation.results import CaseResult, RoundResult
from neurosam3d.evaluation.session_files import SessionFiles
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


@dataclass(frozen=True)
class LeftOut:
    """An object that was not judged, and why."""

    class_name: str
    label: str
    reason: str


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: str
    reason: str


Finding = Judged | LeftOut | Unreadable


@dataclass(frozen=True)
class ScanEvaluator:
    """Judges the objects of a scan by an interactive protocol.

    Args:
        load_predictor: Returns the predictor; called when it is first needed.
        protocol: How objects are clicked.
        repeats: How often, each time with other clicks.
        tolerance_mm: Distance up to which a surface counts as right.
        threshold_mm3: Objects must be larger than this.
        files: Where masks and clicks are written; None: nowhere.
        reuse: Score masks that are there already instead of asking the predictor.

    Raises:
        ValueError: If a number is out of range, or masks to reuse have no place.
    """

    load_predictor: Callable[[], Predictor]
    protocol: InteractiveProtocol
    repeats: int = 1
    tolerance_mm: float = 1.0
    threshold_mm3: float = 0.0
    files: SessionFiles | None = None
    reuse: bool = False

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")
        for name in ("tolerance_mm", "threshold_mm3"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.reuse and self.files is None:
            raise ValueError("existing predictions can only be scored where --vis_path says")

    def evaluate(self, scan: Scan, *, finished: Collection[Key] = ()) -> Iterator[Finding]:
        """Judge the objects of a scan, one after the other and every repeat.

        A label file that cannot be read does not keep the others from being judged.

        Args:
            scan: The scan.
            finished: Results that are there already.

        Raises:
            ValueError: If masks to reuse were made by another protocol.
        """
        try:
            image = read_image(scan)
        except VolumeFileError as error:
            yield Unreadable(str(scan.image), str(error))
            return
        opened = _OpenScan(scan, image, self.load_predictor)
        for file in scan.labels:
            try:
                yield from self._evaluate_file(opened, file, finished)
            except VolumeFileError as error:
                yield Unreadable(str(file.path), str(error))

    def _evaluate_file(
        self, opened: "_OpenScan", file: LabelFile, finished: Collection[Key]
    ) -> Iterator[Finding]:
        """Judge the objects of a label file."""
        for truth in read_truths(file, opened.image.grid):
            if reason := self._reason_against(truth):
                yield LeftOut(truth.class_name, str(truth.label), reason)
                continue
            for repeat in range(self.repeats):
                if (*opened.name(truth), repeat) not in finished:
                    steps = self._existing(opened, truth, repeat)
                    steps = self._play(opened, truth, repeat) if steps is None else steps
                    yield self._judge(opened, truth, steps, repeat)

    def _reason_against(self, truth: Truth) -> str:
        """Return why an object is not judged; empty if it is."""
        if not truth.volume_mm3:
            return "the reference has no voxel on the image's grid: there is nothing to click"
        if truth.volume_mm3 <= self.threshold_mm3:
            return (
                f"{truth.volume_mm3:.4g} mm^3 are not more than the threshold of "
                f"{self.threshold_mm3:g} mm^3"
            )
        return ""

    def _existing(self, opened: "_OpenScan", truth: Truth, repeat: int) -> Iterator[Step] | None:
        """Return the rounds that are on disk, if they are to be scored and are all there."""
        if self.files is None or not self.reuse:
            return None
        start = self.files.start_of(opened.scan, truth.class_name, repeat=repeat)
        num_clicks = self.protocol.num_clicks
        return self.files.read(start, num_clicks=num_clicks, grid=opened.image.grid)

    def _play(self, opened: "_OpenScan", truth: Truth, repeat: int) -> Iterator[Step]:
        """Click an object, writing every round."""
        scan, grid = opened.scan, opened.image.grid
        generator = self.protocol.generator(*opened.name(truth), repeat=repeat)
        rounds = self.protocol.play(opened.predictor, truth.mask, grid=grid, generator=generator)
        if self.files is None:
            yield from rounds
            return
        start = self.files.start_of(scan, truth.class_name, repeat=repeat)
        clicks = []
        for step in rounds:
            self.files.write_step(start, step, grid=grid, image=scan.image)
            clicks.append(step.without_mask())
            yield step
        self.files.write_clicks(start, clicks)

    def _judge(
        self, opened: "_OpenScan", truth: Truth, steps: Iterator[Step], repeat: int
    ) -> Judged:
        scan, image = opened.scan, opened.image
        scores: list[RoundResult] = []
        shown: list[Step] = []
        for step in steps:
            if shown and step.mask is shown[-1].mask:  # nobody had to click
                scores.append(_repeated(scores[-1], clicks=step.clicks))
            else:
                scores.append(self._score(step, truth.mask, image.spacing))
            shown = [*shown[:1], step]
        result = CaseResult(
            dataset=scan.dataset,
            set_name=scan.set_name,
            class_name=truth.class_name,
            case=scan.case,
            image=str(scan.image),
            label=str(truth.label),
            rounds=tuple(scores),
            repeat=repeat,
            volume_mm3=truth.volume_mm3,
        )
        return Judged(result, image, truth.mask, shown)

    def _score(self, step: Step, truth: np.ndarray, spacing: Spacing) -> RoundResult:
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
        )


def _repeated(scores: RoundResult, *, clicks: int) -> RoundResult:
    """Return the scores of a mask that the predictor was not asked for again."""
    return replace(scores, clicks=clicks, seconds=None, encode_seconds=None, decode_seconds=None)


@dataclass(eq=False)
class _OpenScan:
    """A scan that was read; the predictor gets it when it is first asked."""

    scan: Scan
    image: Volume
    load_predictor: Callable[[], Predictor]

    @cached_property
    def predictor(self) -> Predictor:
        predictor = self.load_predictor()
        predictor.set_image(self.image)
        return predictor

    def name(self, truth: Truth) -> tuple[str, str, str, str]:
        """Return what names an object of it in the results."""
        scan = self.scan
        return (scan.dataset, scan.set_name, truth.class_name, scan.case)
