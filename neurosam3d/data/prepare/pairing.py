"""Pair the images of a raw folder with the labels that belong to them.

Where files lie is written as a template below the raw folder: "imagesTr/{case}.nii.gz" and
"labelsTr/{case}.nii.gz". Every placeholder stands for part of one file or folder name; those of
the image fill the label's. `{ext}` stands for the suffix of any readable volume, which the label
need not share, and `{class}` in a label's template makes one label file per class. An images
template that ends in "/" finds folders, each with one DICOM series.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from neurosam3d.data.prepare.case_names import part_same_names
from neurosam3d.data.prepare.labels import LabelTable, Values, parse_labels
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.prepare.raw_files import Found, RawFiles, fill, placeholders
from neurosam3d.data.prepare.raw_item import RawItem
from neurosam3d.data.tree import folder_name


@dataclass(frozen=True)
class Source:
    """Where some images of a dataset lie, and where their labels.

    Args:
        images: Template of the image files, or, ending in "/", of their DICOM folders.
        label: Template of an image's label file, or of its mask files if it holds `{class}`. A
            placeholder that the image does not fill stands for any text.
        labels: Label value, or values of a region, -> class name; None for the dataset's table.
            With `{class}` the classes are named by their files and no table is needed.
        case: How the placeholders make up a case's name. Images that share a file name need
            another part in it, for example "{case}{sequence}".
        patient: How they make up a patient's name; empty where the files do not tell.
        exclude: Leave out images whose path below the raw folder holds one of these words.
        channel: Which channel of a multi-channel image to store.
        modality: What these images are, in a dataset of several kinds; empty for the dataset's.
        threshold: For label files that hold fractions from 0 to 1: what is at least this much
            belongs to the class. None: they hold integers.

    Raises:
        ValueError: If a template leaves the raw folder, or `case` or `patient` uses a placeholder
            that `images` lacks.
    """

    images: str
    label: str
    labels: LabelTable | None = None
    case: str = "{case}"
    patient: str = ""
    exclude: tuple[str, ...] = ()
    channel: int = 0
    modality: str = ""
    threshold: float | None = None

    def __post_init__(self) -> None:
        for template in (self.images, self.label):
            if template.startswith("/") or ".." in PurePosixPath(template).parts:
                raise ValueError(f"a template starts below the raw folder, got {template!r}")
        known = placeholders(self.images)
        unknown = [name for name in placeholders(self.case + self.patient) if name not in known]
        if unknown:
            raise ValueError(
                f"case and patient are made of placeholders of images, which "
                f"{self.images!r} lacks: {{{unknown[0]}}}"
            )


@dataclass(frozen=True)
class Pairs:
    """What came of pairing.

    Args:
        items: Every class of every image that has a label, in the order of the file names.
        problems: What could not be paired.
    """

    items: tuple[RawItem, ...]
    problems: tuple[Problem, ...]


def list_sources(
    raw: Path,
    name: str,
    *,
    modality: Sequence[str],
    labels: LabelTable,
    sources: Mapping[str, Sequence[Source]],
    release: Mapping[str, Sequence[Source]] = MappingProxyType({}),
) -> Listing:
    """List a raw folder by its templates.

    Args:
        raw: The raw folder.
        name: What to call the dataset.
        modality: What its images are.
        labels: The table of sources that bring none of their own.
        sources: Set (Tr, Val, Ts) -> where its images and labels lie.
        release: Where to look for a set of which `sources` find no image with a label.

    Raises:
        ValueError: If a label table is unfit.
    """
    ways = {name: (sources.get(name, ()), release.get(name, ())) for name in {**sources, **release}}
    pairs = {name: _pair_first(raw, found, labels=labels) for name, found in ways.items()}
    every = [source for found in ways.values() for way in found for source in way]
    tables = {source.label: source.labels for source in every}
    own_tables = {label: table for label, table in tables.items() if table is not None}
    return Listing(
        name=name,
        modality=tuple(modality),
        labels={**labels, **own_tables},
        items={set_name: found.items for set_name, found in pairs.items() if found.items},
        problems={set_name: found.problems for set_name, found in pairs.items() if found.problems},
    )


def _pair_first(root: Path, ways: Sequence[Sequence[Source]], *, labels: LabelTable) -> Pairs:
    """Pair one set in the first way that finds an image with a label.

    So a release and its sorted copy in one folder are not both read.
    """
    problems: tuple[Problem, ...] = ()
    for sources in ways:
        pairs = pair_sources(root, sources, labels=labels)
        if pairs.items:
            return pairs
        problems += pairs.problems
    return Pairs((), problems)


def pair_sources(root: Path, sources: Sequence[Source], *, labels: LabelTable) -> Pairs:
    """Pair the images of one set with their labels.

    Where two sources name the same class of the same image, the first one counts. An image
    without label, a label without image, and images that would share a case name are left out.

    Args:
        root: The raw folder.
        sources: Where to look.
        labels: The table of sources that bring none of their own.

    Raises:
        ValueError: If a label table is unfit.
    """
    files = RawFiles(root)
    items: dict[tuple[Path, str], RawItem] = {}
    images: dict[Path, tuple[str, str]] = {}  # image -> its case, and the label looked for
    used: set[Path] = set()
    for source in sources:
        table = parse_labels(labels if source.labels is None else source.labels)
        found = list(files.find(source.images))
        label_files = _find_labels(files, source, found)
        for image, fields in found:
            wanted = _wanted(source, fields)
            own_labels = [entry for entry in label_files[wanted] if entry[0] != image]
            used.update(seg for seg, _ in own_labels)
            if any(word in image.relative_to(root).as_posix() for word in source.exclude):
                continue
            case = folder_name(fill(source.case, fields))
            images.setdefault(image, (case, wanted))
            for item in _items(source, image, fields, own_labels, table):
                items.setdefault((image, item.class_name), item)
    # Where a template of images fits labels, too, what serves as a label is none of the images.
    images = {image: told for image, told in images.items() if image not in used}
    kept, same_names = part_same_names([i for i in items.values() if i.image in images])
    unlabelled = _unlabelled(images, {image for image, _ in items})
    unused = _unused(files, sources, used | images.keys())
    return Pairs(kept, (*unlabelled, *unused, *same_names))


def _wanted(source: Source, fields: Mapping[str, str]) -> str:
    """The label template with what the image fills in; the suffix of a label is its own."""
    return fill(source.label, {name: text for name, text in fields.items() if name != "ext"})


def _find_labels(
    files: RawFiles, source: Source, images: Sequence[Found]
) -> Mapping[str, list[Found]]:
    """Label files by what is looked for.

    A file that fits two images, such as "s1_b_liver" the cases s1 and s1_b, is the longer's.
    """
    found: dict[str, list[Found]] = defaultdict(list)
    taken: set[Path] = set()
    for wanted in sorted({_wanted(source, fields) for _, fields in images}, key=len, reverse=True):
        found[wanted] = [entry for entry in files.find(wanted) if entry[0] not in taken]
        taken.update(seg for seg, _ in found[wanted])
    return found


def _items(
    source: Source,
    image: Path,
    fields: Mapping[str, str],
    label_files: Sequence[Found],
    table: Mapping[Values, str],
) -> Iterator[RawItem]:
    item = RawItem(
        image=image,
        seg=image,
        values=(1,),
        class_name="",
        case=folder_name(fill(source.case, fields)),
        patient=fill(source.patient, fields) or None,
        channel=source.channel,
        threshold=source.threshold,
        modality=source.modality,
    )
    for seg, found in label_files:
        if "class" in found:
            yield replace(item, seg=seg, class_name=folder_name(found["class"]), binary=True)
            continue
        is_fraction = source.threshold is not None and seg.suffix != ".dcm"
        if not table or (is_fraction and len(table) > 1):
            needed = "a table of one class" if is_fraction else "a table of classes"
            got = ", ".join(table.values()) or "none"
            raise ValueError(f"the label files {source.label} need {needed}, got {got}")
        for values, name in table.items():
            class_name = folder_name(name)
            yield replace(item, seg=seg, values=values, class_name=class_name, binary=is_fraction)


def _unlabelled(images: Mapping[Path, tuple[str, str]], labelled: set[Path]) -> Iterator[Problem]:
    for image, (case, wanted) in images.items():
        if image not in labelled:
            sentence = f"no label belongs to {image}; looked for {wanted}"
            yield Problem(Kind.NO_LABEL, sentence, case)


def _unused(files: RawFiles, sources: Sequence[Source], used: set[Path]) -> Iterator[Problem]:
    """Label files that belong to no image, and folders that hid what is in them."""
    seen = set(used)
    for source in sources:
        for seg, _ in files.find(source.label):
            if seg not in seen:
                seen.add(seg)
                sentence = f"no image belongs to {seg}; looked for {source.images}"
                yield Problem(Kind.NO_IMAGE, sentence)
    for folder in files.unreadable:
        yield Problem(Kind.NO_PERMISSION, f"no permission to read the folder {folder}")
