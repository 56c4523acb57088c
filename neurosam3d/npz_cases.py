"""Read cases of the CVPR25 challenge on interactive segmentation from `.npz` files.

Such a file keeps boxes and clicks as pickled Python objects, and a pickle can run any code. Here
they are read by an unpickler that can build numbers, text, lists, dicts and arrays, and no more.

Shapes: D H W the image's axes z, y, x.
"""

import math
import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BOX_BOUNDS = ("z_min", "z_max", "z_mid_x_min", "z_mid_y_min", "z_mid_x_max", "z_mid_y_max")

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_BUILDERS = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (f"numpy.{core}.multiarray", name)
    for core in ("core", "_core")  # before and from NumPy 2 on
    for name in ("_reconstruct", "scalar")
}
# The unpickler raises whatever a damaged stream runs into.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError, NotImplementedError),
    *(AttributeError, LookupError, TypeError, ValueError, RuntimeError, MemoryError),
)


class _RefusedError(ValueError):
    """What a file holds is no case."""


def read_npz_case(path: Path) -> dict[str, Any]:
    """Read all that a case's file holds.

    Returns:
        By name: `imgs` (D, H, W); `spacing` (3,) in mm along these axes; and, if the file has them,
        `gts` and `prev_pred` (D, H, W), classes from 1; `boxes`, a dict of closed bounds per class;
        `clicks`, a dict of voxels `fg` and `bg` (z, y, x) per class; `clicks_order`, a list of "fg"
        and "bg" per class. What is no array of numbers comes as lists, dicts and text. Other
        entries are passed on.

    Raises:
        ValueError: If the file is damaged, holds more than data, or is no case.
        OSError: If the file cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            case = {name.removesuffix(".npy"): _read_entry(archive, name) for name in names}
    except _RefusedError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot read {path}: it is no sound .npz file ({reason})") from error
    if fault := _find_fault(case):
        raise ValueError(f"cannot read {path}: {fault}")
    return case


class _DataUnpickler(pickle.Unpickler):
    """An unpickler that knows nothing by name but what rebuilds arrays and their scalars."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _BUILDERS:
            raise _RefusedError(f"it holds {module}.{name}, and a case holds data only")
        return super().find_class(module, name)


def _read_entry(archive: zipfile.ZipFile, name: str) -> Any:
    """Read an array, or the Python objects that one holds."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READ_HEADER:
            raise _RefusedError(f"{name} is of version {version}, which no array of a case needs")
        *_, dtype = _READ_HEADER[version](file)
        if dtype.hasobject:
            return _plain(_DataUnpickler(file).load())
    with archive.open(name) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array if array.dtype.kind in "biuf" and array.size else array.tolist()


def _plain(value: Any) -> Any:
    """Turn arrays and scalars, also inside containers, into Python's lists and numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _find_fault(case: Mapping[str, Any]) -> str:
    """Say which rule of the format a case breaks; nothing if it keeps all."""
    image, spacing = case.get("imgs"), case.get("spacing", ())
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        return f"imgs must be an image (D, H, W), got {_describe(image)}"
    if not _are_numbers(spacing, 3) or not all(0 < side < math.inf for side in spacing):
        return f"spacing must be three positive lengths in mm, got {spacing}"
    for name in ("gts", "prev_pred"):
        labels = case.get(name)
        is_label_map = isinstance(labels, np.ndarray) and labels.dtype.kind in "biu"
        if labels is not None and not (is_label_map and labels.shape == image.shape):
            rule = f"{name} must be whole numbers of imgs' shape {image.shape}"
            return f"{rule}, got {_describe(labels)}"
    for name, is_right, entry in (
        ("boxes", _is_box, f"dicts of {', '.join(BOX_BOUNDS)}"),
        ("clicks", _are_clicks, "dicts of fg and bg, lists of voxels (z, y, x)"),
        ("clicks_order", _is_order, 'lists of "fg" and "bg"'),
    ):
        given = case.get(name, [])
        if not isinstance(given, list) or not all(map(is_right, given)):
            return f"{name} must be a list, one entry per class, of {entry}"
    return ""


def _is_box(entry: Any) -> bool:
    if not isinstance(entry, Mapping):
        return False
    return _are_numbers([entry.get(name) for name in BOX_BOUNDS], len(BOX_BOUNDS))


def _are_clicks(entry: Any) -> bool:
    if not isinstance(entry, Mapping):
        return False
    lists = (entry.get("fg"), entry.get("bg"))
    return all(isinstance(v, list) and all(_are_numbers(voxel, 3) for voxel in v) for v in lists)


def _is_order(entry: Any) -> bool:
    return isinstance(entry, list) and all(word in ("fg", "bg") for word in entry)


def _are_numbers(values: Any, count: int) -> bool:
    if not isinstance(values, Sequence | np.ndarray) or len(values) != count:
        return False
    return all(isinstance(value, int | float | np.number) for value in values)


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return "nothing" if value is None else type(value).__name__
