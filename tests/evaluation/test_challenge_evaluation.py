"""The CVPR25 challenge's protocol on files, and through the real predictor."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from neurosam3d.evaluation.challenge_evaluation import ChallengeEvaluator, list_npz
from neurosam3d.evaluation.object_scoring import Judged, Unreadable
from neurosam3d.evaluation.report import read_results, summarise
from neurosam3d.evaluation.run import run_evaluation
from neurosam3d.evaluation.summary import summarise_challenge
from neurosam3d.inference.cvpr25 import segment_cvpr25
from tests.evaluation.scans import block
from tests.inference.oracle import Oracle, oracle_predictor

SHAPE = (30, 26, 34)
SPACING = np.array([3.0, 0.8, 1.2])
TRUTH = 2 * block((4, 5, 6), (6, 8, 7), within=SHAPE) + 5 * block(
    (20, 14, 20), (5, 6, 9), within=SHAPE
)


def bounds(mask: np.ndarray) -> dict[str, int]:
    """Return the challenge's box around a mask."""
    found = np.argwhere(mask)
    (z0, y0, x0), (z1, y1, x1) = found.min(0).tolist(), found.max(0).tolist()
    middle = {"z_mid": (z0 + z1) // 2, "z_mid_y_min": y0, "z_mid_y_max": y1}
    return {"z_min": z0, "z_max": z1, **middle, "z_mid_x_min": x0, "z_mid_x_max": x1}


def write_case(path: Path, *, boxes: bool = True, truth: bool = True, **entries: Any) -> Path:
    """Write a case whose image shows the first class dark and the second bright."""
    image = np.where(TRUTH == 2, 100, np.where(TRUTH == 5, 200, 0)).astype(np.uint8)
    content: dict[str, Any] = {"imgs": image, "spacing": SPACING}
    if truth:
        content["gts"] = TRUTH
    if boxes:
        content["boxes"] = np.array([bounds(value == TRUTH) for value in (2, 5)])
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **{**content, **entries})
    return path


def one_window_oracle() -> Any:
    """Return a model that takes what is bright in a window for the object."""
    predictor = oracle_predictor(Oracle(lambda image: image - 50.0), roi_size=(16, 20, 18))
    return partial(segment_cvpr25, predictor)


class TruthTeller:
    """A model that answers with the truth and keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[Mapping[str, Any]] = []

    def __call__(self, case: Mapping[str, Any]) -> np.ndarray:
        self.given.append(case)
        return np.where(TRUTH == 2, 1, np.where(TRUTH == 5, 2, 0)).astype(np.uint8)


def judge(path: Path, model: Any, **options: Any) -> list[Judged]:
    (scan,) = list_npz(path)
    found = list(ChallengeEvaluator(lambda: model, **options).evaluate(scan))
    assert all(isinstance(finding, Judged) for finding in found), found
    return [finding for finding in found if isinstance(finding, Judged)]


def test_a_network_that_sees_the_truth_has_an_area_of_exactly_four(tmp_path: Path) -> None:
    # Both objects lie in windows of their own, so what is bright in a window is the one asked for.
    judged = judge(write_case(tmp_path / "c.npz"), one_window_oracle())
    results = [entry.result for entry in judged]
    assert [result.class_name for result in results] == ["label_2", "label_5"]
    for result in results:
        assert [entry.clicks for entry in result.rounds] == [0, 1, 2, 3, 4, 5]
        assert {(entry.dice, entry.nsd) for entry in result.rounds} == {(1.0, 1.0)}
    assert summarise_challenge(results) == {
        "scans": 1,
        "dice_auc": 4.0,
        "nsd_auc": 4.0,
        "dice_final": 1.0,
        "nsd_final": 1.0,
    }
    assert results[0].volume_mm3 == pytest.approx(6 * 8 * 7 * 3.0 * 0.8 * 1.2)


def test_without_a_box_the_first_step_is_not_run(tmp_path: Path) -> None:
    model = TruthTeller()
    first, _ = judge(write_case(tmp_path / "c.npz", boxes=False), model)
    assert len(model.given) == 5
    (start, *rest) = first.result.rounds
    assert (start.clicks, start.dice, start.nsd, start.seconds) == (0, 0.0, 0.0, None)
    assert {entry.dice for entry in rest} == {1.0}
    assert all(entry.seconds is not None for entry in rest)
    assert "boxes" not in model.given[0]
    shown_first, shown_last = first.shown
    assert (shown_first.clicks, shown_last.clicks) == (0, 5)
    assert shown_last.labels.tolist() == [1, -1, -1, -1, -1]
    assert TRUTH[tuple(shown_last.points[0])] == 2


def test_answers_are_written_in_the_order_of_the_axes(tmp_path: Path) -> None:
    judge(write_case(tmp_path / "d" / "c.npz"), TruthTeller(), folder=tmp_path / "vis")
    written = sorted((tmp_path / "vis" / "d_Ts").iterdir())
    assert [path.name for path in written] == [f"c_pred{n}.nii.gz" for n in range(6)]
    mask = nib.load(written[3])
    np.testing.assert_allclose(mask.affine, np.diag([3.0, 0.8, 1.2, 1.0]))
    np.testing.assert_array_equal(np.asarray(mask.dataobj) == 1, TRUTH == 2)


def test_the_truth_may_lie_in_a_file_of_its_own(tmp_path: Path) -> None:
    write_case(tmp_path / "cases" / "c.npz", truth=False)
    (tmp_path / "truths").mkdir()
    np.savez_compressed(tmp_path / "truths" / "c.npz", gts=TRUTH)
    (scan,) = list_npz(tmp_path / "cases", truths=tmp_path / "truths", set_name="Val")
    assert (scan.dataset, scan.set_name, scan.case) == ("cases", "Val", "c")
    first, _ = ChallengeEvaluator(TruthTeller).evaluate(scan)
    assert isinstance(first, Judged)
    assert first.result.label == str(tmp_path / "truths" / "c.npz")
    assert first.result.rounds[1].dice == 1.0


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"truth": False}, "a case needs its truth, gts, to be played"),
        ({"gts": np.zeros(SHAPE, np.uint8)}, "a case needs a class above 0 in its truth"),
        ({"spacing": [0, 1, 1]}, "spacing must be three positive lengths"),
    ],
)
def test_an_unfit_case_is_told_and_the_rest_goes_on(
    entries: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    write_case(tmp_path / "a.npz", **entries)
    write_case(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes(b"PK")
    evaluator = ChallengeEvaluator(TruthTeller)
    scans = list_npz(tmp_path)
    findings = [finding for scan in scans for finding in evaluator.evaluate(scan)]
    broken = [finding for finding in findings if isinstance(finding, Unreadable)]
    assert [Path(finding.path).name for finding in broken] == ["a.npz", "c.npz"]
    assert reason in broken[0].reason
    assert len(findings) == 4


def test_a_truth_that_does_not_fit_is_told(tmp_path: Path) -> None:
    write_case(tmp_path / "c.npz", truth=False)
    truths = tmp_path / "truths"
    truths.mkdir()
    np.savez_compressed(truths / "c.npz", gts=TRUTH[1:])
    (finding,) = ChallengeEvaluator(TruthTeller).evaluate(*list_npz(tmp_path, truths=truths))
    assert isinstance(finding, Unreadable)
    assert "must be whole numbers of imgs' shape (30, 26, 34), got uint8 of" in finding.reason
    np.savez_compressed(truths / "c.npz", other=TRUTH)
    (finding,) = ChallengeEvaluator(TruthTeller).evaluate(*list_npz(tmp_path, truths=truths))
    assert isinstance(finding, Unreadable)
    assert "cannot read gts of" in finding.reason


def test_no_case_and_no_truth_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cvpr25 needs cases, \.npz files, got none at"):
        list_npz(tmp_path)
    write_case(tmp_path / "c.npz")
    with pytest.raises(ValueError, match=r"needs its truth, gts, in .*gone/c\.npz, got no such"):
        list_npz(tmp_path, truths=tmp_path / "gone")


def test_results_have_the_challenges_figures(tmp_path: Path) -> None:
    write_case(tmp_path / "cases" / "c.npz")
    _, paths = run_evaluation(
        list_npz(tmp_path / "cases"),
        ChallengeEvaluator(TruthTeller),
        save_name=tmp_path / "result.json",
        protocol={"name": "cvpr25"},
        also={},
        console=Console(quiet=True),
    )
    results = read_results(paths[0])
    assert summarise_challenge(results.cases)["dice_auc"] == 4.0  # type: ignore[index]
    assert summarise(results.cases)["by_clicks"][5]["dice"] == 1.0
    markdown = next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8")
    assert "Challenge scores" in markdown
    assert len(list((tmp_path / "result_worst").glob("*.png"))) == 2
