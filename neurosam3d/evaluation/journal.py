"""What an unfinished evaluation has found so far, on disk, so that a killed run goes on.

One JSON object per line: the protocol first, then results as they come and scans that are done.
Lines are only ever added, so a kill can cost no more than the line that was being written.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from neurosam3d.documents import parse_json
from neurosam3d.evaluation.result_files import CASE_KEYS, parse_case
from neurosam3d.evaluation.results import CaseResult, differing
from neurosam3d.files import naming, replacing

logger = logging.getLogger(__name__)

_FIELDS = {field.name for field in fields(CaseResult)}

Key = tuple[str, str, str, str, int]


class Journal:
    """The results of a run, each on disk before the next is begun.

    Args:
        path: The file, which `start` begins or goes on with; None to keep nothing on disk.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.results: dict[Key, CaseResult] = {}
        self.left_out: dict[str, list[dict[str, Any]]] = {}

    @classmethod
    def start(cls, path: Path, protocol: Mapping[str, Any], *, restart: bool = False) -> "Journal":
        """Begin a journal, or go on with the one that a killed run has left.

        Args:
            path: The file.
            protocol: Everything that results depend on; plain values.
            restart: Begin anew whatever is there.

        Raises:
            ValueError: If the file is of another protocol or no journal.
        """
        journal = cls(path)
        first = json.dumps({"protocol": protocol})
        lines = [] if restart else _read_lines(path)
        if lines:
            _check(lines[0], json.loads(first)["protocol"], path)
        damaged = [line for line in lines[1:] if not journal._take(line)]
        if damaged:
            logger.warning("%s is damaged; what is lost of it is judged again", path)
            journal.left_out.clear()  # a scan that was done may lack an object now
        # The end of a line that was being written goes, and a new file appears whole.
        with replacing(path) as partial:
            text = "\n".join([first, *map(json.dumps, journal._entries())])
            partial.write_text(f"{text}\n", encoding="utf-8")
        return journal

    def add(self, result: CaseResult) -> None:
        """Keep the result of an object."""
        self.results[key_of(result)] = result
        self._append({"case": asdict(result)})

    def close(self, scan: str, left_out: list[dict[str, Any]]) -> None:
        """Note that all objects of a scan are done, and which of them were left out, and why."""
        self.left_out[scan] = left_out
        self._append({"scan": scan, "left_out": left_out})

    def remove(self) -> None:
        """Delete the file once the results are where they belong."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _entries(self) -> Iterator[dict[str, Any]]:
        """Return what the lines after the first say."""
        yield from ({"case": asdict(result)} for result in self.results.values())
        yield from ({"scan": scan, "left_out": out} for scan, out in self.left_out.items())

    def _take(self, line: str) -> bool:
        """Take what a line says; tell whether it is one that `add` or `close` has written."""
        try:
            entry = parse_json(line)
            if "case" in entry:
                if entry["case"].keys() != _FIELDS:
                    return False
                values = {CASE_KEYS.get(key, key): value for key, value in entry["case"].items()}
                result = parse_case(values)
                self.results[key_of(result)] = result
            else:
                scan, left_out = entry["scan"], entry["left_out"]
                if not isinstance(left_out, list) or not all(isinstance(e, dict) for e in left_out):
                    return False
                self.left_out[str(scan)] = left_out
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        return True

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def key_of(result: CaseResult) -> Key:
    """Return what names a result; no other result of the run has it."""
    return (*result.object, result.repeat)


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a journal that were written to their end."""
    return path.read_text("utf-8", "replace").split("\n")[:-1] if path.exists() else []


def _check(line: str, protocol: Mapping[str, Any], path: Path) -> None:
    """Refuse a journal of another protocol."""
    try:
        found = dict(parse_json(line)["protocol"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must be the journal of an evaluation") from error
    for key, (theirs, ours) in differing(found, protocol).items():
        raise ValueError(
            f"{path} is of an unfinished evaluation with {key} {theirs}, got {ours}; "
            "give the result another name, or --restart to begin anew"
        )
