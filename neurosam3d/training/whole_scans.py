"""`test` and `predict`: the evaluation's protocol on whole scans, shared by processes."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from rich.console import Console
from torch import distributed, nn

from neurosam3d.evaluation.adapter3d_protocol import NAME as ADAPTER3D
from neurosam3d.evaluation.adapter3d_protocol import TOLERANCE_MM as ADAPTER3D_TOLERANCE_MM
from neurosam3d.evaluation.adapter3d_protocol import Adapter3DProtocol
from neurosam3d.evaluation.automatic_evaluation import NAME as AUTOMATIC
from neurosam3d.evaluation.automatic_evaluation import AutomaticEvaluator
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.foreground_box import find_foreground
from neurosam3d.evaluation.journal import Journal
from neurosam3d.evaluation.legacy_figures import KEY as LEGACY_KEY
from neurosam3d.evaluation.object_scoring import Judged, Scoring, Unreadable
from neurosam3d.evaluation.predictor import Predictor, Segmenter
from neurosam3d.evaluation.protocol import ClickProtocol, InteractiveProtocol
from neurosam3d.evaluation.report import results_table, summarise, write_results
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.run import Evaluator, Outcome, judge_scan
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.evaluation.slice_protocols import (
    BOX_3D,
    BOX_PER_SLICE,
    ORACLE_SLICES,
    PROPAGATE,
    OracleSlices,
    Propagation,
    SliceBoxes,
)
from neurosam3d.evaluation.worst_pictures import WorstPictures
from neurosam3d.volume import Spacing

T = TypeVar("T")
PointMethod = Literal["default", "ritm", "random", "largest"]
RoiProtocol = Literal["prompt_roi", "oracle_roi"]
SliceProtocol = Literal[
    "prompt_roi", "oracle_roi", "oracle_slices", "box_per_slice", "box_3d", "propagate"
]

logger = logging.getLogger(__name__)

# What a report says of a test by each protocol: its own name for arguments of the LightningModule.
_CLICKED = {"crop_size": "img_size", "click_rule": "eval_click_type", "num_clicks": "eval_clicks"}
_BOXED = {"crop_size": "img_size", "box_margin": "eval_box_margin"}
REPORTED: dict[str, dict[str, str]] = {
    "prompt_roi": _CLICKED,
    "oracle_roi": _CLICKED,
    ORACLE_SLICES: _CLICKED,
    **dict.fromkeys((BOX_PER_SLICE, BOX_3D, PROPAGATE), _BOXED),
    ADAPTER3D: {"crop_size": "crop_size", "num_prompts": "eval_prompts"},
    AUTOMATIC: {"crop_size": "crop_size", "overlap": "overlap", "mirror": "tta_mirror"},
}
OF_SLICES = {"axis": "axis", "feeding": "feeding", "detail": "detail"}  # by any protocol
SUMMARY = ("dice", "nsd", "hd95_median", "missed", "seconds")


class MakePredictor(Protocol):
    """Makes what answers clicks on a scan."""

    def __call__(self, network: nn.Module, *, spacing: Spacing | None, intensity: str) -> Predictor:
        """Return it for a network that sees this voxel size in mm and these intensities."""


class MakeSegmenter(Protocol):
    """Makes what segments scans by itself."""

    def __call__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        *,
        spacing: Spacing | None,
        intensity: str,
    ) -> Segmenter:
        """Return it for a network that finds these classes; the rest as `MakePredictor`."""


SegmentScan = Callable[[Any, str], None]
"""Lets a predictor or segmenter segment the scan of a name, and writes what it found."""


def make_evaluator(
    make_predictor: MakePredictor | None, network: nn.Module, *, options: Mapping[str, Any]
) -> ScanEvaluator:
    """Return what judges scans by the arguments of the LightningModule.

    Raises:
        ValueError: If nobody has handed in how to make a predictor, or an argument is not allowed.
    """
    if make_predictor is None:
        raise ValueError("test and predict need a make_predictor, got None")
    predictor = make_predictor(network, spacing=options["spacing"], intensity=options["intensity"])
    return ScanEvaluator(lambda: predictor, _click_protocol(options), scoring=_scoring(options))


def make_automatic_evaluator(
    make_segmenter: MakeSegmenter | None, network: nn.Module, *, options: Mapping[str, Any]
) -> AutomaticEvaluator:
    """Return what judges scans by the classes that a network finds without prompts.

    Raises:
        ValueError: If nobody has handed in how to make a segmenter, or an argument is not allowed.
    """
    if make_segmenter is None:
        raise ValueError("test and predict need a make_segmenter, got None")
    segmenter = make_segmenter(
        network,
        options["classes"],
        spacing=options["spacing"],
        intensity=options["intensity"],
    )
    return AutomaticEvaluator(lambda: segmenter, _scoring(options))


def _click_protocol(options: Mapping[str, Any]) -> ClickProtocol:
    name = options["eval_protocol"]
    if name == ADAPTER3D:
        return Adapter3DProtocol(options["eval_prompts"], options["seed"])
    if name == PROPAGATE:
        return Propagation("box", options["eval_box_margin"], options["seed"], options["axis"])
    if name in (BOX_PER_SLICE, BOX_3D):
        return SliceBoxes(name, options["eval_box_margin"], options["axis"])
    clicked = (options["eval_clicks"], options["eval_click_type"], options["seed"])
    if name == ORACLE_SLICES:
        return OracleSlices(*clicked, options["axis"])
    return InteractiveProtocol(name, *clicked)


def _scoring(options: Mapping[str, Any]) -> Scoring:
    is_adapters = options["eval_protocol"] in (ADAPTER3D, AUTOMATIC)
    tolerance_mm = ADAPTER3D_TOLERANCE_MM if is_adapters else Scoring.tolerance_mm
    return Scoring(tolerance_mm, legacy=options.get("eval_legacy"))


class ScanTest:
    """What `test` finds, first on this process, then on all of them.

    Args:
        evaluator: Judges a scan.
        folder: Where `results` go in every format, and pictures of the worst objects, in place of
            those of an earlier test.
        num_pictures: How many of these there are.
    """

    def __init__(self, evaluator: Evaluator, folder: Path, *, num_pictures: int) -> None:
        self.evaluator = evaluator
        self.folder = folder
        self.num_pictures = num_pictures
        self.pictures = self._pictures([])
        self.journal = Journal()
        self.unreadable: list[dict[str, str]] = []

    def judge(self, entry: Mapping[str, Any]) -> None:
        """Judge the objects of a scan as the data room describes it."""
        scan = Scan.from_entry(entry)
        found = judge_scan(
            scan,
            self.evaluator,
            journal=self.journal,
            pictures=self.pictures,
            unreadable=self.unreadable,
        )
        for _ in found:
            pass

    def mean_dice(self) -> float:
        """Return the mean Dice after the last click on this process so far; NaN before that."""
        last = [result.rounds[-1].dice for result in self.journal.results.values()]
        return fmean(last) if last else math.nan

    def gather(self) -> Outcome:
        """Return what all processes have found, in the order of the names."""
        parts = _of_all_processes((self.journal.results, self.journal.left_out, self.unreadable))
        results = {key: result for found, _, _ in parts for key, result in found.items()}
        return Outcome(
            [results[key] for key in sorted(results)],
            [entry for _, left_out, _ in parts for scan in left_out.values() for entry in scan],
            [entry for _, _, unreadable in parts for entry in unreadable],
        )

    def report(
        self, outcome: Outcome, options: Mapping[str, Any], *, checkpoint: str | Path | None
    ) -> None:
        """Write the report of all processes' results and show the table; one of them does.

        Args:
            outcome: The results.
            options: Arguments of the LightningModule.
            checkpoint: Where the weights are from.
        """
        scoring = _scoring(options)
        protocol = {
            **_describe(options),
            "checkpoint": str(checkpoint),
            "tolerance_mm": scoring.tolerance_mm,
            **({LEGACY_KEY: scoring.legacy} if scoring.legacy else {}),
            "left_out": outcome.left_out,
            "unreadable": outcome.unreadable,
        }
        pictures = self._pictures(outcome.results).paths()
        paths = write_results(
            self.folder / "results", outcome.results, protocol=protocol, pictures=pictures
        )
        Console().print("\n", results_table(outcome.results), sep="")  # below the progress bar
        logger.info("results are in %s", ", ".join(map(str, paths)))

    def _pictures(self, results: Sequence[CaseResult]) -> WorstPictures:
        return WorstPictures(self.folder, most=self.num_pictures, results=results)


def _describe(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report says of the arguments of the LightningModule."""
    name, spacing = options["eval_protocol"], options["spacing"]
    reported = REPORTED[name] | OF_SLICES
    return {
        "name": name,
        "seed": options["seed"],
        "model": options["model_type"],
        "spacing": "native" if spacing is None else list(spacing),
        "intensity": options["intensity"],
        **{said: options[key] for said, key in reported.items() if key in options},
    }


def summary_metrics(results: Sequence[CaseResult]) -> dict[str, float]:
    """Return what `test` logs: Dice by clicks, and the other means after the last click."""
    by_clicks = summarise(results)["by_clicks"]
    metrics = {f"test/dice_click_{n}": entry["dice"] for n, entry in by_clicks.items()}
    for entry in list(by_clicks.values())[-1:]:
        metrics |= {f"test/{name}": entry[name] for name in SUMMARY}
    return {name: float(value) for name, value in metrics.items() if value is not None}


class ScanPrediction:
    """What `predict` does with a scan on this process.

    Args:
        evaluator: Finds the objects of a scan whose truth is known.
        segment_scan: Segments the scan of a name and writes what it found.
    """

    def __init__(self, evaluator: Evaluator, segment_scan: Callable[[str], None] | None) -> None:
        self.evaluator = evaluator
        self.segment_scan = segment_scan
        self.unreadable: list[dict[str, str]] = []

    def predict(self, entry: Mapping[str, Any] | str) -> list[dict[str, Any]]:
        """Predict a scan as the data room describes it, or the scan of a name.

        What cannot be read is logged as an error.

        Returns:
            Of each object `dataset` (with its set), `class`, `case` and `image` as text; `mask`,
            uint8 (1, d, h, w), the box around what was found in the last round; and its
            `affine` (4, 4). Nothing of a scan with a name, which is written already.
        """
        if not isinstance(entry, str):
            return list(self._find(Scan.from_entry(entry)))
        assert self.segment_scan is not None  # who names scans brings what segments them
        try:
            self.segment_scan(entry)
        except ValueError as error:
            self._tell(Unreadable(entry, f"{entry}: {error}"))
        return []

    def _find(self, scan: Scan) -> Iterator[dict[str, Any]]:
        for finding in self.evaluator.evaluate(scan):
            if isinstance(finding, Unreadable):
                self._tell(finding)
            elif isinstance(finding, Judged):
                found = find_foreground(finding.shown[-1].mask)
                shape = np.maximum(found.voxels.shape, 1).tolist()  # of nothing, one empty voxel
                mask = torch.zeros((1, *shape), dtype=torch.uint8)
                if not found.is_empty:
                    mask[0] = torch.from_numpy(found.voxels.astype(np.uint8))
                affine = finding.image.grid.window(found.corner.tolist(), shape).affine
                yield {
                    "dataset": f"{scan.dataset}_{scan.set_name}",
                    "class": finding.result.class_name,
                    "case": scan.case,
                    "image": str(scan.image),
                    "mask": mask,
                    "affine": torch.from_numpy(affine.copy()),
                }

    def _tell(self, finding: Unreadable) -> None:
        logger.error("%s", finding.reason)
        self.unreadable.append(asdict(finding))

    def finish(self) -> None:
        """End as a failure, now that the rest is done, if a process could not read a file.

        Raises:
            ValueError: If so.
        """
        parts = _of_all_processes(self.unreadable)
        require_readable([entry for part in parts for entry in part])


def require_readable(unreadable: Sequence[Mapping[str, str]]) -> None:
    """End a run that has done what it could as a failure, if it could not read all.

    Args:
        unreadable: Files that could not be read, of all processes.

    Raises:
        ValueError: If there are any.
    """
    if unreadable:
        raise ValueError(
            f"every file must be readable, got {len(unreadable)} that are not: "
            f"{unreadable[0]['reason']}"
        )


def _of_all_processes(mine: T) -> list[T]:
    """Return what each process has, of a value that every one of them hands in."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [mine]
    parts = [mine] * distributed.get_world_size()
    distributed.all_gather_object(parts, mine)
    return parts
