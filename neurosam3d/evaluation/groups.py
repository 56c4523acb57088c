"""Anatomical groups: which of SAM-Med3D's groups a class belongs to, as a YAML file says.

The file `groups.yaml` beside this module explains its keys. Whether a lesion is seen or unseen is a
matter of the network, so it is decided by a list of training sets that a user's file replaces.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from neurosam3d.documents import parse_yaml
from neurosam3d.evaluation.results import CaseResult

OTHER, SEEN, UNSEEN = "other", "seen lesion", "unseen lesion"
SHIPPED = Path(__file__).with_name("groups.yaml")

_LESION = "lesion"  # in a table: seen or unseen, which the data set decides
_KEYS = ("groups", "lesions", "seen_lesions", "replace")
_SEPARATORS = re.compile(r"[\s_.-]+")
_SIDES = {"left", "right", "l", "r", "lh", "rh"}


@dataclass(frozen=True)
class Groups:
    """Tells the anatomical group of a class.

    Args:
        tables: Entry of a file, brought to its plain form -> group. The first table that knows a
            class decides.
        seen: Plain names of the data sets whose lesions are seen ones.
    """

    tables: tuple[Mapping[str, str], ...]
    seen: frozenset[str]

    def find(self, class_name: str, dataset: str = "") -> str | None:
        """Return the group of a class, None if no entry fits.

        Args:
            class_name: The class.
            dataset: Its data set, which some entries name and which tells seen lesions.
        """
        place = _plain(dataset)
        names = [f"{place}/{_plain(class_name)}", _plain(class_name)]
        found = (_look_up(table, names) for table in self.tables)
        group = next((group for group in found if group), None)
        if group == _LESION:
            return SEEN if place in self.seen else UNSEEN
        return group

    def assign(self, cases: Iterable[CaseResult]) -> list[CaseResult]:
        """Return the cases with their groups; a group that a case has already stays."""
        found: dict[tuple[str, str], str] = {}
        grouped = []
        for case in cases:
            key = (case.class_name, case.dataset)
            if not case.group and key not in found:
                found[key] = self.find(*key) or OTHER
            grouped.append(case if case.group else replace(case, group=found[key]))
        return grouped

    def unknown(self, cases: Iterable[CaseResult]) -> list[str]:
        """List the classes that are in the group "other" because no entry fits them."""
        places = {(c.class_name, c.dataset) for c in cases if c.group in ("", OTHER)}
        return sorted({name for name, dataset in places if self.find(name, dataset) is None})


@cache
def shipped_groups() -> Groups:
    """Return the groups of the file that comes with the package."""
    table, seen = _tables(_read(SHIPPED), SHIPPED)
    return Groups((table,), seen or frozenset())


def read_groups(path: Path) -> Groups:
    """Read a user's groups, which come before the shipped ones or, if they say so, replace them.

    Raises:
        ValueError: If the file is missing, is no YAML, or holds other keys or values than
            `groups.yaml` explains.
    """
    content = _read(path)
    table, seen = _tables(content, path)
    if content.get("replace"):
        return Groups((table,), seen or frozenset())
    shipped = shipped_groups()
    return Groups((table, *shipped.tables), shipped.seen if seen is None else seen)


def _look_up(table: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Find the entry that fits the first of some names best."""
    for name in names:
        if name in table:
            return table[name]
        fitting = [entry for entry in table if "*" in entry and fnmatchcase(name, entry)]
        if fitting:
            return table[max(fitting, key=len)]
    return None


def _plain(name: str) -> str:
    """Bring a name to the form in which names are compared."""
    words = _SEPARATORS.split(name.lower())
    return " ".join(word for word in words if word and word not in _SIDES)


def _plain_entry(entry: Any) -> str:
    dataset, slash, class_name = str(entry).rpartition("/")
    return f"{_plain(dataset)}{slash}{_plain(class_name)}"


def _tables(content: Mapping[str, Any], path: Path) -> tuple[dict[str, str], frozenset[str] | None]:
    """Return the entries of a file and its seen data sets, None if it does not list them."""
    groups = content.get("groups") or {}
    if not isinstance(groups, Mapping):
        raise ValueError(f"{path}: 'groups' must map a group to its classes, got {groups!r}")
    table: dict[str, str] = {}
    for group, entries in (*groups.items(), (_LESION, content.get("lesions") or [])):
        for entry in map(_plain_entry, _checked_list(entries, group, path)):
            if table.setdefault(entry, str(group)) != str(group):
                raise ValueError(f"{path}: {entry!r} is in two groups: {table[entry]}, {group}")
    if "seen_lesions" not in content:
        return table, None
    seen = _checked_list(content["seen_lesions"] or [], "seen_lesions", path)
    return table, frozenset(_plain(str(name)) for name in seen)


def _checked_list(value: Any, key: Any, path: Path) -> list[Any]:
    if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
        raise ValueError(f"{path}: {str(key)!r} must be a list of names, got {value!r}")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold keys and values, got {content!r}")
    unknown = [key for key in content if key not in _KEYS]
    if unknown:
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    return content
