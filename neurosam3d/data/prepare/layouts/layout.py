"""What a layout is, and what is said about the folder that is read as one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neurosam3d.data.prepare.labels import LabelTable, Values, parse_labels, read_label_table
from neurosam3d.data.prepare.listing import Listing

# What a voxel of a fractional label needs to belong to the class, where nothing else is said.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class RawFolder:
    """A raw folder, and how its user wants it read.

    Args:
        path: The folder.
        name: What to call the dataset.
        channel: Which channel of multi-channel images to use.
        labels: Label value -> class name, in place of the folder's own table; None for that.
        threshold: From which fraction on a voxel of a fractional label belongs to the class; None
            if the user does not say.
    """

    path: Path
    name: str
    channel: int = 0
    labels: LabelTable | None = None
    threshold: float | None = None

    def table(self, default: LabelTable) -> dict[Values, str]:
        """Return the user's label table, else that of the folder's labels.json, else a default."""
        if self.labels is not None:
            return parse_labels(self.labels)
        path = self.path / "labels.json"
        return read_label_table(path) if path.is_file() else parse_labels(default)


@dataclass(frozen=True)
class Layout:
    """A way to lay out a raw folder.

    Args:
        name: What it is called.
        description: Which files make it up, in one line.
        is_in: Tells whether a folder has this layout.
        list_folder: Lists such a folder.
        takes_labels: Whether its label files need a table, which the user may give.
        takes_threshold: Whether its label files may hold fractions.
    """

    name: str
    description: str
    is_in: Callable[[Path], bool]
    list_folder: Callable[[RawFolder], Listing]
    takes_labels: bool = True
    takes_threshold: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.description})"
