"""Networks without prompts, judged by the classes that they find."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosam3d.evaluation.automatic_evaluation import AutomaticEvaluator
from neurosam3d.evaluation.case_files import LabelFile, Scan, list_folder
from neurosam3d.evaluation.journal import Journal, key_of
from neurosam3d.evaluation.object_scoring import Judged, LeftOut, Scoring, Unreadable
from neurosam3d.evaluation.report import read_results, results_table, write_results
from neurosam3d.evaluation.run import judge_scan
from neurosam3d.evaluation.worst_pictures import WorstPictures
from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from neurosam3d.volume import read_volume
from tests.evaluation.scans import AFFINES, SHAPE, block, write, write_pairs
from tests.inference.adapter_oracle import ClassOracle
from tests.inference.oracle import ellipsoid


def segmenter_of(*classes: str) -> PromptFreeSegmenter:
    network = ClassOracle((16, 12, 20), num_classes=1 + len(classes))
    return PromptFreeSegmenter(network, classes, spacing=None, intensity="none")


def two_organs() -> np.ndarray:
    first = ellipsoid(SHAPE, centre=(9, 12, 12), radii=(6, 7, 7))
    return np.where(ellipsoid(SHAPE, centre=(22, 10, 25), radii=(6, 6, 7)), 2, first)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_network_that_sees_the_truth_scores_one_from_file_to_result(
    affine: np.ndarray, tmp_path: Path
) -> None:
    truth = two_organs()
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (truth, truth)}, affine=affine))
    evaluator = AutomaticEvaluator(
        lambda: segmenter_of("label_1", "label_2"), folder=tmp_path / "v"
    )
    first, second = evaluator.evaluate(scan)
    for judged, name in ((first, "label_1"), (second, "label_2")):
        assert isinstance(judged, Judged)
        assert judged.result.object == (tmp_path.name, "Ts", name, "a")
        (entry,) = judged.result.rounds
        assert (entry.clicks, entry.dice, entry.nsd, entry.hd95) == (0, 1.0, 1.0, 0.0)
        assert entry.seconds is not None
    written = read_volume(tmp_path / "v" / f"{tmp_path.name}_Ts" / "a_pred.nii.gz")
    np.testing.assert_array_equal(written.data[0], truth)
    np.testing.assert_allclose(written.affine, affine, atol=1e-4)


def test_only_wanted_classes_are_judged(tmp_path: Path) -> None:
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (two_organs(), two_organs())}))
    scoring = Scoring(classes=("label_2", "liver"))
    (judged,) = AutomaticEvaluator(lambda: segmenter_of("x", "label_2"), scoring).evaluate(scan)
    assert isinstance(judged, Judged)  # and label_1 is not even left out
    assert judged.result.class_name == "label_2"
    masks = Scan("d", "Ts", "a", scan.image, (LabelFile(tmp_path / "none.nii.gz", "lung"),))
    assert list(AutomaticEvaluator(lambda: segmenter_of("x"), scoring).evaluate(masks)) == []


def test_a_shifted_truth_scores_what_a_hand_computes(tmp_path: Path) -> None:
    image, label = block((10, 8, 12)), block((10, 10, 12))  # two voxels of 1.2 mm further
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (image, label)}))
    for tolerance_mm, nsd in ((1.0, None), (5.0, 1.0)):
        scoring = Scoring(tolerance_mm=tolerance_mm)
        (judged,) = AutomaticEvaluator(lambda: segmenter_of("label_1"), scoring).evaluate(scan)
        assert isinstance(judged, Judged)
        (entry,) = judged.result.rounds
        assert entry.dice == 2 * 6 * 6 * 5 / (2 * 6 * 8 * 5)
        assert entry.hd95 == pytest.approx(2.4, rel=1e-5)
        assert entry.nsd is not None
        assert entry.nsd == nsd or (nsd is None and 0.3 < entry.nsd < 0.9)


def test_a_scan_is_segmented_once_and_only_if_need_be(tmp_path: Path) -> None:
    truth = two_organs()
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (truth, truth)}))
    segmenter, asked = segmenter_of("label_1", "label_2"), []
    segment = segmenter.segment
    segmenter.segment = lambda image: (asked.append(1), segment(image))[1]  # type: ignore
    evaluator = AutomaticEvaluator(lambda: segmenter)
    found = [judged for judged in evaluator.evaluate(scan) if isinstance(judged, Judged)]
    assert len(asked) == 1
    done = {key_of(judged.result) for judged in found}
    assert list(evaluator.evaluate(scan, finished=done)) == []
    assert len(asked) == 1
    (rest,) = evaluator.evaluate(scan, finished={key_of(found[0].result)})
    assert isinstance(rest, Judged)
    assert rest.result.class_name == "label_2"


def test_what_is_not_judged_is_told_with_its_reason(tmp_path: Path) -> None:
    image = write(tmp_path / "i.nii.gz", block())
    empty = write(tmp_path / "empty.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    good = write(tmp_path / "good.nii.gz", block())
    broken = write(tmp_path / "broken.nii.gz", block())
    broken.write_bytes(broken.read_bytes()[:200])
    labels = tuple(
        LabelFile(path, name)
        for path, name in ((empty, "liver"), (good, "spleen"), (broken, "x"), (good, "liver"))
    )
    scan = Scan("D", "Ts", "c", image, labels)
    found = list(AutomaticEvaluator(lambda: segmenter_of("liver")).evaluate(scan))
    assert [type(finding) for finding in found] == [LeftOut, LeftOut, Unreadable, Judged]
    assert found[1] == LeftOut(
        "spleen", str(good), "the network does not know the class, but liver"
    )


@pytest.mark.usefixtures("quick_pictures")
def test_reports_and_pictures_know_results_without_clicks(tmp_path: Path) -> None:
    image, label = block((10, 8, 12)), block((10, 10, 12))
    (scan,) = list_folder(write_pairs(tmp_path, {"a": (image, label)}))
    journal, pictures = Journal(), WorstPictures(tmp_path / "worst")
    unreadable: list[dict[str, str]] = []
    evaluator: Any = AutomaticEvaluator(lambda: segmenter_of("label_1"))
    (result,) = judge_scan(
        scan, evaluator, journal=journal, pictures=pictures, unreadable=unreadable
    )
    assert len(pictures.paths()) == 1
    for ending in ("json", "py"):
        paths = write_results(
            tmp_path / f"r.{ending}", [result], protocol={"name": "automatic"}, pictures=[]
        )
        assert len(paths) >= 4
    assert read_results(tmp_path / "r.json").cases[0].rounds == result.rounds
    assert read_results(tmp_path / "r.csv").cases[0].rounds[0].clicks == 0
    assert results_table([result]).row_count > 0
