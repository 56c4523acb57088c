"""Test and prediction of networks of slices on whole scans, as Lightning drives them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from neurosam3d.commands.trained_network import make_slice_segmenter
from neurosam3d.evaluation.automatic_evaluation import AutomaticEvaluator
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.object_scoring import Judged, Scoring
from neurosam3d.evaluation.report import read_results
from neurosam3d.inference.slice_segmenter import SliceSegmenter
from neurosam3d.training import SliceModel
from tests.evaluation.scans import without_seconds

CLASSES = ("rod", "ball", "lung")
FED = {"spacing": (2.0, 2.0, 2.5), "intensity": "clip 60 260", "axis": "sagittal", "detail": 16}

pytestmark = pytest.mark.usefixtures("small_vit_b", "quick_pictures")


def test_results_are_those_of_the_evaluation(
    scan_data: Callable[..., Any],
    scan_entries: list[dict[str, Any]],
    make_trainer: Callable[..., pl.Trainer],
    tmp_path: Path,
) -> None:
    pl.seed_everything(5, verbose=False)
    options: dict[str, Any] = {"work_dir": str(tmp_path), "task_name": "run", **FED}
    module = SliceModel(img_size=32, classes=CLASSES, eval_legacy="samed", **options)
    module.make_segmenter = make_slice_segmenter
    make_trainer().test(module, datamodule=scan_data(scan_entries), verbose=False)
    found = read_results(tmp_path / "run/test/results.json")
    segmenter = SliceSegmenter(module.model, CLASSES, **FED)  # type: ignore[arg-type]
    evaluator = AutomaticEvaluator(lambda: segmenter, Scoring(5.0, legacy="samed"))
    expected = [
        judged.result
        for entry in scan_entries
        for judged in evaluator.evaluate(Scan.from_entry(entry))
        if isinstance(judged, Judged)
    ]
    scores = {case.object: case.rounds for case in without_seconds(expected)}
    assert len(scores) == 4
    assert {case.object: case.rounds for case in without_seconds(found.cases)} == scores
    assert all(case.rounds[0].legacy_dice is not None for case in found.cases)
    said = found.protocol
    assert (said["name"], said["axis"], said["detail"]) == ("automatic", "sagittal", 16)
    assert (said["legacy_figures"], said["tolerance_mm"]) == ("samed", 5.0)
    assert {entry["class_name"] for entry in said["left_out"]} == {"lung"}
    text = (tmp_path / "run/test/results.md").read_text(encoding="utf-8")
    assert "As SAMed reports it" in text
