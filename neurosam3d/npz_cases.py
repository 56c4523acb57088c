"""Read cases of the CVPR25 challenge on interactive segmentation from `.npz` files.

Such a file keeps boxes and clicks as pickled Python objects, and a pickle can run any code. Here
they are read by an unpickler that can build numbers, text, lists, dicts and arrays, and no more.

Shapes: D H W the image's axes z, y, x.
"""

import lzma
import math
import pickle
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurosam3d.memory import require_memory

BOX_BOUNDS = ("z_min", "z_max", "z_mid_x_min", "z_mid_y_min", "z_mid_x_max", "z_mid_y_max")

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ARRAY = object()  # stands for the class, which called by itself takes any shape
_MOST_OBJECTS = 1 << 26  # bytes of a pickle: boxes and clicks take kilobytes
# The unpickler raises whatever a damaged stream runs into.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError, NotImplementedError),
    *(tokenize.TokenError, lzma.LZMAError),  # of numpy's own header; of another compression
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


def _begin_array(kind: object, shape: tuple[int, ...], _: bytes) -> np.ndarray:
    """Begin an array as NumPy's pickles do: empty; its shape comes with its voxels."""
    if kind is not _ARRAY or shape != (0,):
        raise _RefusedError("it holds an array without its numbers")
    return np.ndarray(shape)


def _make_scalar(dtype: np.dtype, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype, count=1)[0]


_BUILDERS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", name): builder
        for core in ("core", "_core")  # before and from NumPy 2 on
        for name, builder in (("_reconstruct", _begin_array), ("scalar", _make_scalar))
    },
}


class _DataUnpickler(pickle._Unpickler):
    """An unpickler that knows nothing by name but what rebuilds arrays and their scalars.

    It is the one in Python: that in C takes as much memory as a damaged number asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _BUILDERS:
            raise _RefusedError(f"it holds {module}.{name}, and a case holds data only")
        return _BUILDERS[module, name]


def _read_entry(archive: zipfile.ZipFile, name: str) -> Any:
    """Read an array, or the Python objects that one holds."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READ_HEADER:
            raise _RefusedError(f"{name} is of version {version}, which no array of a case needs")
        shape, _, dtype = _READ_HEADER[version](file)
        size = archive.getinfo(name).file_size
        if dtype.hasobject:
            if size > _MOST_OBJECTS:
                raise _RefusedError(f"{name} must be of {_MOST_OBJECTS} bytes at most, got {size}")
            return _plain(_DataUnpickler(file).load(), {})
        if require_memory(math.prod(shape) * dtype.itemsize) > size:
            raise _RefusedError(f"{name} ends before its last number")
    with archive.open(name) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array if array.dtype.kind in "biuf" and array.size else array.tolist()


def _plain(value: Any, known: dict[int, tuple[Any, Any]]) -> Any:
    """Turn arrays and scalars, also inside containers, into Python's lists and numbers.

    Args:
        value: What is turned.
        known: What was turned so far, with the result, by identity: each is turned once, however
            often references repeat it.
    """
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray | Mapping | list | tuple):
        return value
    if id(value) not in known:
        if isinstance(value, Mapping):
            plain: Any = {key: _plain(item, known) for key, item in value.items()}
        else:
            items = value.tolist() if isinstance(value, np.ndarray) else value
            is_list = isinstance(items, list | tuple)
            plain = [_plain(item, known) for item in items] if is_list else _plain(items, known)
        known[id(value)] = value, plain
    return known[id(value)][1]


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
    is_row = isinstance(values, Sequence) or (isinstance(values, np.ndarray) and values.ndim == 1)
    if not is_row or len(values) != count:
        return False
    return all(isinstance(value, int | float | np.number) for value in values)


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return "nothing" if value is None else type(value).__name__
