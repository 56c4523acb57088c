"""Layouts that users declare in a YAML file.

The keys of a source are the arguments of `Source`:

    name: Lesions
    modality: MRI
    labels: {1: lesion}                            # or a file, seen from this one: labels.txt
    sources:
      Tr:
        - images: "{patient}/{sequence}.nii.gz"    # "{patient}/dicom/" is a folder of a series
          label: "{patient}/truth.nii.gz"
          case: "{patient}_{sequence}"
          patient: "{patient}"

What is not said is as in `DatasetRecord`; a case without a name is called by all placeholders, the
only one by the dataset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.labels import LabelTable, parse_labels, read_label_table
from neurosam3d.data.prepare.layouts.layout import RawFolder
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.pairing import Source, list_sources
from neurosam3d.data.prepare.raw_files import placeholders
from neurosam3d.data.prepare.yaml_file import read_mapping
from neurosam3d.data.tree import SETS, check_name

_RECORD_KEYS = ("name", "modality", "labels", "sources", "page", "licence")
_SOURCE_KEYS = tuple(entry.name for entry in fields(Source))


def read_layout(path: Path, *, name: str | None = None, raw: Path | None = None) -> DatasetRecord:
    """Read a declared layout.

    Args:
        path: The YAML file.
        name: What to call the dataset; None for the name in the file.
        raw: The raw folder, where label tables are looked for that do not lie beside the file.

    Raises:
        ValueError: If the file is missing or unfit.
    """
    content = read_mapping(path, known=_RECORD_KEYS)
    try:
        name = check_name(str(name or content.get("name") or ""))
        folders = [path.parent] if raw is None else [path.parent, raw]
        labels = _read_labels(content.get("labels", {}), folders)
        record = DatasetRecord(
            name=name,
            modality=_read_texts(content, "modality", ("unknown",)),
            labels=labels,
            page=str(content.get("page", "")),
            licence=str(content.get("licence", "")),
        )
        if "sources" in content:
            record = replace(record, sources=_read_sources(content["sources"], name, folders))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return record


def list_declared(raw: RawFolder, record: DatasetRecord) -> Listing:
    """List a raw folder as a record declares it.

    Args:
        raw: The folder; its labels, threshold and channel, if given and not the first, go before
            those of the record.
        record: What it holds.

    Raises:
        ValueError: If the folder is missing, or no image in it has a label.
    """
    if not raw.path.is_dir():
        raise ValueError(f"no raw folder {raw.path}")
    path = raw.path.absolute()
    sources = {
        set_name: [_overridden(source, raw) for source in found]
        for set_name, found in record.sources.items()
    }
    listing = list_sources(
        path,
        raw.name,
        modality=record.modality,
        labels=record.labels if raw.labels is None else raw.labels,
        sources=sources,
    )
    listing = replace(
        listing,
        root=path.parent,
        raw_folder=path.name,
        page=record.page,
        licence=record.licence,
    )
    looked_for = ", ".join(source.images for found in sources.values() for source in found)
    return listing.require_items(f"in {raw.path}; looked for {looked_for}")


def _overridden(source: Source, raw: RawFolder) -> Source:
    return replace(
        source,
        channel=raw.channel or source.channel,
        threshold=source.threshold if raw.threshold is None else raw.threshold,
    )


def _read_labels(content: Any, folders: Sequence[Path]) -> LabelTable:
    """Read a label table that is written out, or whose file in one of the folders is named."""
    if isinstance(content, str):
        paths = [folder / content for folder in folders]
        return read_label_table(next((path for path in paths if path.is_file()), paths[0]))
    if not isinstance(content, Mapping):
        raise ValueError(f"labels are a table or the name of a file, got {content!r}")
    return parse_labels(content)


def _read_sources(
    content: Any, name: str, folders: Sequence[Path]
) -> dict[str, tuple[Source, ...]]:
    if not isinstance(content, Mapping) or not content or set(content) - set(SETS):
        raise ValueError(f"sources are listed for {', '.join(SETS)}, got {content!r}")
    return {
        set_name: tuple(
            _read_source(entry, name, folders)
            for entry in (entries if isinstance(entries, list) else [entries])
        )
        for set_name, entries in content.items()
    }


def _read_source(content: Any, name: str, folders: Sequence[Path]) -> Source:
    if not isinstance(content, Mapping) or not {"images", "label"} <= content.keys():
        raise ValueError(f"a source needs images and label, got {content!r}")
    unknown = [key for key in content if key not in _SOURCE_KEYS]
    if unknown:
        known = ", ".join(_SOURCE_KEYS)
        raise ValueError(f"unknown key {unknown[0]!r} of a source; known: {known}")
    images, own_labels = str(content["images"]), content.get("labels")
    return Source(
        images=images,
        label=str(content["label"]),
        labels=None if own_labels is None else _read_labels(own_labels, folders),
        case=str(content.get("case") or _case_of(images, name)),
        patient=str(content.get("patient", "")),
        exclude=_read_texts(content, "exclude", ()),
        channel=_read_channel(content.get("channel", 0)),
        modality=str(content.get("modality", "")),
        threshold=_read_threshold(content.get("threshold")),
    )


def _case_of(images: str, name: str) -> str:
    """How cases are called that nothing is said of: by all placeholders, a single one as all."""
    told = [each for each in placeholders(images) if each != "ext"]
    return "{case}" if "case" in told else "_".join(f"{{{each}}}" for each in told) or name


def _read_texts(content: Mapping[str, Any], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Read a text, or a list of them."""
    value = content.get(key, default)
    if not isinstance(value, str | list | tuple):
        raise ValueError(f"{key} is a text or a list of texts, got {value!r}")
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _read_channel(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"channel is a number of 0 or more, got {value!r}")
    return value


def _read_threshold(value: Any) -> float | None:
    if value is not None and not (isinstance(value, int | float) and 0 < value <= 1):
        raise ValueError(f"threshold lies between 0 and 1, got {value!r}")
    return None if value is None else float(value)
