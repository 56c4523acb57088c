"""Folders known by how their files are called: masks per class, KiTS, LiTS, Synapse/BTCV."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from neurosam3d.data.prepare import catalogue
from neurosam3d.data.prepare.labels import LabelTable
from neurosam3d.data.prepare.layouts.layout import Layout, RawFolder
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.pairing import Source, list_sources
from neurosam3d.data.prepare.raw_files import RawFiles
from neurosam3d.data.tree import read_json


def _has(raw: Path, *templates: str) -> bool:
    files = RawFiles(raw)
    return any(next(files.find(template), None) for template in templates)


def _list(raw: RawFolder, modality: str, labels: LabelTable, sources: Sequence[Source]) -> Listing:
    chosen = [replace(source, channel=raw.channel) for source in sources]
    return list_sources(
        raw.path, raw.name, modality=(modality,), labels=raw.table(labels), sources={"Tr": chosen}
    )


# Masks per class, as TotalSegmentator writes them

_IMAGES = "{case}/{image}{ext}"
_MASKS = "{case}/segmentations/{class}{ext}"


def _list_masks(raw: RawFolder) -> Listing:
    cases = [fields["case"] for _, fields in RawFiles(raw.path).find(_IMAGES)]
    several = len(cases) > len(set(cases))
    source = Source(
        _IMAGES,
        _MASKS,
        case="{case}_{image}" if several else "{case}",
        patient="{case}" if several else "",
        channel=raw.channel,
        threshold=raw.threshold,
    )
    return list_sources(
        raw.path, raw.name, modality=("unknown",), labels={}, sources={"Tr": [source]}
    )


MASKS = Layout(
    "masks per class",
    "<case>/<image>.nii.gz, <case>/segmentations/<class>.nii.gz",
    lambda raw: _has(raw, _MASKS),
    _list_masks,
    takes_labels=False,
    takes_threshold=True,
)

# KiTS; the label of its edition of 2021 is the majority of several annotators

_KITS = [
    Source("{case}/imaging{ext}", f"{{case}}/{label}{{ext}}", patient="{case}")
    for label in ("segmentation", "aggregated_MAJ_seg")
]

KITS = Layout(
    "KiTS",
    "<case>/imaging.nii.gz, <case>/segmentation.nii.gz",
    lambda raw: _has(raw, _KITS[0].images),
    lambda raw: _list(raw, "CT", {1: "kidney", 2: "tumor", 3: "cyst"}, _KITS),
)

# LiTS, all in one folder or in several, such as the batches of its release

_VOLUME, _SEGMENTATION = "volume-{number}{ext}", "segmentation-{number}{ext}"
_LITS = [
    Source(_VOLUME, _SEGMENTATION, case="volume-{number}"),
    Source(f"{{folder}}/{_VOLUME}", f"{{labels}}/{_SEGMENTATION}", case="volume-{number}"),
]

LITS = Layout(
    "LiTS",
    "volume-<N>.nii, segmentation-<N>.nii",
    lambda raw: _has(raw, *(source.images for source in _LITS)),
    lambda raw: _list(raw, "CT", {1: "liver", 2: "tumor"}, _LITS),
)

# Synapse/BTCV

_SYNAPSE = Source("img/img{number}{ext}", "label/label{number}{ext}", case="img{number}")


def _list_synapse(raw: RawFolder) -> Listing:
    """List images by number; a cases.json may say of each what it is: "PATIENT MODALITY"."""
    listing = _list(raw, "CT", catalogue.RECORDS["Synapse"].labels, [_SYNAPSE])
    path = raw.path / "cases.json"
    if not path.is_file():
        return listing
    told = _read_cases(path)
    items = tuple(
        replace(item, patient=patient or None, modality=modality)
        for item in listing.items.get("Tr", ())
        for patient, modality in [told.get(item.case, ("", ""))]
    )
    modalities = tuple(sorted({item.modality for item in items if item.modality}))
    return replace(listing, items={"Tr": items}, modality=modalities or listing.modality)


def _read_cases(path: Path) -> Mapping[str, tuple[str, str]]:
    """Read cases.json into case -> patient and modality."""
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} must say which patient a number is, got {content!r}")
    cases = {}
    for number, text in content.items():
        patient, _, modality = str(text).partition(" ")
        cases[f"img{number}"] = (patient, modality)
    return cases


SYNAPSE = Layout(
    "Synapse/BTCV",
    "img/img<N>.nii.gz, label/label<N>.nii.gz",
    lambda raw: _has(raw, _SYNAPSE.images),
    _list_synapse,
)
