"""Where the YAML files lie that travel with the package: in a checkout the folder `configs/`, where
users edit them; in an installed package the copy inside it.
"""

from importlib import resources
from pathlib import Path

CHECKOUT_CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def config_folders() -> list[Path]:
    """Return the folders that exist; a checkout's own comes before package data."""
    try:
        entries = [Path(str(entry)) for entry in resources.files("neurosam3d.configs").iterdir()]
    except ModuleNotFoundError:  # a checkout on the path that was never installed
        entries = []
    folders = dict.fromkeys([CHECKOUT_CONFIGS, *sorted({entry.parent for entry in entries})])
    return [folder for folder in folders if folder.is_dir()]
