"""Many scans: which there are in a folder, which objects each has, and one after the other.

Scans are named by their paths below the folder, with or without suffix: `b/scan1.nii.gz` is also
`b/scan1`. A folder of DICOM images is one scan. Results keep the names and the folders.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neurosam3d.inference.named_object import NamedObject, PromptTable
from neurosam3d.inference.scan_segmenter import ScanJob
from neurosam3d.volume_io import READABLE

NPZ = ".npz"  # cases of the CVPR25 challenge bring their own prompts

Outcome = Literal["done", "kept", "failed"]

_SUFFIXES = (*READABLE, NPZ)
_PREAMBLE = 128  # bytes before the mark of a DICOM file


@dataclass(frozen=True)
class Batch:
    """What to do in a folder.

    Args:
        jobs: Scans to segment, by name.
        unknown: Names in the prompts that no scan has.
        unasked: Scans for which there are no prompts.
    """

    jobs: Mapping[str, ScanJob]
    unknown: Sequence[str] = ()
    unasked: Sequence[str] = ()


def list_scans(folder: Path) -> dict[str, Path]:
    """List the scans of a folder and the folders below, by name, in alphabetical order.

    Raises:
        ValueError: If there is none, or the folder is itself a DICOM series.
    """
    scans: dict[str, Path] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(place)
        paths = [here / name for name in sorted(files) if not name.startswith(".")]
        found = [path for path in paths if path.name.lower().endswith(_SUFFIXES)]
        if not found and any(map(_is_dicom, paths)):
            if here == folder:
                raise ValueError(
                    f"{folder} is one DICOM series: its result is a file, for example -o mask.dcm"
                )
            found = [here]
        scans |= {path.relative_to(folder).as_posix(): path for path in found}
    if not scans:
        raise ValueError(f"{folder} must hold scans ({', '.join(_SUFFIXES)}, DICOM), got none")
    return scans


def plan_batch(
    scans: Mapping[str, Path], table: PromptTable | None, output: Path, *, suffix: str = ".nii.gz"
) -> Batch:
    """Give every scan its objects and the file to write.

    Args:
        scans: Scans by name.
        table: Objects by scan; None to look for all that there are.
        output: Folder of the results.
        suffix: What the results end in.

    Raises:
        ValueError: If the prompts name no scans, or two scans would share a result.
    """
    if table is not None and "" in table:
        raise ValueError(
            "prompts for a folder must name the scan of every object, got some without"
        )
    asked = {} if table is None else {_bare(name): objects for name, objects in table.items()}
    if table is not None and len(asked) < len(table):
        raise ValueError("prompts must name every scan in one way, got one with and without suffix")
    jobs, unasked = {}, []
    for name, image in scans.items():
        is_npz = image.name.lower().endswith(NPZ)
        target = output / (_bare(name) + (NPZ if is_npz else suffix))
        if is_npz or table is None:
            jobs[name] = ScanJob(image, target, None)
        elif _bare(name) in asked:
            jobs[name] = ScanJob(image, target, asked[_bare(name)])
        else:
            unasked.append(name)
    _check_targets(jobs)
    known = {_bare(name) for name in scans}
    unknown = [name for name in table or () if _bare(name) not in known]
    return Batch(jobs, unknown, unasked)


def objects_for(table: PromptTable, image: Path) -> Sequence[NamedObject]:
    """Return the objects of one scan: those under its name, or those under none.

    Raises:
        ValueError: If there are none.
    """
    if "" in table:
        return table[""]
    found = [
        objects for name, objects in table.items() if _bare(Path(name).name) == _bare(image.name)
    ]
    if len(found) != 1:
        raise ValueError(
            f"the prompts must name {image.name} once, got {len(found)} times among "
            f"{', '.join(list(table)[:5])}"
        )
    return found[0]


def run_batch(
    jobs: Mapping[str, ScanJob],
    work: Callable[[ScanJob], None],
    *,
    skip_existing: bool = False,
    on_failure: Callable[[str, Exception], None] | None = None,
) -> Iterator[tuple[str, Outcome]]:
    """Do one job after the other; one that fails does not stop the others.

    Args:
        jobs: The jobs, by name.
        work: Does a job.
        skip_existing: Leave out jobs whose result is there.
        on_failure: Is told of a job that failed, and why; without it the error is raised.

    Yields:
        The name of each job and what became of it.
    """
    for name, job in jobs.items():
        if skip_existing and job.output.exists():
            yield name, "kept"
            continue
        try:
            work(job)
        except Exception as error:  # whatever a file or a network can bring up
            if on_failure is None:
                raise
            on_failure(name, error)
            yield name, "failed"
        else:
            yield name, "done"


def _bare(name: str) -> str:
    """Return a scan's name without the suffix of its file."""
    found = [suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)]
    return name[: -len(max(found, key=len))] if found else name


def _check_targets(jobs: Mapping[str, ScanJob]) -> None:
    """Make sure that every scan has a result of its own."""
    seen: dict[Path, str] = {}
    for name, job in jobs.items():
        if job.output in seen:
            raise ValueError(f"{seen[job.output]} and {name} would share the result {job.output}")
        seen[job.output] = name


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
