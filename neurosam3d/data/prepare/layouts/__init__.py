"""Raw folders that need no class: known layouts, and what users declare in a YAML file."""

from neurosam3d.data.prepare.layouts.declared import list_declared, read_layout
from neurosam3d.data.prepare.layouts.known import LAYOUTS, list_raw_folder, recognize
from neurosam3d.data.prepare.layouts.layout import Layout, RawFolder

__all__ = [
    "LAYOUTS",
    "Layout",
    "RawFolder",
    "list_declared",
    "list_raw_folder",
    "read_layout",
    "recognize",
]
