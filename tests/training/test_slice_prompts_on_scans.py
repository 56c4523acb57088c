"""Test of networks that take prompts on slices, on whole scans, as Lightning drives it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from neurosam3d.commands.trained_network import make_slice_predictor
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.protocol import ClickProtocol, InteractiveProtocol
from neurosam3d.evaluation.report import read_results
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.evaluation.slice_protocols import OracleSlices, Propagation, SliceBoxes
from neurosam3d.inference.slice_predictor import SlicePredictor
from neurosam3d.training import SliceModel
from tests.evaluation.scans import without_seconds

FED: dict[str, Any] = {
    "spacing": (2.0, 2.0, 2.5),
    "intensity": "clip 60 260",
    "axis": "sagittal",
    "feeding": "medsam",
}

pytestmark = pytest.mark.usefixtures("small_vit_b", "quick_pictures")


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("propagate", Propagation("box", 1.5, 5, "sagittal")),
        ("box_per_slice", SliceBoxes("box_per_slice", 1.5, "sagittal")),
        ("box_3d", SliceBoxes("box_3d", 1.5, "sagittal")),
        ("oracle_slices", OracleSlices(2, "ritm", 5, "sagittal")),
        ("prompt_roi", InteractiveProtocol("prompt_roi", 2, "ritm", 5)),
    ],
)
def test_results_are_those_of_the_evaluation(
    scan_data: Callable[..., Any],
    scan_entries: list[dict[str, Any]],
    make_trainer: Callable[..., pl.Trainer],
    tmp_path: Path,
    *,
    name: Any,
    protocol: ClickProtocol,
) -> None:
    pl.seed_everything(5, verbose=False)
    entries = scan_entries[:1]
    module = SliceModel(
        "medsam_vit_b",
        img_size=32,
        classes=("ball", "rod"),
        eval_protocol=name,
        eval_clicks=2,
        eval_box_margin=1.5,
        seed=5,
        work_dir=str(tmp_path),
        task_name="run",
        test_pictures=0,
        **FED,
    )
    module.make_predictor = make_slice_predictor
    make_trainer().test(module, datamodule=scan_data(entries), verbose=False)
    found = read_results(tmp_path / "run/test/results.json")
    predictor = SlicePredictor(module.model, **FED)  # type: ignore[arg-type]
    evaluator = ScanEvaluator(lambda: predictor, protocol)
    expected = [
        judged.result
        for judged in evaluator.evaluate(Scan.from_entry(entries[0]))
        if isinstance(judged, Judged)
    ]
    assert len(expected) == 2
    scores = {case.object: case.rounds for case in without_seconds(expected)}
    assert {case.object: case.rounds for case in without_seconds(found.cases)} == scores
    said = found.protocol
    assert (said["name"], said["axis"], said["feeding"]) == (name, "sagittal", "medsam")
    assert said.get("box_margin") == (1.5 if name.startswith(("box", "propagate")) else None)
