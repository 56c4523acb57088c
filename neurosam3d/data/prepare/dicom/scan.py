"""Find the image series and the label files below a folder, by the headers of its DICOM files."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neurosam3d.data.prepare.dicom.dataset import (
    FRACTIONAL,
    LABEL_CLASSES,
    naming_gaps,
    read_dataset,
    sniff_class,
)
from neurosam3d.data.prepare.dicom.labels import segment_names
from neurosam3d.data.prepare.problems import CaseError, Kind, Problem, kind_of
from neurosam3d.data.prepare.raw_item import VOLUME_SUFFIXES
from neurosam3d.volume_io.errors import VolumeFileError

if TYPE_CHECKING:
    from pydicom import Dataset

_OF_IMAGES = (
    *("SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "Modality", "Rows"),
)
_OF_LABELS = (
    *("SOPClassUID", "SegmentationType", "SegmentSequence", "StructureSetROISequence"),
    *("FrameOfReferenceUID", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"),
)
# Where references to images lie, in either kind of label file.
_REFERENCES = (
    *("ReferencedSeriesSequence", "ReferencedInstanceSequence", "SourceImageSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("DerivationImageSequence", "ReferencedFrameOfReferenceSequence"),
    *("RTReferencedStudySequence", "RTReferencedSeriesSequence", "ContourImageSequence"),
    *("ROIContourSequence", "ContourSequence"),
)


@dataclass(frozen=True)
class Series:
    """The files of one image series in one folder.

    Args:
        folder: Where they lie.
        uid: The series' identifier.
        patient: The patient's; "" where the headers do not tell.
        modality: What the images are, for example "CT".
        frame: Identifier of the space that the images lie in; "" if unknown.
        instances: Identifiers of the images.
        is_read: Whether `read_volume` reads this series from the folder: it is the longest.
    """

    folder: Path
    uid: str
    patient: str
    modality: str
    frame: str
    instances: frozenset[str]
    is_read: bool


@dataclass(frozen=True)
class LabelFile:
    """A DICOM-SEG or RTSTRUCT file.

    Args:
        path: The file.
        names: Number -> name, as stored, of its segments.
        is_fractional: Whether its voxels are fractions.
        series: Identifiers of the image series it refers to.
        frames: Identifiers of the spaces it lies in.
    """

    path: Path
    names: Mapping[int, str]
    is_fractional: bool
    series: frozenset[str]
    frames: frozenset[str]


@dataclass(frozen=True)
class Scan:
    """What lies below a folder.

    Args:
        series: Image series, in the order of their folders.
        labels: Label files, in the order of their paths.
        problems: What could not be read.
    """

    series: tuple[Series, ...]
    labels: tuple[LabelFile, ...]
    problems: tuple[Problem, ...]


def walk_folders(raw: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield every visible folder, links included, with the files that may be DICOM."""
    seen = set()
    for name, folders, files in os.walk(raw, followlinks=True):
        place = os.path.realpath(name)
        if place in seen:  # a link to a folder above would never end
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        visible = sorted(file for file in files if not file.startswith("."))
        paths = [Path(name, file) for file in visible]
        yield Path(name), [p for p in paths if not p.name.lower().endswith(VOLUME_SUFFIXES)]


def scan_dicom(raw: Path) -> Scan:
    """Read the headers of all DICOM files below a folder.

    A damaged file in a folder of images is left for the reading of that folder to say.

    Raises:
        MissingExtraError: If pydicom is not installed.
    """
    series: list[Series] = []
    labels: list[LabelFile] = []
    problems: list[Problem] = []
    for folder, files in walk_folders(raw):
        images: list[Dataset] = []
        damaged: list[Problem] = []
        for file in files:
            sop_class = sniff_class(file)
            is_label = sop_class in LABEL_CLASSES
            try:
                if is_label:
                    labels.append(_read_label(file))
                elif sop_class or file.suffix.lower() == ".dcm":
                    images.append(read_dataset(file, tags=_OF_IMAGES))
            except (VolumeFileError, CaseError) as error:
                problem = Problem(kind_of(error, unusable=Kind.BAD_LABEL), str(error))
                (problems if is_label else damaged).append(problem)
        found = _group(folder, images)
        series.extend(found)
        if not found:
            problems.extend(damaged)
        elif not any(one.is_read for one in found):
            sentence = f"{folder} holds DICOM series of one length, give each a folder of its own"
            problems.append(Problem(Kind.BAD_IMAGE, sentence))
    return Scan(tuple(series), tuple(labels), tuple(problems))


def find_instances(label: LabelFile) -> frozenset[str]:
    """Return the identifiers of all images that a label file refers to.

    Raises:
        VolumeFileError: If the file cannot be read.
    """
    dataset = read_dataset(label.path, tags=_REFERENCES)
    return frozenset(_collect(dataset, "ReferencedSOPInstanceUID"))


def _group(folder: Path, images: Sequence["Dataset"]) -> list[Series]:
    """Group the images of one folder by series."""
    groups: dict[str, list[Dataset]] = defaultdict(list)
    for image in images:
        if "Rows" in image:  # reports and plans have none
            groups[str(image.get("SeriesInstanceUID", ""))].append(image)
    lengths = sorted(map(len, groups.values()), reverse=True)
    return [
        Series(
            folder=folder,
            uid=uid,
            patient=str(group[0].get("PatientID") or "").strip(),
            modality=str(group[0].get("Modality") or ""),
            frame=str(group[0].get("FrameOfReferenceUID") or ""),
            instances=frozenset(str(image.get("SOPInstanceUID", "")) for image in group),
            is_read=len(group) == lengths[0] and lengths.count(lengths[0]) == 1,
        )
        for uid, group in groups.items()
    ]


def _read_label(path: Path) -> LabelFile:
    header = read_dataset(path, tags=_OF_LABELS)
    with naming_gaps(path):
        frames = _collect(header, "FrameOfReferenceUID")
        return LabelFile(
            path=path,
            names=segment_names(header, path),
            is_fractional=header.get("SegmentationType") == FRACTIONAL,
            series=frozenset(_collect(header, "SeriesInstanceUID")),
            frames=frozenset(frames),
        )


def _collect(dataset: "Dataset", keyword: str) -> set[str]:
    """Return the values of an element in a header and in all references within it."""
    found = {str(dataset[keyword].value)} if keyword in dataset else set()
    for name in _REFERENCES:
        for item in dataset.get(name) or ():
            found |= _collect(item, keyword)
    return found
