"""Codes of SNOMED CT for the names of objects, as DICOM-SEG wants them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

Code = tuple[str, str]  # of SNOMED CT: its value and its meaning

ANATOMY: Code = ("91723000", "Anatomical Structure")
ABNORMAL: Code = ("49755003", "Morphologically Abnormal Structure")
TISSUE: Code = ("85756007", "Tissue")
LEFT: Code = ("7771000", "Left")
RIGHT: Code = ("24028007", "Right")

_CATEGORIES = {"anatomy": ANATOMY, "abnormal": ABNORMAL}
_SIDES = {"left": LEFT, "l": LEFT, "right": RIGHT, "r": RIGHT}


@dataclass(frozen=True)
class SegmentCode:
    """What a segment is.

    Args:
        category: Its kind.
        type: What it is.
        side: On which side of the body it is, if that is known.
    """

    category: Code
    type: Code
    side: Code | None = None


def find_code(name: str) -> SegmentCode:
    """Return what a name means: by `segment_codes.yaml`, or tissue if it is not there.

    Args:
        name: For example "liver", "Gall Bladder", "kidney_left" or "rib_right_7".
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    table = _table()
    if (whole := " ".join(words)) in table:
        return table[whole]
    side = next((_SIDES[word] for word in words if word in _SIDES), None)
    words = [word for word in words if word not in _SIDES]
    for candidate in _shorter(words):
        if found := table.get(candidate):
            return SegmentCode(found.category, found.type, side)
    return SegmentCode(TISSUE, TISSUE, side)


def _shorter(words: list[str]) -> Iterator[str]:
    """Yield a name without its side, then without a number at its end."""
    yield " ".join(words)
    if words and words[-1].isdigit():
        yield " ".join(words[:-1])


@cache
def _table() -> dict[str, SegmentCode]:
    file = resources.files("neurosam3d.inference") / "segment_codes.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    table: dict[str, SegmentCode] = {}
    for group, entries in content.items():
        for name, (value, meaning, *others) in entries.items():
            code = SegmentCode(_CATEGORIES[group], (value, meaning))
            table |= dict.fromkeys((name, *others), code)
    return table
