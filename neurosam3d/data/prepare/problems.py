"""What can be wrong with raw or prepared files, named once for messages, tables and JSON."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Kinds of problems; the text is what tables and JSON show."""

    NO_LABEL = "image without label"
    NO_IMAGE = "label without image"
    SAME_NAME = "case name used twice"
    EMPTY_FILE = "empty file"
    NO_PERMISSION = "no permission to read"
    DAMAGED = "damaged file"
    BAD_AFFINE = "unusable affine"
    BAD_CHANNEL = "channel not there"
    CONSTANT = "image of one value"
    BAD_LABEL = "unusable label"
    NO_OVERLAP = "label beside its image"
    NOT_FINITE = "NaN or infinite voxels"
    SEVERAL_CHANNELS = "several channels"
    FRACTIONAL = "fractional label"
    EMPTY_CLASS = "class without a voxel"
    DUPLICATE = "same image twice"


# These are told and lived with; every other kind costs the case or the file.
NOTES = frozenset(
    {
        Kind.NOT_FINITE,
        Kind.SEVERAL_CHANNELS,
        Kind.FRACTIONAL,
        Kind.EMPTY_CLASS,
        Kind.DUPLICATE,
    }
)


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

    @property
    def is_note(self) -> bool:
        """Whether the case is prepared in spite of it."""
        return self.kind in NOTES
