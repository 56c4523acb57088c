"""Objects with names, as people ask for them: one scan may have several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurosam3d.inference.object_prompts import ObjectPrompts

UNNAMED = "object"


@dataclass(frozen=True)
class NamedObject:
    """What to segment and what to call it.

    Args:
        name: Its name in label map, table and DICOM.
        prompts: Where it is.
    """

    name: str
    prompts: ObjectPrompts


PromptTable = Mapping[str, Sequence[NamedObject]]
"""Objects by the name of their scan; under "" those of a file that names none."""


def check_names(names: Sequence[str], where: str) -> None:
    """Make sure that every object has a name of its own.

    Raises:
        ValueError: If not.
    """
    for name in names:
        if not name.strip():
            raise ValueError(f"{where}: every object needs a name, got {name!r}")
        if names.count(name) > 1:
            raise ValueError(f"{where}: objects need names of their own, got {name!r} twice")
