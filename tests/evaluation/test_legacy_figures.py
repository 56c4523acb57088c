"""SAMed's own figures beside ours, against means that a hand computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosam3d.evaluation.automatic_evaluation import AutomaticEvaluator
from neurosam3d.evaluation.case_files import LabelFile, Scan
from neurosam3d.evaluation.journal import Journal
from neurosam3d.evaluation.legacy_figures import legacy_figures
from neurosam3d.evaluation.object_scoring import Judged, LeftOut, Scoring, Unreadable
from neurosam3d.evaluation.report import read_results, write_results
from neurosam3d.evaluation.run import judge_scan
from neurosam3d.evaluation.worst_pictures import WorstPictures
from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from tests.evaluation.scans import SHAPE, block, write
from tests.inference.adapter_oracle import ClassOracle

LEGACY = Scoring(legacy="samed")


def segmenter_of(*classes: str) -> PromptFreeSegmenter:
    network = ClassOracle((16, 12, 20), num_classes=1 + len(classes))
    return PromptFreeSegmenter(network, classes, spacing=None, intensity="none")


def scan_of(folder: Path, case: str, image: np.ndarray, **truths: np.ndarray) -> Scan:
    files = (LabelFile(write(folder / f"{case}_{n}.nii.gz", m), n) for n, m in truths.items())
    return Scan("D", "Ts", case, write(folder / f"{case}.nii.gz", image), tuple(files))


@pytest.fixture
def scans(tmp_path: Path) -> list[Scan]:
    """One scan where the liver is two voxels off and no spleen, one where the liver is missed and
    the spleen found."""
    shifted, nothing = block((10, 8, 12)), np.zeros(SHAPE, np.uint8)
    first = scan_of(tmp_path, "a", shifted + 2 * block((2, 2, 2)), liver=block((10, 10, 12)))
    second = scan_of(tmp_path, "b", 2 * block(), liver=block((20, 8, 12)), spleen=block())
    third = scan_of(tmp_path, "c", nothing, liver=nothing)
    return [first, second, third]


def judge(scans: list[Scan], scoring: Scoring, folder: Path) -> tuple[list[Any], list[Any]]:
    journal = Journal()
    unreadable: list[dict[str, str]] = []
    pictures = WorstPictures(folder, most=0)
    evaluator: Any = AutomaticEvaluator(lambda: segmenter_of("liver", "spleen", "lung"), scoring)
    for scan in scans:
        judged = judge_scan(
            scan, evaluator, journal=journal, pictures=pictures, unreadable=unreadable
        )
        list(judged)
    assert not unreadable
    left_out = [entry for entries in journal.left_out.values() for entry in entries]
    return list(journal.results.values()), left_out


def test_means_are_those_of_its_program(scans: list[Scan], tmp_path: Path) -> None:
    results, left_out = judge(scans, LEGACY, tmp_path)
    figures = legacy_figures(results, left_out=left_out, name="samed")
    # Liver: shifted by two of eight voxels, missed, and neither there nor found. All of the border
    # voxels of the shifted block are 0, 1 or 2 voxels away, more than a twentieth of them 2.
    liver, spleen = figures["by_class"]["liver"], figures["by_class"]["spleen"]
    assert liver == {
        "volumes": 3,
        "dice": pytest.approx(0.75 / 3),
        "hd95_voxels": pytest.approx(2 / 3),
    }
    # Spleen: invented, found, neither there nor found. The lung is nowhere, so nobody drew it.
    assert spleen == {"volumes": 3, "dice": pytest.approx(2 / 3), "hd95_voxels": 0}
    assert figures["dice"] == pytest.approx((0.25 + 2 / 3) / 2)
    assert set(figures["by_class"]) == {"liver", "spleen"}
    # Ours know of no invented object here, and a missed one is infinitely far.
    assert [result.rounds[0].dice for result in results] == [0.75, 0.0, 1.0]
    assert results[1].rounds[0].hd95 == float("inf")


def test_what_a_scan_does_not_have_is_told_with_what_was_found(scans: list[Scan]) -> None:
    evaluator = AutomaticEvaluator(lambda: segmenter_of("liver", "spleen"), LEGACY)
    judged, absent = evaluator.evaluate(scans[0])
    assert isinstance(judged, Judged)
    assert absent == LeftOut("spleen", "", "the reference does not have the class", voxels=240)
    empty, liver, spleen = evaluator.evaluate(scans[2])
    assert isinstance(empty, LeftOut)
    assert empty.voxels is None
    assert [(found.class_name, found.voxels) for found in (liver, spleen)] == [  # type: ignore
        ("liver", 0),
        ("spleen", 0),
    ]
    only_liver = Scoring(legacy="samed", classes=("liver",))
    found = AutomaticEvaluator(lambda: segmenter_of("liver", "spleen"), only_liver)
    assert [type(one) for one in found.evaluate(scans[0])] == [Judged]


def test_a_class_whose_file_cannot_be_read_is_not_taken_for_absent(scans: list[Scan]) -> None:
    path = scans[0].labels[0].path
    path.write_bytes(path.read_bytes()[:100])
    evaluator = AutomaticEvaluator(lambda: segmenter_of("liver", "spleen"), LEGACY)
    assert [type(found) for found in evaluator.evaluate(scans[0])] == [Unreadable]


def test_reports_have_them_and_only_where_they_are_asked_for(
    scans: list[Scan], tmp_path: Path
) -> None:
    results, left_out = judge(scans, LEGACY, tmp_path)
    said = {"name": "automatic", "left_out": left_out}
    plain, *_ = write_results(tmp_path / "p", results, protocol=said)
    assert "As SAMed reports it" not in plain.with_suffix(".md").read_text(encoding="utf-8")
    paths = write_results(tmp_path / "r", results, protocol={**said, "legacy_figures": "samed"})
    for suffix in (".md", ".html"):
        text = paths[0].with_suffix(suffix).read_text(encoding="utf-8")
        assert "As SAMed reports it" in text
        assert "25.00" in text  # the liver's DSC in percent
    found = read_results(paths[0])
    assert found.cases[0].rounds[0].legacy_hd95 == 2.0
    again = legacy_figures(found.cases, left_out=found.protocol["left_out"], name="samed")
    assert again == legacy_figures(results, left_out=left_out, name="samed")


def test_nothing_has_no_mean() -> None:
    figures = legacy_figures([], left_out=[], name="samed")
    assert figures == {"name": "samed", "dice": None, "hd95_voxels": None, "by_class": {}}
    with pytest.raises(ValueError, match="unknown legacy convention 'medpy'"):
        Scoring(legacy="medpy")
