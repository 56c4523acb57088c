"""What can be wrong with raw or prepared files, named once for messages, tables and JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from neurosam3d.volume_io.errors import FileFault, VolumeFileError


class Kind(StrEnum):
    """Kinds of problems; the text is what tables and JSON show."""

    # Raw files.
    NO_LABEL = "image without label"
    NO_IMAGE = "label without image"
    SAME_NAME = "case name used twice"
    MISSING = "missing file"
    EMPTY_FILE = "empty file"
    NO_PERMISSION = "no permission to read"
    DAMAGED = "damaged file"
    BAD_AFFINE = "unusable affine"
    BAD_IMAGE = "unusable image"
    BAD_CHANNEL = "channel not there"
    CONSTANT = "image that shows nothing"
    BAD_LABEL = "unusable label"
    NO_OVERLAP = "label beside its image"
    NOT_FINITE = "NaN or infinite voxels"
    SEVERAL_CHANNELS = "several channels"
    FRACTIONAL = "fractional label"
    PARTIAL_LABEL = "label read in part"
    NO_CLASS = "label value without class"
    EMPTY_CLASS = "class without a voxel"
    DUPLICATE = "same image twice"
    BAD_NAME = "name too long"
    # Prepared trees.
    BAD_JSON = "damaged JSON file"
    EMPTY_INDEX = "index without entries"
    WRONG_ENTRY = "wrong index entry"
    LOST_ENTRY = "lost index entry"
    CHANGED = "changed file"
    OFF_GRID = "label off its image's grid"
    DIVIDED = "patient in two sets"
    LEAK = "training image in evaluation"
    UNFINISHED = "unfinished file"
    NOT_NAMED = "file without index entry"


# These are told and lived with; every other kind costs the case or the file.
NOTES = frozenset(
    {
        Kind.NOT_FINITE,
        Kind.SEVERAL_CHANNELS,
        Kind.FRACTIONAL,
        Kind.PARTIAL_LABEL,
        Kind.NO_CLASS,
        Kind.EMPTY_CLASS,
        Kind.DUPLICATE,
        Kind.NOT_NAMED,
    }
)

MEANINGS: Mapping[Kind, str] = {
    Kind.NO_LABEL: "left out",
    Kind.NO_IMAGE: "left out",
    Kind.SAME_NAME: "all images of that name left out",
    Kind.MISSING: "listed or indexed, but not there",
    Kind.EMPTY_FILE: "0 bytes: a download or copy that failed",
    Kind.NO_PERMISSION: "not readable for this user",
    Kind.DAMAGED: "cut off, or its bytes are not what was written",
    Kind.BAD_AFFINE: "its voxels have no place in space",
    Kind.BAD_IMAGE: "a sound file, but no volume to prepare",
    Kind.BAD_CHANNEL: "the wanted channel does not exist",
    Kind.CONSTANT: "all its voxels are one value, or none is a number",
    Kind.BAD_LABEL: "its values are not those of a label",
    Kind.NO_OVERLAP: "label and image lie in different places",
    Kind.NOT_FINITE: "set to 0",
    Kind.SEVERAL_CHANNELS: "one of them is stored",
    Kind.FRACTIONAL: "voxels from the threshold on belong to the class",
    Kind.PARTIAL_LABEL: "what cannot be used of it is left out",
    Kind.NO_CLASS: "in no class of the table; left out",
    Kind.EMPTY_CLASS: "no file and no index entry",
    Kind.DUPLICATE: "never split apart; mind them across datasets",
    Kind.BAD_NAME: "the file system refuses the name",
    Kind.BAD_JSON: "cannot be used; remove it and prepare the set again",
    Kind.EMPTY_INDEX: "nothing to train on",
    Kind.WRONG_ENTRY: "the index contradicts the file or the report",
    Kind.LOST_ENTRY: "prepared, but never read; prepare the set again",
    Kind.CHANGED: "sound, but not what was prepared",
    Kind.OFF_GRID: "image and label do not match voxel by voxel",
    Kind.DIVIDED: "results would be too good",
    Kind.LEAK: "results would be too good",
    Kind.UNFINISHED: "left by a run that was killed; run it again",
    Kind.NOT_NAMED: "not read by anything",
}

_FAULTS: Mapping[FileFault, Kind] = {
    "missing": Kind.MISSING,
    "empty": Kind.EMPTY_FILE,
    "permission": Kind.NO_PERMISSION,
    "damaged": Kind.DAMAGED,
    "affine": Kind.BAD_AFFINE,
    "unsupported": Kind.BAD_IMAGE,
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        kind: Which rule is broken.
        sentence: The rule, the value, and the file, in one sentence.
        case: The case it belongs to; "" where it belongs to none.
    """

    kind: Kind
    sentence: str
    case: str = ""

    def __str__(self) -> str:
        return self.sentence

    @property
    def is_note(self) -> bool:
        """Whether the case is prepared in spite of it."""
        return self.kind in NOTES

    def to_json(self) -> dict[str, str]:
        """Return the JSON form, without the case."""
        return {"kind": str(self.kind), "sentence": self.sentence}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], case: str) -> "Problem":
        """Read the JSON form.

        Raises:
            ValueError: If the kind is unknown.
            KeyError: If a key is missing.
        """
        return cls(Kind(content["kind"]), str(content["sentence"]), case)


class CaseError(ValueError):
    """What keeps a file or a case from being prepared, and its kind.

    Args:
        sentence: The rule, the value, and the file.
        kind: Which rule is broken.
    """

    kind: Kind

    def __init__(self, sentence: str, kind: Kind = Kind.DAMAGED) -> None:
        super().__init__(sentence)
        self.kind = kind


def kind_of(error: ValueError, *, unusable: Kind = Kind.BAD_IMAGE) -> Kind:
    """Tell the kind of problem that an error in reading a file stands for.

    Args:
        error: What was raised.
        unusable: What a sound file that cannot be used is called.
    """
    if isinstance(error, CaseError):
        return error.kind
    kind = _FAULTS[error.kind] if isinstance(error, VolumeFileError) else Kind.BAD_IMAGE
    return unusable if kind is Kind.BAD_IMAGE else kind


def group_by_kind(problems: Iterable[Problem]) -> dict[Kind, list[Problem]]:
    """Group problems by kind, in the order of the kinds."""
    problems = list(problems)
    groups = {kind: [p for p in problems if p.kind is kind] for kind in Kind}
    return {kind: group for kind, group in groups.items() if group}
