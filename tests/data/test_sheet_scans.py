"""Which scans a sheet shows."""

from collections.abc import Sequence
from pathlib import Path

from neurosam3d.data.case import Case
from neurosam3d.data.sheet_scans import Scan, choose_scans

SPACING = (1.5, 1.25, 4.0)


def entries(*names: str, patient: str | None = None) -> list[Case]:
    """Two classes of each image."""
    return [
        Case(Path(f"/t/{name}.nii.gz"), Path(f"/t/{c}/{name}.nii.gz"), c, 1.0, SPACING, patient)
        for name in names
        for c in ("liver", "spleen")
    ]


def chosen(scans: Sequence[Scan]) -> list[str]:
    return [f"{scan.set_name} {scan.cases[0].case_id}" for scan in scans]


def test_scans_are_spread_over_sets_and_patients() -> None:
    many = [case for i in range(50) for case in entries(f"m{i:02d}", patient="busy")]
    others = [case for i in range(3) for case in entries(f"o{i}", patient=f"p{i}")]
    sets = {"Tr": many + others, "Val": entries("v0", "v1"), "Ts": []}
    scans = choose_scans(sets, 7)
    assert chosen(scans) == ["Tr m00", "Tr m49", "Tr o0", "Tr o1", "Tr o2", "Val v0", "Val v1"]
    assert [len(scan.cases) for scan in scans] == [2] * 7


def test_the_first_and_the_last_patient_are_among_few() -> None:
    cases = [case for i in range(9) for case in entries(f"c{i}")]
    assert chosen(choose_scans({"Tr": cases}, 3)) == ["Tr c0", "Tr c4", "Tr c8"]


def test_patients_take_turns_in_which_sequence_they_show() -> None:
    cases = [c for p in "abcd" for c in entries(f"{p}_flair", f"{p}_t1", patient=p)]
    names = chosen(choose_scans({"Tr": cases}, 4))
    assert names == ["Tr a_flair", "Tr b_t1", "Tr c_flair", "Tr d_t1"]


def test_the_order_of_the_index_does_not_matter() -> None:
    cases = [case for i in range(9) for case in entries(f"c{i}", patient=f"p{i % 2}")]
    assert chosen(choose_scans({"Tr": cases[::-1]}, 4)) == chosen(choose_scans({"Tr": cases}, 4))


def test_no_more_scans_than_there_are() -> None:
    assert len(choose_scans({"Tr": entries("a", "b"), "Val": entries("c")}, 12)) == 3
