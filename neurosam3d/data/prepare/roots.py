"""Where the raw folders of the datasets lie on this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neurosam3d.data.prepare.yaml_file import read_mapping

VARIABLE = "NEUROSAM3D_RAW"
DEFAULT = Path("data_raw")


@dataclass(frozen=True)
class Roots:
    """Where the raw folders lie, and who says so.

    Args:
        origin: Who says so, for messages.
        root: Parent of the raw folders; None if each is named.
        folders: Dataset -> its raw folder, which need not lie below `root`.
    """

    origin: str
    root: Path | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)

    def __str__(self) -> str:
        place = "the named folders" if self.root is None else str(self.root)
        return f"{place} ({self.origin})"

    def find(self, name: str, folder: str | Path) -> Path | None:
        """Return the raw folder of a dataset, which need not exist; None if nothing is said of it.

        Args:
            name: The dataset.
            folder: What its raw folder is called: absolute, or below the root.
        """
        if name in self.folders:
            return self.folders[name]
        return None if self.root is None else self.root / folder

    def say_missing(self, name: str, folder: Path) -> str:
        """Say that the raw folder of a dataset is not there, and who names it."""
        place = f"({self.origin})" if name in self.folders else f"in {self}"
        return f"{name}: no raw folder {folder} {place}"


def read_roots(option: Path | None) -> Roots | None:
    """Return what `--root`, else the variable NEUROSAM3D_RAW, says; None if neither is given.

    Args:
        option: The value of `--root`. Like the variable, it is the parent of all raw folders or a
            YAML file: {root: DIR, AMOS: DIR, ...}, where relative folders start at the file.

    Raises:
        ValueError: If the YAML file is missing or unfit.
    """
    if option is not None:
        return _to_roots(option, "--root")
    value = os.environ.get(VARIABLE)
    return _to_roots(Path(value), VARIABLE) if value else None


def default_roots() -> Roots:
    """Return what holds where nothing is said."""
    return Roots(f"the default; --root or {VARIABLE} names another", DEFAULT)


def _to_roots(path: Path, origin: str) -> Roots:
    if path.suffix.lower() not in (".yaml", ".yml"):
        return Roots(origin, path)
    folders: dict[str, Path] = {}
    for name, folder in read_mapping(path).items():
        if not isinstance(folder, str):
            raise ValueError(f"{path}: {name} must name a folder, got {folder!r}")
        folders[name] = path.parent / Path(folder).expanduser()
    return Roots(f"{origin} {path}", folders.pop("root", None), folders)
