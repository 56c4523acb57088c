"""One class of one raw image, and its JSON form in `dataset.json`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosam3d.data.prepare.labels import Values, to_values
from neurosam3d.data.tree import folder_name

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")


@dataclass(frozen=True)
class RawItem:
    """One class of one raw image.

    Args:
        image: The image file, or the folder of a DICOM series.
        seg: The label file.
        values: Label values that together make up the class.
        class_name: Name of the class, fit to name a folder.
        case: Name of the image within its set; no two images share one.
        patient: Whom the image shows, if known.
        channel: Which channel of the image to store.
        binary: Whether every voxel of `seg` above 0 belongs to the class, whatever its value.
        threshold: For labels that hold fractions or probabilities from 0 to 1: voxels of at least
            this much belong to the class. None: labels hold integers.
        modality: What the image is, where the dataset holds several kinds; else empty.
    """

    image: Path
    seg: Path
    values: Values
    class_name: str
    case: str
    patient: str | None = None
    channel: int = 0
    binary: bool = False
    threshold: float | None = None
    modality: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; what is not set is left out."""
        return {
            "image": str(self.image),
            "seg": str(self.seg),
            "seg_index": self.values[0] if len(self.values) == 1 else list(self.values),
            "class": self.class_name,
            "case": self.case,
            **({"patient": self.patient} if self.patient else {}),
            **({"channel": self.channel} if self.channel else {}),
            **({"binary": True} if self.binary else {}),
            **({} if self.threshold is None else {"threshold": self.threshold}),
            **({"modality": self.modality} if self.modality else {}),
        }

    @classmethod
    def from_json(
        cls, entry: Any, *, table: Mapping[Values, str], folder: Path, place: str
    ) -> "RawItem":
        """Check the JSON form; only image, seg and seg_index are needed.

        Args:
            entry: The decoded JSON.
            table: Label values -> class name, for an entry that names no class.
            folder: What relative paths are relative to.
            place: Where the entry is from, for messages.

        Raises:
            ValueError: If a key is missing or unfit.
        """
        if not isinstance(entry, Mapping) or not {"image", "seg", "seg_index"} <= entry.keys():
            raise ValueError(f"{place}: an item needs image, seg and seg_index, got {entry!r}")
        values = to_values(entry["seg_index"])
        class_name = entry.get("class") or table.get(values)
        if class_name is None:
            raise ValueError(f"{place}: labels names no class for seg_index {entry['seg_index']}")
        patient, threshold, channel = map(entry.get, ("patient", "threshold", "channel"))
        for text in (entry["image"], entry["seg"], "" if patient is None else patient):
            if not isinstance(text, str):
                raise ValueError(f"{place}: image, seg and patient must be texts, got {text!r}")
        for number in (threshold or 0, channel or 0):
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"{place}: channel and threshold are numbers, got {number!r}")
        return cls(
            image=folder / entry["image"],
            seg=folder / entry["seg"],
            values=values,
            class_name=folder_name(str(class_name)),
            case=folder_name(str(entry["case"])) if "case" in entry else "",
            patient=patient,
            channel=int(channel or 0),
            binary=bool(entry.get("binary", False)),
            threshold=None if threshold is None else float(threshold),
            modality=str(entry.get("modality", "")),
        )


def strip_suffix(path: Path) -> str:
    """Return a volume's file name without its suffix."""
    suffix = next((end for end in VOLUME_SUFFIXES if path.name.lower().endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]
