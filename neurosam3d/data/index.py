"""Indexes of prepared cases: small frozen records in, JSON out, and back.

An index `<NAME>_<SET>.json` is a list of objects with the keys image, label, class, volume
(cubic millimetres), spacing (millimetres along axis 0, 1, 2), patient, and whatever else the
preparation knew. Paths are relative to the index file's folder, so that a tree can be moved.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosam3d.data.tree import SUFFIX, Tree, read_json, split_set_name, write_json


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


def read_index(path: Path | str) -> list[Case]:
    """Read an index; the paths in its cases are absolute.

    Raises:
        ValueError: If the file is missing, is not JSON, or an entry lacks a key or has an
            unfit value.
    """
    path = Path(path)
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a list of entries, got {type(entries).__name__}")
    folder = path.absolute().parent
    return [_to_case(entry, folder, f"{path}, entry {i}") for i, entry in enumerate(entries)]


def write_index(path: Path | str, cases: Iterable[Case]) -> None:
    """Write an index whose paths are relative to its folder; it appears whole or not at all."""
    path = Path(path).absolute()
    write_json(path, [_to_entry(case, path.parent) for case in cases])


def find_sets(root: Path | str, names: Sequence[str]) -> dict[str, list[Case]]:
    """Read the indexes of the named sets.

    Args:
        root: The tree of prepared data.
        names: Sets as `<NAME>_<SET>`, for example "AMOS_Tr".

    Raises:
        ValueError: If a set has no index; the message names all that are missing, those found,
            and the command that prepares them.
    """
    tree = Tree(Path(root))
    parts = {name: split_set_name(name) for name in names}
    missing = [name for name, part in parts.items() if not tree.index(*part).is_file()]
    if missing:
        found = ", ".join(tree.list_sets()) or "none"
        commands = "; ".join(_command(*parts[name], tree.root) for name in missing)
        raise ValueError(
            f"no index of {', '.join(missing)} in {tree.root} (found there: {found}); "
            f"prepare with: {commands}"
        )
    return {name: read_index(tree.index(*part)) for name, part in parts.items()}


def _command(name: str, set_name: str, root: Path) -> str:
    """Say how a set comes about: by its class, from any raw folder, or by a split."""
    ways = [
        f"python data.py -dt {set_name} --datasets {name} --out {root}",
        f"python data.py -dt {set_name} --raw DIR --name {name} --out {root}",
    ]
    if set_name == "Val":
        ways.append(f"python data.py --split val=0.2 --name {name} --out {root}")
    return ", or ".join(ways)


def _to_entry(case: Case, folder: Path) -> dict[str, Any]:
    return {
        "image": _relative(case.image, folder),
        "label": _relative(case.label, folder),
        "class": case.class_name,
        "volume": case.volume_mm3,
        "spacing": list(case.spacing),
        "patient": case.patient,
        **case.extra,
    }


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.absolute(), folder)).as_posix()


def _to_case(entry: Any, folder: Path, place: str) -> Case:
    if not isinstance(entry, dict):
        raise ValueError(f"{place} must be an object, got {entry!r}")
    missing = [key for key in _KEYS[:-1] if key not in entry]
    if missing:
        raise ValueError(f"{place} lacks {', '.join(missing)}")
    try:
        spacing = tuple(float(step) for step in entry["spacing"])
        volume = float(entry["volume"])
    except (TypeError, ValueError):
        spacing, volume = (), -1.0
    if len(spacing) != 3 or not (all(step > 0 for step in spacing) and volume >= 0):
        raise ValueError(
            f"{place} needs a spacing of three positive numbers in mm and a volume in mm^3, "
            f"got {entry['spacing']!r} and {entry['volume']!r}"
        )
    patient = entry.get("patient")
    return Case(
        image=folder / str(entry["image"]),
        label=folder / str(entry["label"]),
        class_name=str(entry["class"]),
        volume_mm3=volume,
        spacing=spacing,
        patient=None if patient is None else str(patient),
        extra={key: value for key, value in entry.items() if key not in _KEYS},
    )
