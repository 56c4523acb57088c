"""What training and validation have in common is said."""

from dataclasses import replace
from pathlib import Path

import pytest

from neurosam3d.data.case import Case
from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.overlap import warn_of_overlap

CASE = Case(Path("/a.nii.gz"), Path("/l.nii.gz"), "liver", 9.0, (1.0, 2.0, 1.5))


def make_set(*cases: tuple[str, str | None, str | None]) -> CaseTable:
    """A set of two classes of images, each given by name, patient, and hash of its voxels."""
    return CaseTable.from_cases(
        replace(
            CASE,
            image=Path(f"/{name}.nii.gz"),
            class_name=class_name,
            patient=patient,
            extra={} if content is None else {"content": content},
        )
        for name, patient, content in cases
        for class_name in ("liver", "spleen")
    )


def test_nothing_in_common_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    training = {"A_Tr": make_set(("a1", "p1", "x1"), ("a2", None, None))}
    # Patient p1 and case a2 of another dataset are others.
    validation = {
        "A_Val": make_set(("a3", "p3", "x3"), ("a4", None, None)),
        "B_Val": make_set(("a2", None, None), ("b2", "p1", "x4")),
    }
    warn_of_overlap(training, validation)
    assert not caplog.records


def test_a_patient_in_both_is_named(caplog: pytest.LogCaptureFixture) -> None:
    training = {"A_Tr": make_set(("a1", "p1", None), ("a2", None, None), ("a3", "p3", None))}
    validation = {"A_Val": make_set(("a9", "p1", None), ("a2", None, None))}
    warn_of_overlap(training, validation)
    (record,) = caplog.records
    assert record.getMessage() == (
        "2 patients are in both training and validation sets, for example a2 of A, p1 of A"
    )


def test_an_image_in_both_is_found_under_any_name(caplog: pytest.LogCaptureFixture) -> None:
    training = {"A_Tr": make_set(("a1", "p1", "x1")), "C_Tr": make_set(("c1", "p1", "x2"))}
    validation = {"B_Val": make_set(("b7", "q1", "x2"), ("b8", "q2", "x3"))}
    warn_of_overlap(training, validation)
    (record,) = caplog.records
    assert record.getMessage() == (
        "1 images are in both training and validation sets, for example b7 of B_Val"
    )


def test_three_examples_are_enough(caplog: pytest.LogCaptureFixture) -> None:
    cases = make_set(*((f"a{number}", None, None) for number in range(9)))
    warn_of_overlap({"A_Tr": cases}, {"A_Val": cases})
    (record,) = caplog.records
    assert record.getMessage().startswith("9 patients")
    assert record.getMessage().endswith("example a0 of A, a1 of A, a2 of A")
