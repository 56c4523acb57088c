"""A case: the small frozen record that everything after the preparation works on.

It is also an entry of an index: an object with the keys image, label, class, volume (cubic
millimetres), spacing (millimetres along axis 0, 1, 2), patient, and whatever else the preparation
knew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosam3d.data.tree import SUFFIX


@dataclass(frozen=True)
class Case:
    """One class of one image: a single example for training or evaluation.

    Args:
        image: Absolute path of the image.
        label: Absolute path of the binary label, on the image's grid.
        class_name: Name of the class, as its folder is named.
        volume_mm3: Volume of the label's foreground in cubic millimetres.
        spacing: Voxel size of the image in millimetres, axis 0, 1, 2.
        patient: Whom the image shows; None where the raw data does not say.
        extra: Further keys of the index entry.
    """

    image: Path
    label: Path
    class_name: str
    volume_mm3: float
    spacing: tuple[float, float, float]
    patient: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def case_id(self) -> str:
        """The image's file name without its suffix."""
        return self.image.name.removesuffix(SUFFIX)

    @property
    def group(self) -> str:
        """What must not be divided between training and validation: patient, else case."""
        return self.patient or self.case_id


_KEYS = ("image", "label", "class", "volume", "spacing", "patient")
_REQUIRED = frozenset(_KEYS) - {"patient"}


def to_entry(case: Case, *, image: str, label: str) -> dict[str, Any]:
    """Return the index entry of a case.

    Args:
        case: The case.
        image: Path of the image as the index is to name it.
        label: Likewise of the label.
    """
    return {
        "image": image,
        "label": label,
        "class": case.class_name,
        "volume": case.volume_mm3,
        "spacing": list(case.spacing),
        "patient": case.patient,
        **case.extra,
    }


def to_case(entry: Mapping[str, Any], folder: Path) -> Case:
    """Return the case of a checked entry.

    Args:
        entry: The entry.
        folder: What its paths are relative to.
    """
    first, second, third = entry["spacing"]
    patient = entry.get("patient")
    return Case(
        image=folder / str(entry["image"]),
        label=folder / str(entry["label"]),
        class_name=str(entry["class"]),
        volume_mm3=float(entry["volume"]),
        spacing=(float(first), float(second), float(third)),
        patient=None if patient is None else str(patient),
        extra={key: value for key, value in entry.items() if key not in _KEYS},
    )


def check_entry(entry: Any) -> None:
    """Refuse what is no entry of an index.

    Raises:
        ValueError: If it is no object, lacks a key or has an unfit value. The sentence begins with
            the verb, for a caller that knows the entry's place.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"must be an object, got {entry!r}")
    if not entry.keys() >= _REQUIRED:
        missing = [key for key in _KEYS if key in _REQUIRED and key not in entry]
        raise ValueError(f"lacks {', '.join(missing)}")
    try:
        spacing = [float(step) for step in entry["spacing"]]
        volume = float(entry["volume"])
    except (TypeError, ValueError):
        spacing, volume = [], -1.0
    if len(spacing) != 3 or not (all(step > 0 for step in spacing) and volume >= 0):
        raise ValueError(
            f"needs a spacing of three positive numbers in mm and a volume in mm^3, "
            f"got {entry['spacing']!r} and {entry['volume']!r}"
        )
