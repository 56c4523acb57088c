"""Find images that show the same, under whatever names and in whatever datasets."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosam3d.data.case import Case
from neurosam3d.data.tree import split_set_name

_NAMED = 5


@dataclass(frozen=True)
class Place:
    """Where an image is used.

    Args:
        set_name: Which index names it.
        image: The prepared file.
        case: Its name there.
    """

    set_name: str
    image: Path
    case: str

    def __str__(self) -> str:
        return f"{self.case} of {self.set_name}"

    @property
    def is_training(self) -> bool:
        """Whether it is trained on."""
        return split_set_name(self.set_name)[1] == "Tr"


def name_places(places: Sequence[Place]) -> str:
    """Name the first few places; a group may hold thousands."""
    more = len(places) - _NAMED
    return ", ".join(map(str, places[:_NAMED])) + (f" and {more} more" if more > 0 else "")


def find_duplicates(sets: Mapping[str, Iterable[Case]]) -> list[tuple[Place, ...]]:
    """Return each group of image files that hold the same picture.

    Args:
        sets: Set -> its cases. Those prepared before pictures had digests are not compared.

    Returns:
        Groups of two or more files, in the order of the sets and their cases; a file that several
        sets name stands for each of them.
    """
    places: dict[str, dict[tuple[str, Path], Place]] = defaultdict(dict)
    for set_name, cases in sets.items():
        for case in cases:
            if content := case.extra.get("content"):
                place = Place(set_name, case.image, case.case_id)
                places[content].setdefault((set_name, case.image), place)
    groups = (tuple(group.values()) for group in places.values())
    return [group for group in groups if len({place.image for place in group}) > 1]
