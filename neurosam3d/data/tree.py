"""Where each thing lies in a tree of prepared data.

No other file joins these paths:

    <root>/<NAME>/images<SET>/<case>.nii.gz
    <root>/<NAME>/labels<SET>/<CLASS>/<case>.nii.gz     one class, 0 or 1, on the image's grid
    <root>/<NAME>/dataset.json                          which raw files belong together
    <root>/<NAME>/report_<SET>.json                     what was made of each case, and problems
    <root>/<NAME>_<SET>.json                            the index that training reads

SET is Tr (training), Val (validation) or Ts (testing). A set is named `<NAME>_<SET>`.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosam3d.documents import parse_json
from neurosam3d.files import replacing

SETS = ("Tr", "Val", "Ts")
DEFAULT_ROOT = Path("data_fixed/medical_preprocessed")
SUFFIX = ".nii.gz"

_NAME = re.compile(r"[^\W_][\w.+-]*")
_UNSAFE = re.compile(r'[\s/\\:*?"<>|\x00-\x1f]')


@dataclass(frozen=True)
class Tree:
    """The paths below one folder of prepared data.

    Args:
        root: The folder; it need not exist.
    """

    root: Path

    def image(self, name: str, set_name: str, case: str) -> Path:
        """Path of a case's image."""
        return self.dataset(name) / f"images{set_name}" / f"{case}{SUFFIX}"

    def label(self, name: str, set_name: str, class_name: str, case: str) -> Path:
        """Path of the binary label of one class of a case."""
        return self.dataset(name) / f"labels{set_name}" / class_name / f"{case}{SUFFIX}"

    def dataset(self, name: str) -> Path:
        """Folder of one dataset."""
        return self.root / check_name(name)

    def dataset_json(self, name: str) -> Path:
        """Path of the list of a dataset's raw files."""
        return self.dataset(name) / "dataset.json"

    def report(self, name: str, set_name: str) -> Path:
        """Path of the report on how one set was prepared."""
        return self.dataset(name) / f"report_{set_name}.json"

    def journal(self, name: str, set_name: str) -> Path:
        """Path of what is known of a set that is not wholly prepared yet."""
        return self.dataset(name) / f".report_{set_name}.jsonl"

    def lock(self, name: str, set_name: str) -> Path:
        """Path of the lock of the process that prepares a set."""
        return self.dataset(name) / f".{set_name}.lock"

    def index(self, name: str, set_name: str) -> Path:
        """Path of the index of one set of a dataset."""
        return self.root / f"{check_name(name)}_{set_name}.json"

    def list_sets(self) -> list[str]:
        """Name every set that has an index, in alphabetical order."""
        stems = (path.stem for path in self.root.glob("*_*.json"))
        return sorted(stem for stem in stems if stem.rpartition("_")[2] in SETS and stem[0] != ".")

    def list_datasets(self) -> list[str]:
        """Name every dataset that has a list of raw files, in alphabetical order."""
        return sorted(path.parent.name for path in self.root.glob("*/dataset.json"))


def split_set_name(set_name: str) -> tuple[str, str]:
    """Take `<NAME>_<SET>` apart, for example "AMOS_Tr" into ("AMOS", "Tr").

    Raises:
        ValueError: If the text does not end in `_Tr`, `_Val` or `_Ts`.
    """
    name, _, suffix = set_name.rpartition("_")
    if not name or suffix not in SETS:
        raise ValueError(f"a set is named <NAME>_Tr, <NAME>_Val or <NAME>_Ts, got {set_name!r}")
    return name, suffix


def check_name(name: str) -> str:
    """Return a dataset's name if it can be a folder's name.

    Raises:
        ValueError: If it is empty, hidden, or holds anything but letters, digits and `_ . + -`.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a dataset's name starts with a letter or digit and holds letters, digits "
            f"and _ . + - only, got {name!r}"
        )
    return name


def folder_name(class_name: str) -> str:
    """Turn a class name into its folder's name: spaces and unsafe characters become `_`.

    Raises:
        ValueError: If nothing that can name a folder is left.
    """
    folder = _UNSAFE.sub("_", class_name.strip())
    if not folder.strip("._"):
        raise ValueError(f"a class needs a name with letters or digits, got {class_name!r}")
    return folder.lstrip(".")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON; the file appears whole or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If the file is missing or is not JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
