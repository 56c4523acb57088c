"""Recognise how a raw folder is laid out and list it, without a class for the dataset.

Known are nnU-Net v2 raw folders, Medical Segmentation Decathlon (MSD) folders and folders of
cases with one mask file per class, as TotalSegmentator writes them.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosam3d.data.prepare.labels import parse_labels
from neurosam3d.data.prepare.listing import SET_KEYS, Listing, RawItem, strip_suffix
from neurosam3d.data.prepare.pairing import Source, find_files, pair_sources
from neurosam3d.data.tree import check_name, folder_name, read_json

logger = logging.getLogger(__name__)

NNUNET = "nnU-Net v2 (dataset.json with channel_names, labels and file_ending; imagesTr)"
MSD = "MSD (dataset.json with labels and a training list)"
MASKS = "masks per class (<case>/<image>.nii.gz, <case>/segmentations/<class>.nii.gz)"
_IMAGES = "{case}/{image}{ext}"
_MASKS = "{case}/segmentations/{class}{ext}"


def list_raw_folder(raw: Path, *, name: str, channel: int = 0) -> Listing:
    """List a raw folder whose layout is known; a log line says which one it is.

    Args:
        raw: The folder.
        name: What to call the dataset.
        channel: Which channel of multi-channel images to use.

    Raises:
        ValueError: If the name cannot name a folder, the raw folder is missing or has no known
            layout, or no image in it has a label.
    """
    check_name(name)
    if not raw.is_dir():
        raise ValueError(f"no raw folder {raw}")
    layout = recognize(raw)
    if layout is None:
        inside = [p.name for p in sorted(raw.iterdir()) if p.is_dir() and recognize(p)]
        hint = f"; a known layout is in its folder {inside[0]}" if inside else ""
        raise ValueError(f"no known layout in {raw}; looked for {NNUNET}, {MSD}, {MASKS}{hint}")
    logger.info("%s: recognized %s", raw, layout)
    listing = _READERS[layout](raw.absolute(), name, channel)
    if not listing.items:
        raise ValueError(f"no image with a label in {raw}, read as {layout}")
    return listing


def recognize(raw: Path) -> str | None:
    """Return the layout of a raw folder, None if it is not a known one.

    Raises:
        ValueError: If its dataset.json is not valid JSON.
    """
    description = raw / "dataset.json"
    if description.is_file():
        content = read_json(description)
        if isinstance(content, Mapping) and isinstance(content.get("labels"), Mapping):
            if "channel_names" in content:
                return NNUNET
            if isinstance(content.get("training"), Sequence):
                return MSD
    return MASKS if next(find_files(raw, _MASKS), None) else None


def _list_nnunet(raw: Path, name: str, channel: int) -> Listing:
    content = read_json(raw / "dataset.json")
    labels = content["labels"]
    modality = _pick_channel(content["channel_names"], channel)
    end = content.get("file_ending", ".nii.gz")
    items = {}
    for set_name in SET_KEYS:
        images = f"images{set_name}/{{case}}_{channel:04d}{end}"
        source = Source(images, f"labels{set_name}/{{case}}{end}")
        items[set_name] = pair_sources(raw, [source], labels=labels)
    return _listing(raw, name, modality, parse_labels(labels), items)


def _list_msd(raw: Path, name: str, channel: int) -> Listing:
    content = read_json(raw / "dataset.json")
    labels = parse_labels(content["labels"])
    modality = _pick_channel(content.get("modality", {"0": "unknown"}), channel)
    entries = {
        "Tr": content["training"],
        "Val": content.get("validation"),
        "Ts": content.get("test") or content.get("testing"),
    }
    items: dict[str, tuple[RawItem, ...]] = {}
    for set_name, found in entries.items():
        pairs = list(_msd_pairs(raw, found or (), set_name))
        labelled = [(image, seg) for image, seg in pairs if seg.is_file()]
        if len(labelled) < len(pairs):
            num_left_out = len(pairs) - len(labelled)
            logger.warning("%d images of %s_%s have no label", num_left_out, name, set_name)
        items[set_name] = tuple(
            item for pair in labelled for item in _msd_items(*pair, labels, channel)
        )
    return _listing(raw, name, modality, labels, items)


def _msd_pairs(raw: Path, entries: Sequence[Any], set_name: str) -> Iterator[tuple[Path, Path]]:
    for entry in entries:
        # Test images are named without a label; one may still lie beside them.
        pair = {"image": entry, "label": ""} if isinstance(entry, str) else entry
        if not isinstance(pair, Mapping) or not {"image", "label"} <= pair.keys():
            raise ValueError(f"{raw / 'dataset.json'}: unfit entry {entry!r}")
        image = raw / pair["image"]
        yield image, raw / (pair["label"] or f"labels{set_name}/{image.name}")


def _msd_items(
    image: Path, seg: Path, labels: Mapping[tuple[int, ...], str], channel: int
) -> Iterator[RawItem]:
    case = folder_name(strip_suffix(image))
    # nnU-Net v1 lists images by their case alone and keeps a file per channel.
    split = image.with_name(image.name.replace(case, f"{case}_{channel:04d}", 1))
    if not image.is_file() and split.is_file():
        image, channel = split, 0
    for values, class_name in labels.items():
        yield RawItem(image, seg, values, folder_name(class_name), case, channel=channel)


def _list_masks(raw: Path, name: str, channel: int) -> Listing:
    cases = [fields["case"] for _, fields in find_files(raw, _IMAGES)]
    several = len(cases) > len(set(cases))
    source = Source(
        _IMAGES,
        _MASKS,
        case="{case}_{image}" if several else "{case}",
        patient="{case}" if several else "",
        channel=channel,
    )
    items = {"Tr": pair_sources(raw, [source], labels={})}
    return _listing(raw, name, "unknown", {}, items)


def _listing(
    raw: Path,
    name: str,
    modality: str,
    labels: Mapping[Any, str],
    items: Mapping[str, tuple[RawItem, ...]],
) -> Listing:
    found = {set_name: entries for set_name, entries in items.items() if entries}
    return Listing(name, (modality,), labels, found, root=raw.parent)


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


_READERS: Mapping[str, Callable[[Path, str, int], Listing]] = {
    NNUNET: _list_nnunet,
    MSD: _list_msd,
    MASKS: _list_masks,
}
