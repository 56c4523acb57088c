"""One scan judged: every object of it clicked, scored and written.

Shapes: D H W the scan's grid.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.journal import Key
from neurosam3d.evaluation.object_scoring import (
    Finding,
    Judged,
    Scoring,
    key_of_object,
    result_of,
)
from neurosam3d.evaluation.predictor import Predictor
from neurosam3d.evaluation.protocol import ClickProtocol, Step
from neurosam3d.evaluation.results import RoundResult
from neurosam3d.evaluation.session_files import SessionFiles
from neurosam3d.evaluation.truths import Truth
from neurosam3d.volume import Volume


@dataclass(frozen=True)
class ScanEvaluator:
    """Judges the objects of a scan by a protocol of clicks.

    Args:
        load_predictor: Returns the predictor; called when it is first needed.
        protocol: How objects are clicked.
        repeats: How often, each time with other clicks.
        scoring: Which objects count, and how masks are scored.
        files: Where masks and clicks are written; None: nowhere.
        reuse: Score masks that are there already instead of asking the predictor.

    Raises:
        ValueError: If a number is out of range, or masks to reuse have no place.
    """

    load_predictor: Callable[[], Predictor]
    protocol: ClickProtocol
    repeats: int = 1
    scoring: Scoring = field(default_factory=Scoring)
    files: SessionFiles | None = None
    reuse: bool = False

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")
        if self.reuse and self.files is None:
            raise ValueError("existing predictions can only be scored where --vis_path says")

    def evaluate(self, scan: Scan, *, finished: Collection[Key] = ()) -> Iterator[Finding]:
        """Judge the objects of a scan, one after the other and every repeat.

        Args:
            scan: The scan.
            finished: Results that are there already.

        Raises:
            ValueError: If masks to reuse were made by another protocol.
        """

        def judge(image: Volume) -> Callable[[Truth], Iterator[Finding]]:
            opened = _OpenScan(scan, image, self.load_predictor)
            return lambda truth: self._judge_repeats(opened, truth, finished)

        return self.scoring.judge_objects(scan, judge)

    def _judge_repeats(
        self, opened: "_OpenScan", truth: Truth, finished: Collection[Key]
    ) -> Iterator[Finding]:
        for repeat in range(self.repeats):
            if key_of_object(opened.scan, truth, repeat=repeat) not in finished:
                steps = self._existing(opened, truth, repeat)
                steps = self._play(opened, truth, repeat) if steps is None else steps
                yield self._judge(opened, truth, steps, repeat)

    def _existing(self, opened: "_OpenScan", truth: Truth, repeat: int) -> Iterator[Step] | None:
        """Return the rounds that are on disk, if they are to be scored and are all there."""
        if self.files is None or not self.reuse:
            return None
        start = self.files.start_of(opened.scan, truth.class_name, repeat=repeat)
        return self.files.read(start, clicks=self.protocol.clicks, grid=opened.image.grid)

    def _play(self, opened: "_OpenScan", truth: Truth, repeat: int) -> Iterator[Step]:
        """Click an object, writing every round."""
        scan, grid = opened.scan, opened.image.grid
        *names, _ = key_of_object(scan, truth)
        generator = self.protocol.generator(*names, repeat=repeat)
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
        image = opened.image
        scores: list[RoundResult] = []
        shown: list[Step] = []
        for step in steps:
            if shown and step.mask is shown[-1].mask:  # nobody had to click
                scores.append(_repeated(scores[-1], clicks=step.clicks))
            else:
                scores.append(self.scoring.score(step, truth.mask, image.spacing))
            shown = [*shown[:1], step]
        result = result_of(opened.scan, truth, scores, repeat=repeat)
        return Judged(result, image, truth.mask, shown)


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
