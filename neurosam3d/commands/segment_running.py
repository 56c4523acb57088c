"""Carry out the jobs of `segment`, and tell how it goes."""

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from neurosam3d.commands.network import Network
from neurosam3d.commands.segment_options import AUTOMATIC
from neurosam3d.commands.segment_report import (
    describe_scan,
    describe_seconds,
    draw_scan,
    find_warnings,
    object_table,
)
from neurosam3d.commands.verb import plain_console
from neurosam3d.files import replacing
from neurosam3d.inference import Predictor
from neurosam3d.inference.automatic import AutomaticMaskGenerator
from neurosam3d.inference.automatic_result import AutomaticResult
from neurosam3d.inference.batch import NPZ, Batch, run_batch
from neurosam3d.inference.cvpr25 import segment_cvpr25
from neurosam3d.inference.scan_files import Origin, stem_of
from neurosam3d.inference.scan_predictor import ScanPredictor
from neurosam3d.inference.scan_segmenter import FinishedScan, ScanJob, ScanSegmenter
from neurosam3d.inference.slice_segmenter import Unprompted
from neurosam3d.mistakes import describe_mistake
from neurosam3d.npz_cases import read_npz_case


class Runner:
    """Runs jobs with one network.

    Args:
        network: The network.
        options: The command line.
    """

    def __init__(self, network: Network, options: Namespace) -> None:
        self._network = network
        self._options = options
        self._out = plain_console()
        self._err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._err,
        )
        self._segmenter = ScanSegmenter(
            _segmenting(network, options),
            Origin(
                network.name,
                {"checkpoint": str(network.checkpoint), **_base_of(network), **network.feeding},
            ),
            find_all=self._find_all,
            overlap=options.overlap or "highest",
            separate=options.separate,
            channel=options.channel,
        )

    def run_one(self, job: ScanJob) -> None:
        """Run a job and print all there is to know.

        Raises:
            ValueError: If it fails by a mistake of the user's.
        """
        self._say(str(self._network))
        if job.image.suffix.lower() == NPZ:
            self._run_npz(job)
            return
        finished = self._segmenter.run(job)
        files = [str(path) for path in finished.files]
        if self._options.save_picture is not None:
            files.append(str(self._draw(finished, job, self._options.save_picture)))
        self._say(f"{job.image}: {describe_scan(finished.scan)}")
        if finished.scan.objects:
            seen = "slices" if self._network.is_of_slices else "windows"
            self._out.print(object_table(finished.scan, seen=seen))
        self._warn(finished)
        self._say(describe_seconds(finished.scan))
        self._say(f"wrote {', '.join(files)}")

    def run_many(self, batch: Batch, output: Path) -> int:
        """Run the jobs of a folder, a line each; one that fails does not stop the others.

        Returns:
            The exit code: 1 if any of them failed, or prompts name scans that are not there.
        """
        self._say(str(self._network))
        if batch.unasked:
            self._say(f"{len(batch.unasked)} scans without prompts: {_first(batch.unasked)}")
        for name in batch.unknown:
            self._tell_error(f"the prompts name {name}, which is no scan of the folder")
        counts: Counter[str] = Counter()
        with self._progress:
            task = self._progress.add_task("scans", total=len(batch.jobs))
            for _, outcome in run_batch(
                batch.jobs,
                self._run_job,
                skip_existing=self._options.skip_existing,
                on_failure=self._tell_failure,
            ):
                counts[outcome] += 1
                self._progress.advance(task)
        there = f", {counts['kept']} there before" if counts["kept"] else ""
        self._say(f"{counts['done']} done{there}, {counts['failed']} failed; results: {output}")
        return 1 if counts["failed"] or batch.unknown else 0

    def _run_job(self, job: ScanJob) -> None:
        if job.image.suffix.lower() == NPZ:
            self._run_npz(job)
            return
        finished = self._segmenter.run(job)
        if self._options.save_picture is not None:
            below = job.output.parent.relative_to(self._options.output)
            picture = self._options.save_picture / below / f"{stem_of(job.output)}.png"
            self._draw(finished, job, picture)
        scan = finished.scan
        volumes = zip(scan.objects, scan.volumes_ml(), strict=True)
        found = ", ".join(f"{one.name} {ml:.2f} ml" for one, ml in volumes)
        many = f"{len(scan.objects)} objects"
        told = many if scan.automatic is not None or len(scan.objects) > 8 else found
        self._say(f"{job.image}: {told} ({sum(scan.seconds.values()):.1f} s)")
        self._warn(finished, where=f"{job.image}: ")

    def _run_npz(self, job: ScanJob) -> None:
        start = time.perf_counter()
        predictor = self._segmenter.network
        assert isinstance(predictor, ScanPredictor)  # the others take no such cases
        classes = segment_cvpr25(predictor, read_npz_case(job.image))
        with replacing(job.output) as partial:
            np.savez_compressed(partial, segs=classes)
        seconds = time.perf_counter() - start
        self._say(f"{job.image}: {classes.max()} classes ({seconds:.1f} s), wrote {job.output}")

    def _draw(self, finished: FinishedScan, job: ScanJob, path: Path) -> Path:
        name = job.image.name
        return draw_scan(
            finished, path, title=f"{job.image.parent.name}/{name}" if job.image.is_dir() else name
        )

    def _find_all(self, predictor: ScanPredictor) -> AutomaticResult:
        """Look for everything, with an estimate first and progress after."""
        assert isinstance(predictor, Predictor)  # the command line refuses all others
        options = self._options
        given = {
            name: getattr(options, flag)
            for flag, (name, _, _) in AUTOMATIC.items()
            if getattr(options, flag) is not None
        }
        generator = AutomaticMaskGenerator(
            predictor, iou_trained=self._network.iou_trained, grow=not options.no_grow, **given
        )
        estimate = generator.estimate()
        self._say(
            f"about {estimate.seconds:.0f} s for {estimate.num_points} points in "
            f"{estimate.num_windows} windows, and what it takes to finish the objects"
        )
        with self._steps() as tell:
            return generator.generate(progress=tell)

    @contextmanager
    def _steps(self) -> Iterator[Callable[[str, int, int], None]]:
        """Lend a function that shows steps as progress bars: their kind, what is done, and all."""
        tasks: dict[str, TaskID] = {}
        is_nested = self._progress.live.is_started  # below the bar of many scans

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = self._progress.add_task(step, total=total)
            self._progress.update(tasks[step], completed=done, total=total)

        if not is_nested:
            self._progress.start()
        try:
            yield tell
        finally:
            if not is_nested:
                self._progress.stop()
            for task in tasks.values():
                self._progress.remove_task(task)

    def _warn(self, finished: FinishedScan, *, where: str = "") -> None:
        for text in find_warnings(finished.scan, max_windows=self._options.max_windows):
            self._err.print(f"warning: {where}{text}")

    def _tell_failure(self, name: str, error: Exception) -> None:
        described = describe_mistake(error) or f"{type(error).__name__}: {error}"
        self._tell_error(f"{name}: {described}")

    def _tell_error(self, text: str) -> None:
        self._err.print(f"error: {text}")

    def _say(self, text: str) -> None:
        self._out.print(text, soft_wrap=True)


def _base_of(network: Network) -> dict[str, str]:
    return {} if network.base is None else {"base": str(network.base)}


def _segmenting(network: Network, options: Namespace) -> ScanPredictor | Unprompted:
    """Return what answers the prompts, or segments without any.

    Raises:
        ValueError: If an option is out of range.
    """
    if network.is_promptable:
        return network.predictor(max_windows=options.max_windows)
    return network.segmenter(
        overlap=options.window_overlap, mirror=options.mirror, smooth=options.smooth
    )


def _first(names: Sequence[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
