"""What the label files of a BIDS derivative hold, told by their names and by tables beside them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from neurosam3d.data.prepare.labels import Values, read_label_table
from neurosam3d.data.prepare.layouts.layout import RawFolder
from neurosam3d.data.prepare.listing import strip_suffix

# The spinal cord community's names; seg-labeled holds the number of the vertebral level.
_SPINE_MASKS = {
    "seg-manual": "spinal_cord",
    "gmseg-manual": "gray_matter",
    "wmseg-manual": "white_matter",
    "lesion-manual": "lesion",
}
_SPINE_LEVELS = {(level,): f"cord_level_{level}" for level in range(1, 26)}
_OWN_SPACE = ("orig", "individual", "native")
_SUFFIXES = ("dseg", "probseg", "mask", "seg")


@dataclass(frozen=True)
class BidsFile:
    """A file whose name is made of entities: sub-01_ses-2_T1w.

    Args:
        path: The file.
    """

    path: Path

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The parts of its name."""
        return tuple(strip_suffix(self.path).split("_"))

    @cached_property
    def entities(self) -> dict[str, str]:
        """Its entities, such as sub and ses."""
        pairs = (part.partition("-") for part in self.parts)
        return {key: value for key, dash, value in pairs if dash}

    @cached_property
    def suffix(self) -> str:
        """What it is, such as T1w or dseg; empty if the name does not say."""
        return next((part for part in reversed(self.parts) if "-" not in part), "")

    @property
    def space(self) -> str:
        """Kind of image, or template, on whose grid a label lies; empty for its own image's."""
        space = self.entities.get("space", "")
        return "" if space in _OWN_SPACE else space

    @property
    def is_label(self) -> bool:
        """Whether it is called as label files are."""
        spine = (*_SPINE_MASKS, "seg-labeled")
        return self.suffix in _SUFFIXES or self.parts[-1] in spine


@dataclass(frozen=True)
class LabelClass:
    """A class of a label file.

    Args:
        values: Its label values.
        name: What it is called.
        binary: Whether all that is above 0 belongs to it.
        is_fraction: Whether the file holds probabilities.
    """

    values: Values
    name: str
    binary: bool = False
    is_fraction: bool = False


def list_classes(label: BidsFile, table: Mapping[Values, str]) -> Iterator[LabelClass]:
    """Yield the classes of a label file; none if it holds integers and no table names them.

    Args:
        label: The file.
        table: Its label table; empty if there is none.
    """
    last, entities = label.parts[-1], label.entities
    name = entities.get("label") or entities.get("desc")
    if last in _SPINE_MASKS:
        yield LabelClass((1,), _SPINE_MASKS[last], binary=True)
    elif last == "seg-labeled":
        yield from (LabelClass(*entry) for entry in (table or _SPINE_LEVELS).items())
    elif label.suffix == "probseg":
        yield LabelClass((1,), name or label.suffix, binary=True, is_fraction=True)
    elif label.suffix == "dseg" or (table and not name):
        yield from (LabelClass(*entry) for entry in table.items())
    else:
        yield LabelClass((1,), name or label.suffix, binary=True)


class Tables:
    """The label tables of a dataset, each read once.

    Args:
        raw: The dataset's folder; a table that its user gives goes before those in it.
    """

    def __init__(self, raw: RawFolder) -> None:
        self._root = raw.path
        self._given = raw.labels is not None
        self._own = raw.table({})
        self._files: dict[Path, list[BidsFile]] = {}
        self._tables: dict[Path, dict[Values, str]] = {}

    def find(self, label: BidsFile) -> Mapping[Values, str]:
        """Return the table of a label file; empty if there is none.

        Tables `*_dseg.tsv` may lie beside the file or in a folder above, and their names may leave
        out parts of the file's: the nearest counts, and of those in one folder the one with most
        parts.
        """
        if label.suffix != "dseg" or self._given:
            return self._own
        for folder in _upwards(label.path.parent, self._root):
            fitting = [t for t in self._in(folder) if set(t.parts) <= set(label.parts)]
            if fitting:
                path = max(fitting, key=lambda table: len(table.parts)).path
                if path not in self._tables:
                    self._tables[path] = read_label_table(path)
                return self._tables[path]
        return self._own

    def _in(self, folder: Path) -> list[BidsFile]:
        if folder not in self._files:
            self._files[folder] = [BidsFile(path) for path in sorted(folder.glob("*dseg.tsv"))]
        return self._files[folder]


def _upwards(folder: Path, root: Path) -> Iterable[Path]:
    return (folder, *(above for above in folder.parents if above.is_relative_to(root)))
