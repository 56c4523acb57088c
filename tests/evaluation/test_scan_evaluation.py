"""One scan judged: scores, what is left out, what cannot be read, and masks that are reused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosam3d.evaluation.case_files import LabelFile, Scan, list_folder
from neurosam3d.evaluation.journal import key_of
from neurosam3d.evaluation.object_scoring import Judged, LeftOut, Scoring, Unreadable
from neurosam3d.evaluation.protocol import NAMES, InteractiveProtocol
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.evaluation.session_files import SessionFiles
from tests.evaluation.scans import (
    AFFINES,
    SHAPE,
    block,
    sighted_evaluator,
    toy_scans,
    without_seconds,
    write,
    write_pairs,
)
from tests.inference.oracle import Oracle, ellipsoid, oracle_predictor


def judge(scan: Scan, evaluator: ScanEvaluator) -> list[Judged]:
    found = list(evaluator.evaluate(scan))
    assert all(isinstance(finding, Judged) for finding in found), found
    return [finding for finding in found if isinstance(finding, Judged)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_network_that_sees_the_truth_scores_one_from_file_to_result(
    name: str, affine: np.ndarray, tmp_path: Path
) -> None:
    truth = ellipsoid(SHAPE, centre=(13, 12, 19), radii=(5, 6, 7))
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (truth, truth)}, affine=affine))
    files = SessionFiles(tmp_path / "vis", {})
    evaluator = sighted_evaluator(protocol=InteractiveProtocol(name, 2), files=files)
    ((judged),) = judge(scan, evaluator)
    for number, entry in enumerate(judged.result.rounds, 1):
        assert entry.clicks == number
        assert (entry.dice, entry.nsd, entry.iou) == (1.0, 1.0, 1.0)
        assert (entry.hd95, entry.assd, entry.volume_error) == (0.0, 0.0, 0.0)
    assert judged.result.volume_mm3 == pytest.approx(
        truth.sum() * abs(np.linalg.det(affine[:3, :3])), rel=1e-5
    )
    assert len(list((tmp_path / "vis").rglob("a_pred?.nii.gz"))) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_shifted_truth_scores_what_a_hand_computes(
    name: str, affine: np.ndarray, tmp_path: Path
) -> None:
    # The network sees 6 x 8 x 5 voxels, the truth lies 2 further along the second axis.
    image, label = block((10, 8, 12)), block((10, 10, 12))
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (image, label)}, affine=affine))
    ((judged),) = judge(scan, sighted_evaluator(protocol=InteractiveProtocol(name, 3)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    for entry in judged.result.rounds:
        assert entry.dice == 2 * 6 * 6 * 5 / (2 * 6 * 8 * 5)
        assert entry.iou == 6 * 6 * 5 / (6 * 10 * 5)
        assert entry.hd95 == pytest.approx(2 * spacing[1], rel=1e-5)
        assert entry.volume_error == 0


def test_rounds_are_timed_and_named(tmp_path: Path) -> None:
    scan = toy_scans(tmp_path)[0]
    first, second = judge(scan, sighted_evaluator())
    assert first.result.object == (tmp_path.name, "Ts", "label_1", "case0")
    assert (first.result.image, first.result.label) == (
        str(scan.image),
        str(scan.labels[0].path),
    )
    assert [step.clicks for step in first.shown] == [1, 3]
    asked = first.result.rounds[0]
    assert asked.encode_seconds is not None
    assert asked.decode_seconds is not None
    assert asked.seconds is not None
    assert asked.seconds >= asked.encode_seconds + asked.decode_seconds
    again = second.result.rounds[1]  # the second object is right after the first click
    assert again.seconds is None
    assert (again.clicks, again.dice) == (2, second.result.rounds[0].dice)


def test_repeats_follow_from_the_seeds_and_splits_change_nothing(tmp_path: Path) -> None:
    scan = toy_scans(tmp_path)[2]

    def results(seed: int, repeats: int) -> list[Any]:
        protocol = InteractiveProtocol(num_clicks=4, point_method="random", seed=seed)
        evaluator = ScanEvaluator(Half, protocol, repeats=repeats)
        return without_seconds(judged.result for judged in judge(scan, evaluator))

    several = results(5, 3)
    assert [(r.class_name, r.repeat) for r in several] == [
        (name, repeat) for name in ("label_1", "label_2") for repeat in range(3)
    ]
    for repeat in range(3):
        alone = [replace(r, repeat=repeat) for r in results(5 + repeat, 1)]
        assert [r for r in several if r.repeat == repeat] == alone
    assert len({r.rounds for r in several}) > 2


class Half:
    """Answers with a ball of two voxels around every positive click."""

    def set_image(self, image: Any) -> None:
        self.shape = image.shape

    def open_session(self, **options: Any) -> "Half":
        self.mask = np.zeros(self.shape, dtype=np.uint8)
        return self

    roi = None
    num_windows = 1
    seconds: dict[str, float] = {}  # noqa: RUF012 (never written to)

    def add_point(self, point: Any, label: int) -> "Half":
        near = ellipsoid(self.shape, centre=point, radii=(2, 2, 2)) > 0
        self.mask = np.where(near, label, self.mask).astype(np.uint8)
        return self


def test_what_is_small_or_empty_is_left_out_with_its_reason(tmp_path: Path) -> None:
    voxel_mm3 = 0.8 * 1.2 * 3
    image = write(tmp_path / "i.nii.gz", block())
    empty = write(tmp_path / "empty.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    small = write(tmp_path / "small.nii.gz", block((0, 0, 0), (1, 2, 5)))
    large = write(tmp_path / "large.nii.gz", block((0, 0, 0), (1, 2, 6)))
    labels = tuple(LabelFile(path, path.name[:5]) for path in (empty, small, large))
    scan = Scan("D", "Ts", "c", image, labels)
    found = list(sighted_evaluator(scoring=Scoring(threshold_mm3=10.5 * voxel_mm3)).evaluate(scan))
    assert [type(finding) for finding in found] == [LeftOut, LeftOut, Judged]
    assert found[0] == LeftOut(
        "empty",
        str(empty),
        "the reference has no voxel on the image's grid: there is nothing to find",
    )
    assert isinstance(found[1], LeftOut)
    assert found[1].reason.startswith("28.8 mm^3 are not more than the threshold of 30.24 mm^3")


def test_what_cannot_be_read_does_not_stop_the_rest(tmp_path: Path) -> None:
    image = write(tmp_path / "i.nii.gz", block())
    good = write(tmp_path / "good.nii.gz", block())
    broken = write(tmp_path / "broken.nii.gz", block())
    broken.write_bytes(broken.read_bytes()[:200])
    scan = Scan("D", "Ts", "c", image, (LabelFile(broken, "a"), LabelFile(good, "b")))
    first, second = sighted_evaluator().evaluate(scan)
    assert isinstance(first, Unreadable)
    assert first.path == str(broken)
    assert "truncated or damaged" in first.reason
    assert isinstance(second, Judged)
    (finding,) = sighted_evaluator().evaluate(replace(scan, image=tmp_path / "gone.nii.gz"))
    assert isinstance(finding, Unreadable)
    assert "no such file" in finding.reason


def test_intensities_that_are_no_numbers_count_as_zero(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = block().astype(np.float32)
    image[0, 0, :3] = np.nan, np.inf, -np.inf
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (image, block())}))
    ((judged),) = judge(scan, sighted_evaluator())
    assert judged.result.rounds[0].dice == 1.0
    assert "3 NaN or infinite voxels set to 0" in caplog.text


def test_finished_objects_are_passed_over_and_the_scan_is_given_once(tmp_path: Path) -> None:
    scan = toy_scans(tmp_path)[0]
    predictor = oracle_predictor(Oracle())
    given = []
    set_image = predictor.set_image
    predictor.set_image = lambda image: (given.append(1), set_image(image))[1]  # type: ignore
    evaluator = replace(sighted_evaluator(repeats=2), load_predictor=lambda: predictor)
    everything = judge(scan, evaluator)
    assert len(given) == 1
    done = {key_of(judged.result) for judged in everything[:3]}
    (rest,) = evaluator.evaluate(scan, finished=done)
    assert isinstance(rest, Judged)
    assert key_of(rest.result) == key_of(everything[3].result)
    assert list(evaluator.evaluate(scan, finished={*done, key_of(rest.result)})) == []
    assert len(given) == 2


def test_masks_that_are_there_are_scored_without_the_network(tmp_path: Path) -> None:
    scan = toy_scans(tmp_path)[1]
    files = SessionFiles(tmp_path / "vis", {"seed": 2023})
    written = judge(scan, sighted_evaluator(files=files))

    def fail() -> Any:
        raise AssertionError("the network was asked")

    reader = replace(sighted_evaluator(files=files, reuse=True), load_predictor=fail)
    again = judge(scan, reader)
    assert without_seconds(j.result for j in again) == without_seconds(j.result for j in written)
    assert again[0].result.rounds[0].seconds == written[0].result.rounds[0].seconds

    (tmp_path / "vis" / f"{tmp_path.name}_Ts" / "label_2" / "case1_pred2.nii.gz").unlink()
    with pytest.raises(AssertionError, match="the network was asked"):
        judge(scan, reader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"reuse": True}, "existing predictions can only be scored where --vis_path says"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sighted_evaluator(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance_mm": -1.0}, "tolerance_mm must be at least 0, got -1"),
        ({"threshold_mm3": float("nan")}, "threshold_mm3 must be at least 0, got nan"),
    ],
)
def test_wrong_measures_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scoring(**options)
