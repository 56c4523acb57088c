"""Find files by templates below a raw folder.

A template is a path with placeholders: "imagesTr/{case}.nii.gz". Every placeholder stands for
part of one file or folder name, and for the same text wherever it is used again. `{ext}` stands
for the suffix of any readable volume. A template that ends in "/" finds folders.
"""

import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType

from neurosam3d.data.prepare.raw_item import VOLUME_SUFFIXES

Found = tuple[Path, dict[str, str]]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SUFFIX = "|".join(re.escape(suffix) for suffix in VOLUME_SUFFIXES)
_LAST_CHARACTER = "\U0010ffff"


class RawFiles:
    """The visible files and folders below a raw folder; each folder is read from disk once.

    Copies made on a Mac carry a hidden "._name" beside every file; hidden names are passed over.

    Args:
        root: The raw folder.

    Attributes:
        unreadable: Folders that could not be read for lack of permission.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[Path] = []
        self._names: dict[Path, tuple[_Names, _Names]] = {}

    def find(
        self, template: str, known: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[Found]:
        """Yield what fits a template, in the order of the names, with all placeholders' texts.

        Args:
            template: Path below the raw folder.
            known: What some placeholders stand for.
        """
        parts = template.rstrip("/").split("/")
        return self._descend(self.root, parts, dict(known), template.endswith("/"))

    def _descend(
        self, folder: Path, parts: Sequence[str], fields: dict[str, str], wants_folder: bool
    ) -> Iterator[Found]:
        part, *deeper = parts
        names = self._read(folder)[bool(deeper) or wants_folder]
        for name, found in names.match(fill(part, fields)):
            path, all_fields = folder / name, {**fields, **found}
            if deeper:
                yield from self._descend(path, deeper, all_fields, wants_folder)
            else:
                yield path, all_fields

    def _read(self, folder: Path) -> "tuple[_Names, _Names]":
        """Names of the files and of the folders in a folder."""
        if folder not in self._names:
            names: tuple[list[str], list[str]] = ([], [])
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if not entry.name.startswith(".") and (entry.is_dir() or entry.is_file()):
                            names[entry.is_dir()].append(entry.name)
            except (FileNotFoundError, NotADirectoryError):
                pass
            except PermissionError:
                self.unreadable.append(folder)
            self._names[folder] = (_Names(names[0]), _Names(names[1]))
        return self._names[folder]


def fill(template: str, fields: Mapping[str, str]) -> str:
    """Fill the placeholders that are known and keep the others."""
    return _PLACEHOLDER.sub(lambda match: fields.get(match[1], match[0]), template)


def placeholders(template: str) -> tuple[str, ...]:
    """Names of the placeholders in a template, each once."""
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(template)))


class _Names:
    """The names in one folder.

    A folder may hold a hundred thousand files and be asked once for each, so names are found by
    halving sorted lists: by what they begin with, else by what they end with.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)

    @cached_property
    def _backwards(self) -> list[str]:
        return sorted(name[::-1] for name in self._names)

    def match(self, part: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield what fits a part of a template, and what its placeholders stand for."""
        start, *rest = _PLACEHOLDER.split(part)  # text, placeholder, text, ..., text
        names: Iterable[str] = _beginning(self._names, start)
        if not rest:
            yield from ((name, {}) for name in names if name == start)
        elif rest == ["ext", ""]:
            suffixes = ((name, name[len(start) :]) for name in names)
            yield from ((name, {"ext": end}) for name, end in suffixes if end in VOLUME_SUFFIXES)
        else:
            if not start:
                names = sorted({name for end in _ends(rest) for name in self._ending(end)})
            matches = ((name, _regex(part).fullmatch(name)) for name in names)
            yield from ((name, match.groupdict()) for name, match in matches if match)

    def _ending(self, end: str) -> Iterator[str]:
        return (name[::-1] for name in _beginning(self._backwards, end[::-1]))


def _beginning(names: Sequence[str], start: str) -> Sequence[str]:
    """Those of sorted names that begin with a text."""
    first = bisect_left(names, start)
    return names[first : bisect_left(names, start + _LAST_CHARACTER, lo=first)]


def _ends(pieces: Sequence[str]) -> list[str]:
    """What a name may end with, by the pieces of a template: placeholder, text, ..., text."""
    if pieces[-2:] == ["ext", ""]:
        return [(pieces[-3] if len(pieces) > 2 else "") + suffix for suffix in VOLUME_SUFFIXES]
    return [pieces[-1]]


@lru_cache(maxsize=256)
def _regex(part: str) -> re.Pattern[str]:
    """Regular expression of a part; a placeholder's second use must equal its first."""
    seen: set[str] = set()
    pieces = _PLACEHOLDER.split(part)  # text, placeholder, text, ..., text
    for i, piece in enumerate(pieces):
        if i % 2 == 0:
            pieces[i] = re.escape(piece)
        elif piece in seen:
            pieces[i] = f"(?P={piece})"
        else:
            pieces[i] = f"(?P<{piece}>{_SUFFIX if piece == 'ext' else '.*?'})"
            seen.add(piece)
    return re.compile("".join(pieces), re.DOTALL)
