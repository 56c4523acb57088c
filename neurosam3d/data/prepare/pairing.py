"""Find the images of a raw folder and the labels that belong to them.

Where files lie is written as a template below the raw folder: "imagesTr/{case}.nii.gz" and
"labelsTr/{case}.nii.gz". Every placeholder stands for part of one file or folder name; those of
the image fill the label's. `{ext}` stands for the suffix of any readable volume, and `{class}`,
left open in a label's template, makes one label file per class.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from neurosam3d.data.prepare.labels import LabelTable, Values, parse_labels
from neurosam3d.data.prepare.listing import VOLUME_SUFFIXES, RawItem
from neurosam3d.data.tree import folder_name

logger = logging.getLogger(__name__)

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SUFFIX = "|".join(re.escape(suffix) for suffix in VOLUME_SUFFIXES)


@dataclass(frozen=True)
class Source:
    """Where some images of a dataset lie, and where their labels.

    Args:
        images: Template of the image files.
        label: Template of an image's label file, or of its mask files if it holds `{class}`.
        labels: Label value, or values of a region, -> class name; None for the dataset's table.
            With `{class}` the classes are named by their files and no table is needed.
        case: How the placeholders make up a case's name. Images that share a file name need
            another part in it, for example "{case}{sequence}".
        patient: How they make up a patient's name; empty where the files do not tell.
        exclude: Leave out images whose path below the raw folder holds one of these words.
        channel: Which channel of a multi-channel image to store.
    """

    images: str
    label: str
    labels: LabelTable | None = None
    case: str = "{case}"
    patient: str = ""
    exclude: tuple[str, ...] = ()
    channel: int = 0


def pair_sources(
    root: Path, sources: Sequence[Source], *, labels: LabelTable
) -> tuple[RawItem, ...]:
    """List every class of every image that has a label, in the order of the file names.

    Where two sources name the same class of the same image, the first one counts.

    Args:
        root: The raw folder.
        sources: Where to look.
        labels: The table of sources that bring none of their own.

    Raises:
        ValueError: If a label table is unfit.
    """
    items: dict[tuple[Path, str], RawItem] = {}
    for source in sources:
        unlabelled = 0
        table = parse_labels(labels if source.labels is None else source.labels)
        for image, fields in find_files(root, source.images):
            if any(word in image.relative_to(root).as_posix() for word in source.exclude):
                continue
            found = list(_items(root, source, image, fields, table))
            unlabelled += not found
            for item in found:
                items.setdefault((item.image, item.class_name), item)
        if unlabelled:
            where = root / source.images
            logger.warning("%d images of %s have no label and are left out", unlabelled, where)
    return tuple(items.values())


def find_files(root: Path, template: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield every visible file that fits a template, with what its placeholders stand for.

    Args:
        root: The folder the template starts from.
        template: For example "imagesTr/{case}.nii.gz".
    """
    pattern = re.compile(_regex(template))
    # Neighbouring placeholders make one star: two would search every folder below.
    for path in sorted(root.glob(re.sub(r"(\{\w+\})+", "*", escape(template)))):
        match = pattern.fullmatch(path.relative_to(root).as_posix())
        # Copies made on a Mac carry a hidden "._name" beside every file.
        if match and not path.name.startswith(".") and path.is_file():
            yield path, match.groupdict()


def _regex(template: str) -> str:
    """Regular expression of a template; a placeholder's second use must equal its first."""
    seen: set[str] = set()
    parts = _PLACEHOLDER.split(template)  # text, name, text, name, ..., text
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.escape(part)
        elif part in seen:
            parts[i] = f"(?P={part})"
        else:
            parts[i] = f"(?P<{part}>{_SUFFIX if part == 'ext' else '[^/]*?'})"
            seen.add(part)
    return "".join(parts)


def _fill(template: str, fields: Mapping[str, str]) -> str:
    """Fill the placeholders that are known and keep the others."""
    return _PLACEHOLDER.sub(lambda match: fields.get(match[1], match[0]), template)


def _items(
    root: Path, source: Source, image: Path, fields: Mapping[str, str], table: Mapping[Values, str]
) -> Iterator[RawItem]:
    case = folder_name(_fill(source.case, fields))
    patient = _fill(source.patient, fields) or None
    label = _fill(source.label, fields)
    if "{class}" in label:
        for seg, found in find_files(root, label):
            name = folder_name(found["class"])
            yield RawItem(image, seg, (1,), name, case, patient, source.channel, binary=True)
        return
    seg = root / label
    if seg.is_file():
        for values, name in table.items():
            yield RawItem(image, seg, values, folder_name(name), case, patient, source.channel)
