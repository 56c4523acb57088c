"""What was made of each case: kept from run to run, so that a second run only looks at digests.

While a set is prepared, its records are lines of a journal, one added as each case ends; a run
that is killed leaves it, and the next one goes on from there. Once the set is done, its report
holds the records and the journal is removed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from neurosam3d.data.prepare.problems import NOTES, Kind, Problem
from neurosam3d.data.tree import read_json
from neurosam3d.documents import parse_json
from neurosam3d.volume import Spacing

# Notes on the raw files of a case; duplicates depend on what else is in the tree.
_OWN_NOTES = NOTES - {Kind.DUPLICATE}


@dataclass(frozen=True)
class LabelRecord:
    """A prepared label.

    Args:
        sha256: Digest of the file.
        volume_mm3: Volume of the foreground in cubic millimetres.
    """

    sha256: str
    volume_mm3: float


@dataclass(frozen=True)
class CaseRecord:
    """What was made of one case.

    Args:
        case: Its name.
        source: Digest of what it was made from; "" if it was skipped.
        image_sha256: Digest of the prepared image; "" if there is none.
        content: Digest of the picture.
        spacing: Voxel size in millimetres, axis 0, 1, 2.
        labels: Class -> label, of the classes with at least one voxel.
        empty: The classes without a voxel.
        problems: What was wrong.
    """

    case: str
    source: str = ""
    image_sha256: str = ""
    content: str = ""
    spacing: Spacing = (0.0, 0.0, 0.0)
    labels: Mapping[str, LabelRecord] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_skipped(self) -> bool:
        """Whether nothing could be made of the case."""
        return not self.source

    @property
    def is_empty(self) -> bool:
        """Whether the case is sound and has no voxel of any class, so that nothing is stored."""
        return not self.is_skipped and not self.labels

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for could be made."""
        return not self.is_skipped and all(problem.is_note for problem in self.problems)

    @property
    def _status(self) -> str:
        if self.is_skipped:
            return "skipped"
        return "empty" if self.is_empty else "prepared"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        content: dict[str, Any] = {
            "case": self.case,
            "status": self._status,
            "problems": [problem.to_json() for problem in self.problems],
        }
        if not self.is_skipped:
            content |= {
                "source": self.source,
                "image_sha256": self.image_sha256,
                "content": self.content,
                "spacing": list(self.spacing),
                "labels": {
                    name: {"sha256": label.sha256, "volume": label.volume_mm3}
                    for name, label in self.labels.items()
                },
                "empty": list(self.empty),
            }
        return content

    @classmethod
    def from_json(cls, content: Any) -> Self | None:
        """Read the JSON form of a case; None if it was skipped or the JSON is unfit."""
        try:
            case = str(content["case"])
            problems = [Problem.from_json(problem, case) for problem in content["problems"]]
            d, h, w = (float(step) for step in content["spacing"])
            record = cls(
                case=case,
                source=str(content["source"]),
                image_sha256=str(content["image_sha256"]),
                content=str(content["content"]),
                spacing=(d, h, w),
                labels={
                    str(name): LabelRecord(str(label["sha256"]), float(label["volume"]))
                    for name, label in content["labels"].items()
                },
                empty=tuple(str(name) for name in content["empty"]),
                problems=tuple(p for p in problems if p.kind in _OWN_NOTES or not p.is_note),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        return None if record.is_skipped else record


@dataclass(frozen=True)
class Journal:
    """Records of a run that has not ended yet, one on a line.

    Args:
        path: The file; it need not exist.
    """

    path: Path

    def append(self, record: CaseRecord) -> None:
        """Add a record."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # The line break comes first: the last line of a run that was killed may lack its end.
            file.write("\n" + json.dumps(record.to_json(), ensure_ascii=False))

    def read(self) -> dict[str, CaseRecord]:
        """Return the complete cases by name."""
        if not self.path.is_file():
            return {}
        text = self.path.read_text(encoding="utf-8", errors="replace")
        return _complete_cases(_parse(map(_parse_line, text.split("\n"))))


def read_records(report: Path) -> dict[str, CaseRecord]:
    """Return the complete cases of a set's report by name; none if there is no usable report.

    Any other case is to be made anew.
    """
    return _complete_cases(read_prepared(report))


def read_prepared(report: Path) -> list[CaseRecord]:
    """Return the cases of a set's report, complete or in part, that were not skipped."""
    try:
        return list(_parse(read_json(report)["cases"]))
    except (KeyError, TypeError, ValueError):
        return []


def _parse(entries: Iterable[Any]) -> Iterator[CaseRecord]:
    return (record for entry in entries if (record := CaseRecord.from_json(entry)))


def _complete_cases(records: Iterable[CaseRecord]) -> dict[str, CaseRecord]:
    return {record.case: record for record in records if record.is_complete}


def _parse_line(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return None  # the end of a run that was killed
