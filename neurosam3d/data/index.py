"""Indexes of prepared cases: JSON out, a table of cases in.

An index `<NAME>_<SET>.json` is a list of entries as `neurosam3d.data.case` describes them. Paths
are relative to the index file's folder, so that a tree can be moved.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from neurosam3d.data.case import Case, to_entry
from neurosam3d.data.case_table import CaseTable, Element
from neurosam3d.data.tree import Tree, split_set_name, write_json
from neurosam3d.documents import JSONReader, parse_json

_OPENING = re.compile(r"\s*\[\s*(\]\s*)?")
_SEPARATOR = re.compile(r"\s*(?:,\s*|(\])\s*)")


def read_index(path: Path | str) -> CaseTable:
    """Read an index; the paths in its cases are absolute.

    Raises:
        ValueError: If the file is missing, is not JSON, or an entry lacks a key or has an
            unfit value.
    """
    path = Path(path)
    try:
        elements = _split_list(path.read_text(encoding="utf-8-sig"), place=str(path))
        return CaseTable.from_elements(elements, path.absolute().parent, place=str(path))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _split_list(text: str, *, place: str) -> Iterator[Element]:
    """Parse a JSON list one element at a time, so that its text need not be made again."""
    parse = JSONReader().raw_decode
    opening = _OPENING.match(text)
    if opening is None:
        kind = type(parse_json(text)).__name__
        raise ValueError(f"{place} must hold a list of entries, got {kind}")
    position, closed = opening.end(), opening[1]
    while not closed:
        element, end = parse(text, position)
        yield element, text[position:end]
        separator = _SEPARATOR.match(text, end)
        if separator is None:
            raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
        position, closed = separator.end(), separator[1]
    if position < len(text):
        raise json.JSONDecodeError("Extra data", text, position)


def write_index(path: Path | str, cases: Iterable[Case]) -> None:
    """Write an index whose paths are relative to its folder; it appears whole or not at all."""
    path = Path(path).absolute()

    def relative(file: Path) -> str:
        return Path(os.path.relpath(file.absolute(), path.parent)).as_posix()

    write_json(
        path,
        [to_entry(case, image=relative(case.image), label=relative(case.label)) for case in cases],
    )


def find_sets(root: Path | str, names: Sequence[str]) -> dict[str, CaseTable]:
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
