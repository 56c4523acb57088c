"""Folders that a dataset.json describes: nnU-Net v2 and Medical Segmentation Decathlon (MSD)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosam3d.data.prepare.case_names import part_same_names
from neurosam3d.data.prepare.labels import Values, parse_labels
from neurosam3d.data.prepare.layouts.layout import Layout, RawFolder
from neurosam3d.data.prepare.listing import SET_KEYS, Listing, RawItem, strip_suffix
from neurosam3d.data.prepare.pairing import Source, list_sources
from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.tree import folder_name, read_json

logger = logging.getLogger(__name__)


def _description(raw: Path) -> Mapping[str, Any]:
    """The content of a dataset.json with a label table; empty if there is none."""
    path = raw / "dataset.json"
    content = read_json(path) if path.is_file() else None
    if isinstance(content, Mapping) and isinstance(content.get("labels"), Mapping):
        return content
    return {}


def _is_nnunet(raw: Path) -> bool:
    return "channel_names" in _description(raw)


def _is_msd(raw: Path) -> bool:
    return isinstance(_description(raw).get("training"), Sequence)


def _list_nnunet(raw: RawFolder) -> Listing:
    content = read_json(raw.path / "dataset.json")
    end = content.get("file_ending", ".nii.gz")
    images = f"/{{case}}_{raw.channel:04d}{end}"
    return list_sources(
        raw.path,
        raw.name,
        modality=(_pick_channel(content["channel_names"], raw.channel),),
        labels=_table(raw, content),
        sources={
            name: [Source(f"images{name}{images}", f"labels{name}/{{case}}{end}")]
            for name in SET_KEYS
        },
    )


def _list_msd(raw: RawFolder) -> Listing:
    content = read_json(raw.path / "dataset.json")
    labels = _table(raw, content)
    entries = {
        "Tr": content["training"],
        "Val": content.get("validation"),
        "Ts": content.get("test") or content.get("testing"),
    }
    items: dict[str, tuple[RawItem, ...]] = {}
    problems: dict[str, tuple[Problem, ...]] = {}
    for set_name, listed in entries.items():
        scans = list(_scans(raw, listed or (), set_name))
        lost = [problem for scan in scans if (problem := scan.problem())]
        found = [item for scan in scans if not scan.problem() for item in scan.items(labels)]
        items[set_name], same_names = part_same_names(found)
        problems[set_name] = (*lost, *same_names)
    return Listing(
        name=raw.name,
        modality=(_pick_channel(content.get("modality", {"0": "unknown"}), raw.channel),),
        labels=labels,
        items={set_name: found for set_name, found in items.items() if found},
        problems={set_name: found for set_name, found in problems.items() if found},
    )


@dataclass(frozen=True)
class _Scan:
    """An entry of an MSD list: an image, and where its label should be."""

    case: str
    image: Path
    channel: int
    seg: Path

    def problem(self) -> Problem | None:
        """Say which of the files is missing."""
        if not self.image.is_file():
            sentence = f"dataset.json lists {self.image}, which is not there"
            return Problem(Kind.NO_IMAGE, sentence, self.case)
        if not self.seg.is_file():
            sentence = f"no label belongs to {self.image}; looked for {self.seg}"
            return Problem(Kind.NO_LABEL, sentence, self.case)
        return None

    def items(self, labels: Mapping[Values, str]) -> Iterator[RawItem]:
        """Yield an item for each class."""
        for values, name in labels.items():
            class_name = folder_name(name)
            yield RawItem(self.image, self.seg, values, class_name, self.case, channel=self.channel)


def _scans(raw: RawFolder, entries: Sequence[Any], set_name: str) -> Iterator[_Scan]:
    for entry in entries:
        # Test images are named without a label; one may still lie beside them.
        pair = {"image": entry, "label": ""} if isinstance(entry, str) else entry
        if not isinstance(pair, Mapping) or not _is_text(pair.get("image"), pair.get("label")):
            raise ValueError(f"{raw.path / 'dataset.json'}: unfit entry {entry!r}")
        image = raw.path / pair["image"]
        if not image.name:
            raise ValueError(f"{raw.path / 'dataset.json'}: unfit entry {entry!r}")
        seg = raw.path / (pair["label"] or f"labels{set_name}/{image.name}")
        stem = strip_suffix(image)
        # nnU-Net v1 lists images by their case alone and keeps a file per channel.
        file = image.with_name(f"{stem}_{raw.channel:04d}{image.name[len(stem) :]}")
        if not image.is_file() and file.is_file():
            yield _Scan(folder_name(stem), file, 0, seg)
        else:
            yield _Scan(folder_name(stem), image, raw.channel, seg)


def _is_text(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _table(raw: RawFolder, content: Mapping[str, Any]) -> Mapping[Values, str]:
    return parse_labels(content["labels"] if raw.labels is None else raw.labels)


def _pick_channel(channels: Any, channel: int) -> str:
    """Return what the chosen channel shows; a log line says so if there are several."""
    if not isinstance(channels, Mapping):
        return str(channels)
    names = {str(key): str(value) for key, value in channels.items()}
    if str(channel) not in names:
        known = ", ".join(f"{key} ({value})" for key, value in names.items())
        raise ValueError(f"no channel {channel}; the images have {known}")
    if len(names) > 1:
        logger.info(
            "%d channels: channel %d (%s) is used; --channel chooses another",
            len(names),
            channel,
            names[str(channel)],
        )
    return names[str(channel)]


NNUNET = Layout(
    "nnU-Net v2",
    "dataset.json with channel_names, labels and file_ending; imagesTr",
    _is_nnunet,
    _list_nnunet,
)
MSD = Layout("MSD", "dataset.json with labels and a training list", _is_msd, _list_msd)
