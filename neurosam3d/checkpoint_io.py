"""Checkpoint files read without running anything in them.

A pickle is a program that builds objects. Here it may build tensors, numbers, text and plain
containers, and of Python objects only the few inert ones that training scripts leave beside the
weights. Whatever else it asks for is refused by name.
"""

import argparse
import pathlib
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, ValuesView
from typing import Any

import numpy as np
import safetensors
import torch

from neurosam3d.documents import MOST_VALUES, count_values

Content = Mapping[str, Any]
METADATA = "__metadata__"  # what safetensors files call the texts beside their tensors


class Inert:
    """Holds the state of an object whose own class is not needed, an optimizer for example."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _plain_dict(_: type) -> dict[Any, Any]:
    """Stand in for a dictionary with a default."""
    return {}


# Names that pickles may mention, and what is built for them. The two numpy functions are taken
# from objects' own reductions because numpy 2 moved them; both addresses must still be understood.
_numpy_scalar, _numpy_array = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
_STAND_INS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "jsonargparse._namespace.Namespace": argparse.Namespace,
    "jsonargparse.namespace.Namespace": argparse.Namespace,
    "lightning.fabric.utilities.data.AttributeDict": dict,
    "lightning_fabric.utilities.data.AttributeDict": dict,
    "lightning.pytorch.utilities.parsing.AttributeDict": dict,
    "pytorch_lightning.utilities.parsing.AttributeDict": dict,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.defaultdict": _plain_dict,
    **{f"{module}.dict": dict for module in ("builtins", "__builtin__")},
    **{f"torch.optim.{name.lower()}.{name}": Inert for name in ("Adam", "AdamW", "SGD")},
    **{f"numpy.{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _numpy_array for core in ("core", "_core")},
    **{f"numpy.dtypes.{name}": getattr(np.dtypes, name) for name in np.dtypes.__all__},
    **{
        f"{module}.{pure}{system}Path": getattr(pathlib, f"Pure{system}Path")
        for module in ("pathlib", "pathlib._local")
        for pure in ("", "Pure")
        for system in ("Posix", "Windows")
    },
}


def read_content(path: pathlib.Path) -> Content:
    """Read what a `.pth`, `.pt`, `.ckpt` or `.safetensors` file holds, its tensors on the CPU.

    The metadata of a safetensors file are under `METADATA`, which is there in such files only.

    Raises:
        ValueError: If there is no such file, it is damaged or of another kind, or it holds Python
            objects beyond the inert ones.
    """
    if not path.exists():
        raise ValueError(f"there is no checkpoint {path}")
    if not path.is_file():
        raise ValueError(f"a checkpoint must be a file, got the folder {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"the checkpoint {path} is empty")
    try:
        content = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    except Exception as error:  # a damaged or foreign file can fail in any way
        if refused := _refused_object(error):
            raise ValueError(
                f"the checkpoint {path} holds the Python object {refused}, which is not loaded "
                "because it could run code; save the network's state_dict() instead"
            ) from error
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is damaged, cut short or of another kind"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"a checkpoint must hold named tensors, {path} holds a {type(content).__name__}"
        )
    _require_bounds(content, path)
    return content


def _require_bounds(content: Content, path: pathlib.Path) -> None:
    """Refuse a small file that claims to hold much: copies of one value, or of one list of lists.

    Raises:
        ValueError: If it does.
    """
    size = path.stat().st_size
    try:
        if count_values(content) > max(MOST_VALUES, size):
            raise ValueError("its lists stand for more values than it has bytes")
        for claimed in _array_bytes(content):
            if claimed > size:
                raise ValueError(f"an array of {claimed} bytes is not in its {size}")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from error


def _array_bytes(value: Any) -> Iterator[int]:
    """Yield how many bytes each tensor or array of a tree takes once its values are copied."""
    if isinstance(value, Mapping):
        value = value.values()
    elif isinstance(value, argparse.Namespace):
        value = vars(value).values()
    elif isinstance(value, torch.Tensor):
        yield value.numel() * value.element_size()
    elif isinstance(value, np.ndarray):
        yield value.nbytes
    if isinstance(value, ValuesView | list | tuple):
        for item in value:
            yield from _array_bytes(item)


def _is_safetensors(path: pathlib.Path) -> bool:
    """Tell safetensors by its start: the length of a header, then the header's brace."""
    with path.open("rb") as file:
        start = file.read(9)
    if len(start) < 9 or start[8:] != b"{":
        return path.suffix == ".safetensors"
    return struct.unpack("<Q", start[:8])[0] < path.stat().st_size


def _read_safetensors(path: pathlib.Path) -> Content:
    with safetensors.safe_open(path, framework="pt", device="cpu") as file:
        names = file.keys()
        return {METADATA: file.metadata() or {}, **{name: file.get_tensor(name) for name in names}}


def _read_pickle(path: pathlib.Path) -> Any:
    # Only zip files can be mapped; that spares reading the optimizer's state, often most of a file.
    mapped = zipfile.is_zipfile(path)
    if mapped:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("checkpoints are not compressed")  # a thousandfold fits in
    with torch.serialization.safe_globals([(value, name) for name, value in _STAND_INS.items()]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _refused_object(error: Exception) -> str | None:
    """Return the name of the Python object that the reader refused, if that was the reason."""
    found = re.search(r"GLOBAL (\S+)|(?:got|function) <(?:class|function) '?([\w.]+)", str(error))
    return found and (found[1] or found[2])
