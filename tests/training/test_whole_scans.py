"""Test and prediction on whole scans, as Lightning drives them."""

import csv
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from neurosam3d.commands.trained_network import make_predictor
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.protocol import InteractiveProtocol
from neurosam3d.evaluation.report import read_results
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.inference import Predictor
from neurosam3d.training import NeuroSamModel
from neurosam3d.training.callbacks import PredictionWriter
from neurosam3d.training.whole_scans import ScanTest, make_evaluator, require_readable
from neurosam3d.volume import read_grid, read_volume
from tests.evaluation.scans import without_seconds

Build = Callable[..., Any]
Entries = list[dict[str, Any]]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., NeuroSamModel]:
    """Return a function that builds a small module; its arguments are the module's."""

    def make(**options: Any) -> NeuroSamModel:
        pl.seed_everything(7, verbose=False)
        defaults = {
            "model_type": "vit_tiny",
            "img_size": 32,
            "spacing": (3.0, 3.0, 4.0),
            "eval_clicks": 2,
            "work_dir": str(tmp_path),
            "task_name": "run",
        }
        module = NeuroSamModel(**{**defaults, **options})
        module.make_predictor = make_predictor
        return module

    return make


def test_results_are_those_of_the_evaluation(
    build: Build, scan_data: Build, scan_entries: Entries, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(test_pictures=1, eval_protocol="oracle_roi", seed=5)
    make_trainer().test(module, datamodule=scan_data(scan_entries), verbose=False)
    found = read_results(tmp_path / "run/test/results.json")
    protocol = InteractiveProtocol("oracle_roi", 2, "ritm", 5)
    predictor = Predictor(module.model, (3.0, 3.0, 4.0))
    evaluator = ScanEvaluator(lambda: predictor, protocol)
    expected = [
        judged.result
        for entry in scan_entries
        for judged in evaluator.evaluate(Scan.from_entry(entry))
        if isinstance(judged, Judged)
    ]
    assert [case.object for case in found.cases] == [
        ("Toy", "Val", name, f"toy_Val{n}") for name in ("ball", "rod") for n in range(2)
    ]
    scores = {case.object: case.rounds for case in without_seconds(expected)}
    assert {case.object: case.rounds for case in without_seconds(found.cases)} == scores
    said = found.protocol
    assert (said["name"], said["click_rule"], said["seed"]) == ("oracle_roi", "ritm", 5)
    assert (said["num_clicks"], said["spacing"]) == (2, [3.0, 3.0, 4.0])
    folder = tmp_path / "run" / "test"
    endings = sorted(path.suffix for path in folder.iterdir())
    assert endings == [".csv", ".html", ".json", ".md", ".png"]


def test_means_go_to_the_loggers(
    build: Build, scan_data: Build, scan_entries: Entries, make_trainer: Build, tmp_path: Path
) -> None:
    log = CSVLogger(tmp_path, name="log", version="")
    trainer = make_trainer(logger=log)
    trainer.test(build(), datamodule=scan_data(scan_entries), verbose=False)
    with (Path(log.log_dir) / "metrics.csv").open(encoding="utf-8") as file:
        (logged,) = csv.DictReader(file)
    cases = read_results(tmp_path / "run/test/results.json").cases
    for clicks in (1, 2):
        mean = np.mean([case.rounds[clicks - 1].dice for case in cases])
        assert float(logged[f"test/dice_click_{clicks}"]) == pytest.approx(mean, abs=1e-6)
    assert float(logged["test/dice"]) == float(logged["test/dice_click_2"])
    assert {"test/nsd", "test/hd95_median", "test/missed", "test/seconds"} <= set(logged)
    assert "mean_dice" not in logged
    assert trainer.progress_bar_metrics["mean_dice"] == pytest.approx(
        float(logged["test/dice"]), abs=1e-3
    )


def test_a_broken_scan_fails_the_test_once_the_rest_is_done(
    build: Build,
    scan_data: Build,
    scan_entries: Entries,
    make_trainer: Build,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Path(scan_entries[0]["image"]).write_bytes(b"")
    with pytest.raises(ValueError, match="every file must be readable, got 1 that are not: cannot"):
        make_trainer().test(build(), datamodule=scan_data(scan_entries), verbose=False)
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
    content = json.loads((tmp_path / "run/test/results.json").read_text(encoding="utf-8"))
    assert {case["case"] for case in content["cases"]} == {"toy_Val1"}
    assert [entry["path"] for entry in content["protocol"]["unreadable"]] == [
        scan_entries[0]["image"]
    ]


def test_predicted_masks_are_those_after_the_last_click(
    build: Build, scan_data: Build, scan_entries: Entries, make_trainer: Build, tmp_path: Path
) -> None:
    module = build()
    trainer = make_trainer(callbacks=[PredictionWriter()])
    first, second = trainer.predict(module, datamodule=scan_data(scan_entries))
    assert [(found["class"], found["case"]) for found in first + second] == [
        ("ball", "toy_Val0"),
        ("rod", "toy_Val0"),
        ("ball", "toy_Val1"),
        ("rod", "toy_Val1"),
    ]
    evaluator = make_evaluator(make_predictor, module.model, options=module.hparams)
    for judged in evaluator.evaluate(Scan.from_entry(scan_entries[0])):
        assert isinstance(judged, Judged)
        path = tmp_path / "run/predict/Toy_Val" / judged.result.class_name / "toy_Val0.nii.gz"
        mask = read_volume(path)
        assert mask.grid.same_as(read_grid(scan_entries[0]["image"]))
        assert mask.data.dtype == torch.uint8
        np.testing.assert_array_equal(mask.data[0].numpy(), judged.shown[-1].mask)


def test_nothing_found_is_an_empty_mask(
    build: Build, scan_data: Build, scan_entries: Entries, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(eval_clicks=1)
    for name, parameter in module.model.mask_decoder.named_parameters():
        if name.startswith("output_hypernetworks_mlps"):
            torch.nn.init.zeros_(parameter)  # all logits are 0
    trainer = make_trainer(callbacks=[PredictionWriter()])
    trainer.predict(module, datamodule=scan_data(scan_entries[:1]), return_predictions=False)
    mask = read_volume(tmp_path / "run/predict/Toy_Val/ball/toy_Val0.nii.gz")
    assert mask.grid.same_as(read_grid(scan_entries[0]["image"]))
    assert not mask.data.any()


def test_named_scans_are_segmented_by_what_was_handed_in(
    build: Build, scan_data: Build, make_trainer: Build, caplog: pytest.LogCaptureFixture
) -> None:
    module = build()
    asked: list[str] = []

    def segment(predictor: Any, name: str) -> None:
        assert isinstance(predictor, Predictor)
        asked.append(name)
        if name == "b":
            raise ValueError("it is damaged")

    module.segment_scan = segment
    with pytest.raises(ValueError, match="every file must be readable, got 1 that are not: b: it"):
        make_trainer().predict(module, datamodule=scan_data(["a", "b", "c"]))
    assert asked == ["a", "b", "c"]
    assert "b: it is damaged" in caplog.text


def test_a_predictor_must_be_handed_in(
    build: Build, scan_data: Build, scan_entries: Entries, make_trainer: Build
) -> None:
    module = build()
    module.make_predictor = None
    with pytest.raises(ValueError, match="test and predict need a make_predictor, got None"):
        make_trainer().test(module, datamodule=scan_data(scan_entries), verbose=False)


def test_processes_share_what_they_found(
    build: Build, scan_entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(eval_clicks=1)
    evaluator = make_evaluator(make_predictor, module.model, options=module.hparams)
    tests = [ScanTest(evaluator, tmp_path / "test", num_pictures=1) for _ in range(2)]
    assert math.isnan(tests[0].mean_dice())
    for test, entry in zip(tests, reversed(scan_entries), strict=True):
        test.judge(entry)
    assert len(list((tmp_path / "test").iterdir())) == 2  # each one's worst
    other = (tests[1].journal.results, {"x": [{"reason": "small"}]}, [{"path": "y"}])

    def all_gather(parts: list[Any], mine: Any) -> None:
        parts[:] = [mine, other]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather)
    outcome = tests[0].gather()
    assert [(case.class_name, case.case) for case in outcome.results] == [
        (name, f"toy_Val{n}") for name in ("ball", "rod") for n in range(2)
    ]
    assert (outcome.left_out, outcome.unreadable) == ([{"reason": "small"}], [{"path": "y"}])
    tests[0].report(outcome, module.hparams, checkpoint=None)
    worst = min(outcome.results, key=lambda case: case.rounds[-1].dice)
    (picture,) = (tmp_path / "test").glob("*.png")
    assert picture.stem == "_".join(worst.object)


def test_all_that_was_readable_is_no_failure() -> None:
    require_readable([])
