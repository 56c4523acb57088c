"""Open DICOM files with pydicom, and say in one sentence what is wrong with one."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from neurosam3d.data.prepare.problems import CaseError, Kind
from neurosam3d.volume_io.errors import VolumeFileError

if TYPE_CHECKING:
    from pydicom import Dataset

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # 7: label map
RTSTRUCT_CLASSES = ("1.2.840.10008.5.1.4.1.1.481.3",)
FRACTIONAL = "FRACTIONAL"  # type of a segmentation
LABEL_CLASSES = SEG_CLASSES + RTSTRUCT_CLASSES

_UNDEFINED = 0xFFFFFFFF  # length of an element that ends with a mark
_HEAD = 1024  # bytes that hold the beginning of the header
_SOP_CLASS = re.compile(rb"\x02\x00\x02\x00UI..([0-9.]+)", re.DOTALL)


class MissingExtraError(ValueError):
    """pydicom or highdicom is not installed.

    Args:
        path: The file that needs them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"reading {path} needs pydicom and highdicom: pip install -e '.[dicom]'")


def sniff_class(path: Path) -> str:
    """Return the SOP class that a DICOM file begins with; "" if it has none or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    found = _SOP_CLASS.search(head) if head[128:132] == b"DICM" else None
    return found[1].decode() if found else ""


def read_dataset(path: Path, *, tags: Sequence[str] = ()) -> "Dataset":
    """Read a DICOM file, or some elements of its header.

    Args:
        path: The file.
        tags: Keywords of the elements to read; without them, all are read, pixels included.

    Raises:
        VolumeFileError: If the file is missing, empty, damaged, or no DICOM file.
        MissingExtraError: If pydicom is not installed.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise MissingExtraError(path) from error
    problem = f"cannot read {path}: "
    try:
        if path.stat().st_size == 0:
            raise VolumeFileError(f"{problem}the file is empty (0 bytes)", "empty")
        wanted = list(tags) or None
        dataset = pydicom.dcmread(path, specific_tags=wanted, stop_before_pixels=bool(tags))
        _check_whole(dataset)
        return dataset
    except VolumeFileError:
        raise
    except FileNotFoundError as error:
        raise VolumeFileError(f"{problem}no such file or folder", "missing") from error
    except PermissionError as error:
        raise VolumeFileError(f"{problem}permission denied", "permission") from error
    except InvalidDicomError as error:
        raise VolumeFileError(f"{problem}it is no DICOM file", "unsupported") from error
    except Exception as error:  # whatever the parsing of damaged bytes runs into
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise VolumeFileError(f"{problem}it is truncated or damaged ({reason})") from error


def _check_whole(dataset: "Dataset") -> None:
    """Refuse an element that is shorter than it says, which pydicom passes over."""
    for element in dataset.values():
        length, value = getattr(element, "length", 0), element.value
        if isinstance(value, bytes) and len(value) < length != _UNDEFINED:
            raise EOFError(f"{len(value)} of {length} bytes of element {element.tag}")


@contextmanager
def naming_gaps(path: Path) -> Iterator[None]:
    """Turn an error about an element that is missing or unfit into a sentence with the file."""
    try:
        yield
    except (CaseError, VolumeFileError, MissingExtraError):
        raise
    except Exception as error:  # elements are parsed where they are used
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CaseError(
            f"{path} lacks or contradicts what DICOM demands of a label ({reason})", Kind.BAD_LABEL
        ) from error
