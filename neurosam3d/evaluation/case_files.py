"""Scans to judge a predictor on, and the files that hold their truth.

Plain folders are listed here; what `data.py` has prepared is known to the data room alone. For the
set Ts these layouts are found, below a folder or one level deeper, where a folder is a data set:

    imagesTs/CASE.nii.gz  labelsTs/CASE.nii.gz       Medical Segmentation Decathlon and the like
    imagesTs/CASE_0000.nii.gz  labelsTs/CASE.nii.gz  nnU-Net, a file per channel
    images/CASE.nii.gz    labels/CASE.nii.gz
    CLASS/DATASET/imagesTs/CASE.nii.gz  ...          SAM-Med3D: the labels are masks of the class

A `dataset.json` beside them names the values of the labels.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurosam3d.documents import parse_json
from neurosam3d.volume_io import READABLE

logger = logging.getLogger(__name__)

Classes = Mapping[str, tuple[int, ...]]

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
_LAYOUTS = (
    "images{0} and labels{0}, images and labels, <dataset>/images{0} and labels{0}, or "
    "<class>/<dataset>/images{0} and labels{0}"
)


@dataclass(frozen=True)
class LabelFile:
    """A file that says where objects are.

    Args:
        path: The file.
        mask_of: Class of the one object that the file is a mask of, everything above 0; empty for
            a label map, which has an object per value.
        classes: Class -> values of a label map that make it up. Another value is a class of its
            own, `label_<value>`.
    """

    path: Path
    mask_of: str = ""
    classes: Classes = field(default_factory=dict)


@dataclass(frozen=True)
class Scan:
    """An image and what is known of the objects in it.

    Args:
        dataset: Name of the data set.
        set_name: Which part of it: Tr, Val or Ts.
        case: Name of the scan, its own in the data set.
        image: Path of the image.
        labels: The files with its truth.
        channel: Which channel of an image with several.
    """

    dataset: str
    set_name: str
    case: str
    image: Path
    labels: tuple[LabelFile, ...]
    channel: int = 0

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> "Scan":
        """Return a scan with a mask per class, as the data room describes it in plain text.

        Args:
            entry: `dataset`, `set`, `case`, `image` and `labels`, class -> path.
        """
        labels = (LabelFile(Path(path), name) for name, path in entry["labels"].items())
        return cls(
            entry["dataset"], entry["set"], entry["case"], Path(entry["image"]), tuple(labels)
        )


def list_folder(
    images: Path, *, labels: Path | None = None, set_name: str = "Ts", channel: int = 0
) -> list[Scan]:
    """List the scans of plain folders, in the order of their names.

    Args:
        images: A folder of one of the layouts above; with `labels`, the images themselves: their
            folder, or one file.
        labels: The label files: their folder, or one file.
        set_name: Tr, Val or Ts.
        channel: Which channel of images with several, in one file or in files `_0000`, `_0001`.

    Raises:
        ValueError: If there is no such folder, it has none of the layouts, or no image in it has a
            label.
    """
    for path in (images, labels):
        if path is not None and not path.exists():
            raise ValueError(f"scans to evaluate must lie in an existing folder, got {path}")
    places = list(_find_places(images, set_name)) if labels is None else [(images, labels, "")]
    if not places:
        raise ValueError(
            f"{images} must hold a prepared tree or one of the layouts "
            f"{_LAYOUTS.format(set_name)}; other folders need --labels, too"
        )
    scans = []
    for image_place, label_place, mask_of in places:
        table = label_place.parent / "dataset.json"
        classes = read_classes(table) if table.is_file() else {}
        for case, image, label in _pair(image_place, label_place, channel=channel):
            file = LabelFile(label, "" if classes else mask_of, classes)
            scans.append(Scan(_dataset_name(image_place), set_name, case, image, (file,), channel))
    return keep_apart(scans)


def keep_apart(scans: Sequence[Scan]) -> list[Scan]:
    """Number the cases that would otherwise have one name in the results and one set of files."""
    taken: set[tuple[str, ...]] = set()
    parted = []
    for scan in scans:
        case, number = scan.case, 1
        while taken & (names := _names(scan, case)):
            number += 1
            case = f"{scan.case}_{number}"
        taken |= names
        parted.append(replace(scan, case=case))
    return parted


def read_classes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the classes of a `dataset.json`, of nnU-Net or the Medical Segmentation Decathlon.

    Returns:
        Class -> its values; without background and nnU-Net's ignore label.

    Raises:
        ValueError: If the file is not JSON or its labels are neither form.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
        labels = content["labels"]
        values: dict[str, list[int]] = {}
        for key, value in labels.items():
            # The Decathlon maps values to names, nnU-Net names to a value or, of regions, several.
            name, numbers = (value, [key]) if isinstance(value, str) else (key, value)
            numbers = numbers if isinstance(numbers, list) else [numbers]
            values.setdefault(str(name), []).extend(map(int, numbers))
    except (ValueError, KeyError, OverflowError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} must hold "labels" as {{"liver": 1}} or {{"1": "liver"}}, but: {error!r}'
        ) from error
    return {
        name: tuple(sorted({n for n in numbers if n != 0}))
        for name, numbers in values.items()
        if name != "ignore" and any(numbers)
    }


def _names(scan: Scan, case: str) -> set[tuple[str, ...]]:
    """Return what must be a scan's own: its name in every class that is known beforehand."""
    return {(scan.dataset, scan.set_name, file.mask_of, case) for file in scan.labels}


def _find_places(root: Path, set_name: str) -> Iterator[tuple[Path, Path, str]]:
    """Yield folders of images and labels below a root, and the class that its masks are of."""
    for suffix in (set_name, ""):
        found = False
        for pattern in ("", "*/", "*/*/"):
            for images in sorted(root.glob(f"{pattern}images{suffix}")):
                labels = images.with_name(f"labels{suffix}")
                if images.is_dir() and labels.is_dir():
                    found = True
                    yield images, labels, images.parents[1].name if pattern == "*/*/" else ""
        if found:
            return


def _dataset_name(images: Path) -> str:
    """Name a data set after the folder that holds its images, as far as that says anything."""
    folder = images.absolute() if images.is_dir() else images.absolute().parent
    return (folder.parent if folder.name.startswith("images") else folder).name or "data"


def _pair(images: Path, labels: Path, *, channel: int) -> list[tuple[str, Path, Path]]:
    """Return case, image and label of every image that has a label.

    Raises:
        ValueError: If none has.
    """
    if images.is_file() and labels.is_file():
        return [(_stem(images), images, labels)]
    label_files = {_stem(path): path for path in _list_volumes(labels)}
    pairs, without = [], []
    for image in _list_volumes(images):
        stem = _stem(image)
        match = _CHANNEL.fullmatch(stem)
        if stem in label_files:
            pairs.append((stem, image, label_files[stem]))
        elif match is None or match["case"] not in label_files:
            without.append(image.name)
        elif int(match["channel"]) == channel:
            pairs.append((match["case"], image, label_files[match["case"]]))
    if not pairs:
        raise ValueError(f"an image of {images} must have a label of its name in {labels}")
    _warn(f"images of {images} have no label in {labels}", without)
    used = {label for _, _, label in pairs}
    unused = [path.name for path in label_files.values() if path not in used]
    _warn(f"labels of {labels} have no image in {images}", unused)
    return pairs


def _warn(fact: str, names: Sequence[str]) -> None:
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        logger.warning("%d %s: %s", len(names), fact, shown)


def _list_volumes(place: Path) -> list[Path]:
    """List the volume files of a folder, and those of its folders that may be DICOM series."""
    if place.is_file():
        return [place]
    entries = sorted(path for path in place.iterdir() if not path.name.startswith("."))
    return [path for path in entries if path.is_dir() or path.name.lower().endswith(READABLE)]


def _stem(path: Path) -> str:
    """Return a file's name without the suffix of a volume."""
    suffix = next((s for s in READABLE if path.name.lower().endswith(s)), "")
    return path.name[: len(path.name) - len(suffix)]
