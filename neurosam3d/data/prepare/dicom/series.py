"""List a raw folder of DICOM image series and their DICOM-SEG and RTSTRUCT files.

A label file belongs to the image series that it names, else to the one whose images it refers to,
else to the only one in the same space (frame of reference). Segments of one file that share a name
make up one class. A class that a second file gives for the same image is left out.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from neurosam3d.data.prepare.case_names import part_same_names
from neurosam3d.data.prepare.dicom.dataset import LABEL_CLASSES, sniff_class
from neurosam3d.data.prepare.dicom.scan import (
    LabelFile,
    Series,
    find_instances,
    scan_dicom,
    walk_folders,
)
from neurosam3d.data.prepare.labels import Values
from neurosam3d.data.prepare.listing import Listing, RawItem
from neurosam3d.data.prepare.problems import CaseError, Kind, Problem, kind_of
from neurosam3d.data.tree import folder_name
from neurosam3d.volume_io.errors import VolumeFileError

_SET = "Tr"  # DICOM knows no sets
_MODALITIES = {"MR": "MRI", "PT": "PET"}


def holds_dicom_labels(raw: Path) -> bool:
    """Tell whether a raw folder holds a DICOM-SEG or RTSTRUCT file; stops at the first."""
    return any(
        sniff_class(file) in LABEL_CLASSES for _, files in walk_folders(raw) for file in files
    )


def list_dicom(raw: Path, *, name: str, channel: int = 0, threshold: float = 0.5) -> Listing:
    """List the DICOM image series below a folder that have a label, all as the set Tr.

    A case is called after its patient; where a patient has several series with labels, their
    folders tell them apart. Of a folder with several series the longest is listed, which is the
    one that is read.

    Args:
        raw: The folder.
        name: What to call the dataset.
        channel: Which channel of multi-channel images to store.
        threshold: Share of the largest value that the voxels of a fractional segment have at least.

    Returns:
        The listing; labels without image and images without label are among its problems.

    Raises:
        MissingExtraError: If pydicom is not installed.
    """
    raw = raw.absolute()
    scan = scan_dicom(raw)
    pairs, astray = _pair(scan.labels, scan.series)
    items, left_out = _list_items(pairs, raw=raw, channel=channel, threshold=threshold)
    kept, same_names = part_same_names(items)
    problems = (*scan.problems, *astray, *left_out, *_unlabelled(scan.series, pairs), *same_names)
    modalities = tuple(sorted({item.modality for item in kept})) or ("unknown",)
    if len(modalities) == 1:  # what the dataset says of all its images
        kept = tuple(replace(item, modality="") for item in kept)
    return Listing(
        name=name,
        modality=modalities,
        labels=_table(kept),
        items={_SET: kept} if kept else {},
        root=raw.parent,
        problems={_SET: problems} if problems else {},
        raw_folder=raw.name,
    )


Pairs = list[tuple[Series, LabelFile]]


def _pair(labels: Sequence[LabelFile], series: Sequence[Series]) -> tuple[Pairs, list[Problem]]:
    """Find the image series of every label file, and say of which there is none."""
    pairs, problems = [], []
    for label in labels:
        try:
            pairs.append((_find_series(label, series), label))
        except (CaseError, VolumeFileError) as error:
            problems.append(Problem(kind_of(error, unusable=Kind.BAD_LABEL), str(error)))
    return pairs, problems


def _find_series(label: LabelFile, series: Sequence[Series]) -> Series:
    found = [one for one in series if one.uid in label.series]
    if len(found) != 1:
        instances = find_instances(label)
        shared = [(len(instances & one.instances), one) for one in found or series]
        most = max((count for count, _ in shared), default=0)
        found = [one for count, one in shared if count == most > 0] or found
    if not found:
        found = [one for one in series if one.is_read and one.frame in label.frames - {""}]
    if not found:
        raise CaseError(f"{label.path} refers to no image series of the raw folder", Kind.NO_IMAGE)
    if len(found) > 1:
        folders = " and ".join(str(one.folder) for one in found)
        raise CaseError(f"{label.path} may belong to several series: {folders}", Kind.NO_IMAGE)
    if not found[0].is_read:
        raise CaseError(
            f"{label.path} refers to the series {found[0].uid}, but the longest series of a folder "
            f"is read; move it out of {found[0].folder} into a folder of its own",
            Kind.NO_IMAGE,
        )
    return found[0]


def _list_items(
    pairs: Pairs, *, raw: Path, channel: int, threshold: float
) -> tuple[list[RawItem], list[Problem]]:
    """List every class of every image, and the classes that cannot be."""
    items: dict[tuple[Path, str], RawItem] = {}
    problems: list[Problem] = []
    cases = _name_cases({series.folder: series for series, _ in pairs}, raw)
    for series, label in pairs:
        item = RawItem(
            image=series.folder,
            seg=label.path,
            values=(),
            class_name="",
            case=cases[series.folder],
            patient=_patient(series, raw),
            channel=channel,
            threshold=threshold if label.is_fractional else None,
            modality=_MODALITIES.get(series.modality, series.modality or "unknown"),
        )
        classes = _classes(label)
        problems.extend(Problem(Kind.BAD_LABEL, sentence, item.case) for sentence in classes[1])
        for class_name, values in classes[0].items():
            entry = replace(item, values=values, class_name=class_name)
            first = items.setdefault((item.image, class_name), entry)
            if first is not entry:
                sentence = (
                    f"{label.path} gives {class_name} of {item.image} again, {first.seg} counts"
                )
                problems.append(Problem(Kind.BAD_LABEL, sentence, item.case))
    return sorted(items.values(), key=lambda item: item.image), problems


def _classes(label: LabelFile) -> tuple[dict[str, Values], list[str]]:
    """Return class -> segment numbers of a file, and a sentence for each unfit name."""
    numbers: dict[str, list[int]] = defaultdict(list)
    unfit = [] if label.names else [f"{label.path} holds no segments"]
    for number, name in label.names.items():
        try:
            numbers[folder_name(name)].append(number)
        except ValueError as error:
            unfit.append(f"segment {number} of {label.path} is left out: {error}")
    return {name: tuple(found) for name, found in numbers.items()}, unfit


def _patient(series: Series, raw: Path) -> str:
    """Return the patient's identifier, else the name of the patient's folder below the raw one."""
    if any(map(str.isalnum, series.patient)):
        return series.patient
    return [*series.folder.relative_to(raw).parts, raw.name][0]


def _name_cases(series: Mapping[Path, Series], raw: Path) -> dict[Path, str]:
    """Name the images after their patients; where that is not enough, after their folders, too."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for folder, one in series.items():
        folders[_patient(one, raw)].append(folder)
    names = {}
    for patient, found in folders.items():
        num_shared = len(Path(os.path.commonpath(found)).parts)
        for folder in found:
            own = [] if len(found) == 1 else folder.parts[num_shared:] or [folder.name]
            names[folder] = folder_name("_".join([patient, *own]))
    return names


def _unlabelled(series: Sequence[Series], pairs: Pairs) -> Iterator[Problem]:
    labelled = {one.folder for one, _ in pairs}
    for one in series:
        if one.is_read and one.folder not in labelled:
            sentence = f"no DICOM-SEG or RTSTRUCT file belongs to the series in {one.folder}"
            yield Problem(Kind.NO_LABEL, sentence)


def _table(items: Sequence[RawItem]) -> dict[Values, str]:
    """Return segment numbers -> class where all files agree, else nothing: items name theirs."""
    pairs = {(item.values, item.class_name) for item in items}
    table = dict(sorted(pairs))
    return table if len(table) == len(pairs) == len({name for _, name in pairs}) else {}
