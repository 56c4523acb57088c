"""Verify one prepared image and its labels: that they are whole, match, and are as indexed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isclose
from pathlib import Path

from neurosam3d.data.case import Case
from neurosam3d.data.prepare.convert import voxel_mm3
from neurosam3d.data.prepare.fingerprint import file_sha256, hash_content
from neurosam3d.data.prepare.problems import CaseError, Kind, Problem, kind_of
from neurosam3d.volume import Grid, Volume, read_grid, read_volume

_LABELS_PER_JOB = 16  # so that one image with hundreds of classes keeps all workers busy
_RELATIVE = 1e-3  # by which volumes and spacings in old indexes may be rounded


@dataclass(frozen=True)
class ImageJob:
    """Some labels of one image to check, and maybe the image itself.

    Args:
        labels: Index entries of the labels; all of one image.
        entries: All index entries of the image, if it is to be checked itself; else none.
    """

    labels: tuple[Case, ...]
    entries: tuple[Case, ...]


def plan_jobs(cases: Iterable[Case]) -> list[ImageJob]:
    """Divide entries into jobs of one image and a few labels; every file is in one of them."""
    jobs = []
    in_order = sorted(cases, key=lambda case: case.image)
    for _, group in groupby(in_order, key=lambda case: case.image):
        found = tuple(group)
        for first in range(0, len(found), _LABELS_PER_JOB):
            labels = found[first : first + _LABELS_PER_JOB]
            jobs.append(ImageJob(labels, entries=() if first else found))
    return jobs


def check_files(job: ImageJob) -> tuple[Problem, ...]:
    """Check the files of a job and return what is wrong.

    Entries without digests, which older preparations wrote, are checked by content alone.
    """
    problems = list(_check_image(job.entries)) if job.entries else []
    try:
        grid = read_grid(job.labels[0].image)
    except ValueError:
        return tuple(problems)  # the job that reads the image tells what is wrong with it
    return (*problems, *(found for case in job.labels for found in _check_label(case, grid)))


def _read(path: Path, unusable: Kind) -> Volume:
    try:
        volume = read_volume(path)
    except ValueError as error:
        raise CaseError(str(error), kind_of(error, unusable=unusable)) from error
    if volume.data.shape[0] != 1:
        raise CaseError(f"{path} has {volume.data.shape[0]} channels, expected 1", unusable)
    return volume


def _check_image(cases: Sequence[Case]) -> Iterator[Problem]:
    first = cases[0]
    try:
        image = _read(first.image, Kind.BAD_IMAGE)
    except CaseError as error:
        yield _problem(error.kind, str(error), first)
        return
    changed = list(_check_digest(first.image, _named(cases, "image_sha256"), first))
    yield from changed
    if not changed:
        for content in _named(cases, "content") - {hash_content(image)}:
            sentence = f"{first.image} has another content than the index says, {content}"
            yield _problem(Kind.WRONG_ENTRY, sentence, first)
    for spacing in sorted({case.spacing for case in cases}):
        if not _is_close(image.spacing, spacing):
            sentence = f"{first.image} has spacing {image.spacing} mm, the index says {spacing}"
            yield _problem(Kind.WRONG_ENTRY, sentence, first)


def _check_label(case: Case, grid: Grid) -> Iterator[Problem]:
    try:
        label = _read(case.label, Kind.BAD_LABEL)
    except CaseError as error:
        yield _problem(error.kind, str(error), case)
        return
    yield from _check_digest(case.label, _named([case], "label_sha256"), case)
    if not label.grid.same_as(grid):
        sentence = f"{case.label} does not lie on the grid of {case.image}"
        yield _problem(Kind.OFF_GRID, sentence, case)
    num_ones = int((label.data == 1).count_nonzero())
    if num_ones != int(label.data.count_nonzero()):
        yield _problem(Kind.BAD_LABEL, f"{case.label} holds values other than 0 and 1", case)
    volume = num_ones * voxel_mm3(grid)
    if not num_ones:
        yield _problem(Kind.BAD_LABEL, f"{case.label} has no voxel of its class", case)
    elif not isclose(volume, case.volume_mm3, rel_tol=_RELATIVE):
        sentence = f"{case.label} measures {volume:.1f} mm^3, the index says {case.volume_mm3}"
        yield _problem(Kind.WRONG_ENTRY, sentence, case)


def _check_digest(path: Path, expected: set[str], case: Case) -> Iterator[Problem]:
    if expected - {file_sha256(path)}:
        yield _problem(Kind.CHANGED, f"{path} is not the file that was prepared", case)


def _named(cases: Sequence[Case], key: str) -> set[str]:
    """What the entries say under a key that older ones do not have."""
    return {str(case.extra[key]) for case in cases if key in case.extra}


def _is_close(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(isclose(x, y, rel_tol=_RELATIVE) for x, y in zip(a, b, strict=True))


def _problem(kind: Kind, sentence: str, case: Case) -> Problem:
    return Problem(kind, sentence, case.case_id)
