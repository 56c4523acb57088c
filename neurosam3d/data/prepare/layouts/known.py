"""Recognise how a raw folder is laid out and list it."""

import logging
from dataclasses import replace
from pathlib import Path

from neurosam3d.data.prepare.dicom.series import holds_dicom_labels, list_dicom
from neurosam3d.data.prepare.layouts.bids import BIDS
from neurosam3d.data.prepare.layouts.described import MSD, NNUNET
from neurosam3d.data.prepare.layouts.folders import KITS, LITS, MASKS, SYNAPSE
from neurosam3d.data.prepare.layouts.freesurfer import FREESURFER
from neurosam3d.data.prepare.layouts.layout import DEFAULT_THRESHOLD, Layout, RawFolder
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.tree import check_name

logger = logging.getLogger(__name__)


def _list_dicom(raw: RawFolder) -> Listing:
    threshold = DEFAULT_THRESHOLD if raw.threshold is None else raw.threshold
    return list_dicom(raw.path, name=raw.name, channel=raw.channel, threshold=threshold)


DICOM = Layout(
    "DICOM",
    "folders of image series, with DICOM-SEG or RTSTRUCT files that refer to them",
    holds_dicom_labels,
    _list_dicom,
    takes_labels=False,
    takes_threshold=True,
)

# In the order they are looked for; the last has to open files.
LAYOUTS = (NNUNET, MSD, BIDS, FREESURFER, KITS, LITS, SYNAPSE, MASKS, DICOM)


def list_raw_folder(raw: RawFolder) -> Listing:
    """List a raw folder whose layout is known; a log line says which one it is.

    Raises:
        ValueError: If the name cannot name a folder, the raw folder is missing or has no known
            layout, the layout has no use for a given label table or threshold, or no image in it
            has a label.
    """
    check_name(raw.name)
    if not raw.path.is_dir():
        raise ValueError(f"no raw folder {raw.path}")
    layout = recognize(raw.path)
    if layout is None:
        raise ValueError(_unknown(raw.path))
    logger.info("%s: recognized %s", raw.path, layout)
    if raw.labels is not None and not layout.takes_labels:
        raise ValueError(f"--labels is of no use here: {layout.name} names its classes itself")
    if raw.threshold is not None and not layout.takes_threshold:
        raise ValueError(f"--threshold is of no use here: labels of {layout.name} are integers")
    path = raw.path.absolute()
    listing = layout.list_folder(replace(raw, path=path))
    listing = replace(listing, root=path.parent, raw_folder=path.name)
    return listing.require_items(f"in {raw.path}, read as {layout}")


def recognize(raw: Path) -> Layout | None:
    """Return the layout of a raw folder, None if it is not a known one.

    Raises:
        ValueError: If its dataset.json is not valid JSON.
    """
    return next((layout for layout in LAYOUTS if layout.is_in(raw)), None)


def _unknown(raw: Path) -> str:
    looked_for = ", ".join(map(str, LAYOUTS))
    inside = (p.name for p in sorted(raw.iterdir()) if p.is_dir() and recognize(p))
    first = next(inside, None)
    hint = "" if first is None else f"; a known layout is in its folder {first}"
    return (
        f"no known layout in {raw}; looked for {looked_for}{hint}; any other layout can be "
        f"described in a file: --layout FILE.yaml"
    )
