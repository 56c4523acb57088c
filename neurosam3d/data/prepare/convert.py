"""Prepare one case: store its image, and one binary label per class on the image's grid.

Every raw file is read once. Labels come first: an image without any class is not stored.
"""

import errno
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from neurosam3d.data.case import Case
from neurosam3d.data.prepare.fingerprint import file_sha256, hash_content, hash_source
from neurosam3d.data.prepare.image_file import RawImage, read_image, store_image
from neurosam3d.data.prepare.label_file import find_unclaimed, read_labels
from neurosam3d.data.prepare.problems import Kind, Problem, kind_of
from neurosam3d.data.prepare.raw_item import RawItem
from neurosam3d.data.prepare.record import CaseRecord, LabelRecord
from neurosam3d.data.tree import Tree
from neurosam3d.volume import Grid, Volume, write_volume

_VALUES_NAMED = 3  # of those that no class has


@dataclass(frozen=True)
class CaseJob:
    """What to prepare: every class of one image.

    Args:
        tree: Where the prepared files go.
        name: Name of the dataset.
        set_name: Tr, Val or Ts.
        items: The classes; all of one image.
        modality: What the images of the dataset are.
        known: What an earlier run made of the case.
    """

    tree: Tree
    name: str
    set_name: str
    items: tuple[RawItem, ...]
    modality: tuple[str, ...]
    known: CaseRecord | None = None

    @property
    def case(self) -> str:
        """Name of the case."""
        return self.items[0].case

    @property
    def image(self) -> Path:
        """Where the image is stored."""
        return self.tree.image(self.name, self.set_name, self.case)

    def label(self, class_name: str) -> Path:
        """Return where the label of a class is stored."""
        return self.tree.label(self.name, self.set_name, class_name, self.case)

    def digests(self, record: CaseRecord) -> dict[Path, str]:
        """Return the files that a record of the case speaks of, with their SHA-256."""
        labels = {self.label(name): label.sha256 for name, label in record.labels.items()}
        return {self.image: record.image_sha256, **labels} if labels else {}


@dataclass(frozen=True)
class CaseResult:
    """What became of a job.

    Args:
        record: What was made of the case.
        is_kept: Whether all of it was there already.
    """

    record: CaseRecord
    is_kept: bool = False


def voxel_mm3(grid: Grid) -> float:
    """Volume of one voxel in cubic millimetres."""
    return abs(float(np.linalg.det(grid.affine[:3, :3])))


def prepare_case(job: CaseJob) -> CaseResult:
    """Write what a case still lacks; a broken case is reported, not raised.

    A file that an earlier run has made is kept if its bytes are still those that were written, and
    it was made from the same raw files in the same way.

    Raises:
        OSError: If files cannot be written, which no other case would survive either.
    """
    try:
        source = hash_source(job.items)
        known = job.known if job.known and job.known.source == source else None
        digests = job.digests(known) if known else {}
        whole = {path: digest for path, digest in digests.items() if _is_file(path, digest)}
        if known and whole == digests:
            return CaseResult(known, is_kept=True)
        return CaseResult(_prepare(job, source, whole))
    except ValueError as error:
        return CaseResult(_skipped(job, {error: kind_of(error)}))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return CaseResult(_skipped(job, {error: Kind.BAD_NAME}))


def index_cases(job: CaseJob, record: CaseRecord) -> list[Case]:
    """Return the index entries of a case: one per class with at least one voxel."""
    modality = job.items[0].modality
    extra = {
        "dataset": job.name,
        "case": job.case,
        "modality": [modality] if modality else list(job.modality),
        "image_sha256": record.image_sha256,
        "content": record.content,
    }
    return [
        Case(
            image=job.image,
            label=job.label(item.class_name),
            class_name=item.class_name,
            volume_mm3=record.labels[item.class_name].volume_mm3,
            spacing=record.spacing,
            patient=item.patient,
            extra={**extra, "label_sha256": record.labels[item.class_name].sha256},
        )
        for item in job.items
        if item.class_name in record.labels
    ]


@dataclass(frozen=True)
class _Classes:
    """What became of the classes of one label file.

    Args:
        names: The classes.
        labels: Those with at least one voxel.
        problems: Notes on how the file was read.
        unclaimed: Label values of no class, with their numbers of voxels.
        error: What kept it from being read.
    """

    names: tuple[str, ...]
    labels: Mapping[str, LabelRecord] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    unclaimed: Mapping[int, int] = field(default_factory=dict)
    error: ValueError | None = None


def _prepare(job: CaseJob, source: str, whole: Mapping[Path, str]) -> CaseRecord:
    """Make a case anew, less the files that are whole (path -> SHA-256)."""
    image = read_image(job.items[0].image, job.items[0].channel)
    parts = [
        _make_labels(job, seg, tuple(items), image.volume.grid, whole)
        for seg, items in groupby(sorted(job.items, key=_label_file), key=_label_file)
    ]
    labels = {name: label for part in parts for name, label in part.labels.items()}
    errors = [part.error for part in parts if part.error]
    if not labels:
        job.image.unlink(missing_ok=True)
        if errors:
            return _skipped(job, {e: kind_of(e, unusable=Kind.BAD_LABEL) for e in errors})
    empty = [n for part in parts if not part.error for n in part.names if n not in labels]
    problems = [*image.problems, *(problem for part in parts for problem in _problems(job, part))]
    problems += _note_unclaimed(parts)
    if empty:
        problems.append(Problem(Kind.EMPTY_CLASS, f"no voxel of {', '.join(empty)}"))
    return CaseRecord(
        case=job.case,
        source=source,
        image_sha256=_keep_or_store(image, job.image, whole) if labels else "",
        content=hash_content(image.volume) if labels else "",
        spacing=image.volume.spacing,
        labels=labels,
        empty=tuple(empty),
        problems=tuple(replace(problem, case=job.case) for problem in problems),
    )


def _make_labels(
    job: CaseJob,
    file: tuple[Path, float],
    items: tuple[RawItem, ...],
    grid: Grid,
    whole: Mapping[Path, str],
) -> _Classes:
    """Write the labels of one file's classes; a class without a voxel gets none."""
    names = tuple(item.class_name for item in items)
    try:
        found = read_labels(file[0], grid, threshold=items[0].threshold)
    except ValueError as error:
        return _Classes(names, error=error)
    labels = {}
    for item in items:
        path = job.label(item.class_name)
        values = None if item.binary else item.values
        if num_voxels := found.count(values):
            if path not in whole:
                write_volume(Volume(found.mask(values), grid.affine), path)
            digest = whole.get(path) or file_sha256(path)
            volume = round(num_voxels * voxel_mm3(grid), 6)
            labels[item.class_name] = LabelRecord(digest, volume)
        else:
            path.unlink(missing_ok=True)
    is_binary = any(item.binary for item in items)
    claimed = (value for item in items for value in item.values)
    unclaimed = {} if is_binary else find_unclaimed(found, claimed)
    return _Classes(names, labels, found.problems, unclaimed)


def _label_file(item: RawItem) -> tuple[Path, float]:
    """What is read once: a label file, and how fractions in it are understood."""
    return item.seg, -1.0 if item.threshold is None else item.threshold


def _keep_or_store(image: RawImage, path: Path, whole: Mapping[Path, str]) -> str:
    return whole.get(path) or store_image(image, path)


def _problems(job: CaseJob, part: _Classes) -> tuple[Problem, ...]:
    if part.error is None:
        return part.problems
    sentence = f"{job.case} is without {', '.join(part.names)}: {part.error}"
    return (Problem(kind_of(part.error, unusable=Kind.BAD_LABEL), sentence),)


def _note_unclaimed(parts: Iterable[_Classes]) -> Iterator[Problem]:
    """Note the label values that no class has, in one sentence for all files of a case."""
    numbers: Counter[int] = Counter()
    for part in parts:
        numbers.update(part.unclaimed)
    if numbers:
        named = [f"{value} ({numbers[value]} voxels)" for value in sorted(numbers)[:_VALUES_NAMED]]
        more = len(numbers) - len(named)
        values = ", ".join(named) + (f" and {more} more" if more else "")
        does = "value {} has" if len(numbers) == 1 else "values {} have"
        yield Problem(Kind.NO_CLASS, f"{does.format(values)} no class")


def _is_file(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _skipped(job: CaseJob, errors: Mapping[Exception, Kind]) -> CaseRecord:
    problems = (
        Problem(kind, f"{job.case} is skipped: {error}", job.case) for error, kind in errors.items()
    )
    return CaseRecord(job.case, problems=tuple(problems))
