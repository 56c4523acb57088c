"""BIDS: images in sub-*/[ses-*/]<datatype>, labels in derivatives.

A label's name begins with that of its image (sub-1_T2w_seg-manual), or repeats the image's
entities and has its own in place of the image's suffix (sub-1_space-T1w_desc-aseg_dseg).
"""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from neurosam3d.data.prepare.case_names import part_same_names
from neurosam3d.data.prepare.layouts.bids_labels import BidsFile, LabelClass, Tables, list_classes
from neurosam3d.data.prepare.layouts.layout import DEFAULT_THRESHOLD, Layout, RawFolder
from neurosam3d.data.prepare.listing import VOLUME_SUFFIXES, Listing, RawItem
from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.prepare.raw_files import RawFiles
from neurosam3d.data.tree import folder_name

logger = logging.getLogger(__name__)

_IMAGES = ("sub-{sub}/{datatype}/{name}{ext}", "sub-{sub}/ses-{ses}/{datatype}/{name}{ext}")
# Entities that say what a label is, not which image it belongs to.
_OWN_ENTITIES = {"space", "cohort", "res", "den", "desc", "label", "seg", "atlas", "scale", "hemi"}


def _is_bids(raw: Path) -> bool:
    is_described = (raw / "derivatives").is_dir() or (raw / "dataset_description.json").is_file()
    return is_described and any(True for _ in RawFiles(raw).find("sub-{sub}/"))


def _list_bids(raw: RawFolder) -> Listing:
    files = RawFiles(raw.path)
    scans = [BidsFile(path) for template in _IMAGES for path, _ in files.find(template)]
    images = [file for file in scans if not file.is_label and "sub" in file.entities]
    labels = [*scans, *_volumes(raw.path / "derivatives")]
    items, problems = _pair(raw, images, [file for file in labels if file.is_label])
    kept, same_names = part_same_names(items)
    unlabelled = _unlabelled(images, {item.image for item in items})
    problems = [*problems, *unlabelled, *same_names]
    return Listing(
        name=raw.name,
        modality=tuple(sorted({item.modality for item in kept})),
        labels=raw.table({}),
        items={"Tr": kept} if kept else {},
        problems={"Tr": tuple(problems)} if problems else {},
    )


def _pair(
    raw: RawFolder, images: Sequence[BidsFile], labels: Sequence[BidsFile]
) -> tuple[list[RawItem], list[Problem]]:
    """Items of every label; where several hold a class of an image, the first counts."""
    by_subject: dict[str | None, list[BidsFile]] = defaultdict(list)
    for image in images:
        by_subject[image.entities.get("sub")].append(image)
    tables = Tables(raw)
    items: dict[tuple[Path, str], RawItem] = {}
    problems: list[Problem] = []
    spaces = {image.suffix for image in images} | {""}
    templates = Counter(label.space for label in labels if label.space not in spaces)
    for space, count in templates.items():
        logger.info("%d labels in the space %s, which no image has, are left out", count, space)
    for label in labels:
        if label.space in templates:
            continue
        fitting = _images_of(label, by_subject[label.entities.get("sub")])
        classes = list(list_classes(label, tables.find(label)))
        if len(fitting) != 1:
            problems.append(_no_image(label, fitting))
        elif not classes:
            problems.append(_no_table(label))
        else:
            for found in classes:
                item = _item(raw, fitting[0], label, found)
                items.setdefault((item.image, item.class_name), item)
    return list(items.values()), problems


def _volumes(folder: Path) -> Iterator[BidsFile]:
    """Every visible volume below a folder, in the order of the names."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(VOLUME_SUFFIXES) and not name.startswith("."):
                yield BidsFile(Path(place, name))


def _images_of(label: BidsFile, images: Sequence[BidsFile]) -> list[BidsFile]:
    """Return the images that a label may belong to, of those of its subject."""
    named_after = [i for i in images if label.parts[: len(i.parts)] == i.parts]
    if named_after:
        return named_after
    shared = {k: v for k, v in label.entities.items() if k not in _OWN_ENTITIES}
    fitting = [i for i in images if shared.items() <= i.entities.items()]
    if label.space:
        fitting = [i for i in fitting if i.suffix == label.space]
    for is_better in (
        lambda image: image.path.parent.name == label.path.parent.name,
        lambda image: image.entities == shared,
        lambda image: image.suffix == "T1w",  # where a derivative does not say, it means this
    ):
        fitting = [i for i in fitting if is_better(i)] or fitting
    return fitting


def _item(raw: RawFolder, image: BidsFile, label: BidsFile, found: LabelClass) -> RawItem:
    threshold = DEFAULT_THRESHOLD if raw.threshold is None else raw.threshold
    return RawItem(
        image=image.path,
        seg=label.path,
        values=found.values,
        class_name=folder_name(found.name),
        case=folder_name("_".join(image.parts)),
        patient=f"sub-{image.entities['sub']}",
        channel=raw.channel,
        binary=found.binary,
        threshold=threshold if found.is_fraction else None,
        modality=image.suffix,
    )


def _no_image(label: BidsFile, fitting: Sequence[BidsFile]) -> Problem:
    if fitting:
        several = " and ".join(str(image.path) for image in fitting)
        return Problem(Kind.NO_IMAGE, f"{label.path} may belong to {several}")
    return Problem(Kind.NO_IMAGE, f"no image of its subject and space belongs to {label.path}")


def _no_table(label: BidsFile) -> Problem:
    sentence = (
        f"no table names the classes of {label.path}; looked for *_dseg.tsv beside it and above, "
        f"and labels.json (--labels FILE gives one)"
    )
    return Problem(Kind.BAD_LABEL, sentence)


def _unlabelled(images: Sequence[BidsFile], labelled: set[Path]) -> Iterator[Problem]:
    """Images without label; kinds of images that are never labelled are not missed."""
    kinds = {image.suffix for image in images if image.path in labelled}
    for image in images:
        if image.path not in labelled and (image.suffix in kinds or not kinds):
            sentence = f"no label in derivatives belongs to {image.path}"
            yield Problem(Kind.NO_LABEL, sentence, folder_name("_".join(image.parts)))


BIDS = Layout(
    "BIDS",
    "sub-*/[ses-*/]anat/*_T1w.nii.gz, derivatives/**/*_dseg.nii.gz, _mask, _probseg, _seg-manual",
    _is_bids,
    _list_bids,
    takes_threshold=True,
)
