"""Codes for names of objects: looked up, and checked against pydicom's table of SNOMED CT."""

import pytest
from pydicom.sr._concepts_dict import concepts

from neurosam3d.inference.segment_codes import (
    ABNORMAL,
    ANATOMY,
    LEFT,
    RIGHT,
    TISSUE,
    SegmentCode,
    _table,
    find_code,
)

KIDNEY = ("64033007", "Kidney")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("liver", SegmentCode(ANATOMY, ("10200004", "Liver"))),
        ("Gall Bladder", SegmentCode(ANATOMY, ("28231008", "Gallbladder"))),
        ("kidney_left", SegmentCode(ANATOMY, KIDNEY, LEFT)),
        ("Right-Kidney", SegmentCode(ANATOMY, KIDNEY, RIGHT)),
        ("rib_right_7", SegmentCode(ANATOMY, ("113197003", "Rib"), RIGHT)),
        ("vertebrae_T12", SegmentCode(ANATOMY, ("23215003", "T12 vertebra"))),
        ("left ventricle", SegmentCode(ANATOMY, ("87878005", "Left ventricle"))),
        ("GTV-1", SegmentCode(ABNORMAL, ("108369006", "Neoplasm"))),
        ("tumour 2", SegmentCode(ABNORMAL, ("108369006", "Neoplasm"))),
        ("fourth toe, left", SegmentCode(TISSUE, TISSUE, LEFT)),
        ("Niere", SegmentCode(TISSUE, TISSUE)),
        ("肝臓", SegmentCode(TISSUE, TISSUE)),
    ],
)
def test_names(name: str, code: SegmentCode) -> None:
    assert find_code(name) == code


def test_codes_are_those_of_snomed() -> None:
    known = {
        (value, meaning.lower())
        for entries in concepts["SCT"].values()
        for value, (meaning, _) in entries.items()
    }
    used = {code.type for code in _table().values()} | {ANATOMY, ABNORMAL, TISSUE, LEFT, RIGHT}
    assert {(value, meaning.lower()) for value, meaning in used} - known == set()


def test_every_name_can_be_found() -> None:
    for name, code in _table().items():
        assert find_code(name) == code
