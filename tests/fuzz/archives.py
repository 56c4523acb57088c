"""Ways to damage what lies inside a checkpoint or an archive of arrays, so that it still opens."""

import io
import pickle
import zipfile
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.fuzz.mutations import damage_bytes, damage_value

_TENSORS = (
    torch.zeros(0),
    torch.full((2, 3), torch.nan),
    torch.ones(1).expand(10**6, 10**6),  # a terabyte that takes four bytes
    torch.ones(3, 4, dtype=torch.complex64),
    torch.ones(2, dtype=torch.bool),
    torch.eye(3).to_sparse(),
    torch.zeros(1, 9, 9, 9, 384),
)


def damage_checkpoint(content: bytes, random: Random) -> bytes:
    """Change the values and tensors of a pickled checkpoint, and write it in either form."""
    if content[8:9] == b"{":  # safetensors
        return damage_bytes(content, random)
    saved = torch.load(io.BytesIO(content), weights_only=True)
    changed = _with_odd_tensors(damage_value(saved, random), random)
    file = io.BytesIO()
    torch.save(changed, file, _use_new_zipfile_serialization=random.random() < 0.7)
    return file.getvalue()


def _with_odd_tensors(value: Any, random: Random, share: float = 0.05) -> Any:
    """Put odd tensors in place of some."""
    if isinstance(value, dict):
        return {key: _with_odd_tensors(item, random) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_odd_tensors(item, random) for item in value]
    return (
        random.choice(_TENSORS) if isinstance(value, Tensor) and random.random() < share else value
    )


def damage_npz(content: bytes, random: Random) -> bytes:
    """Change one array of an archive, or its bytes, or its name; the checksums agree."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(entries))
    kind = random.choice(("bytes", "name", "twice", "array", "objects", "gone"))
    if kind == "bytes":
        entries[name] = damage_bytes(entries[name], random)
    elif kind == "name":
        entries[random.choice(("../../x.npy", "/x.npy", "x", "imgs.npy", ".npy"))] = entries.pop(
            name
        )
    elif kind == "twice":
        entries[name] = entries[name] * 2
    elif kind == "array":
        entries[name] = _npy(random.choice(_odd_arrays()))
    elif kind == "objects":
        entries[name] = _npy_objects(damage_value([{"fg": [[1, 2, 3]], "bg": []}], random))
    else:
        del entries[name]
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_LZMA))
    ) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def _odd_arrays() -> list[np.ndarray]:
    return [
        *(np.zeros((0, 3, 3)), np.zeros((3, 5, 4), complex), np.full((3, 5, 4), np.nan)),
        *(np.array("text"), np.array(["a", "b"]), np.zeros((3, 5, 4), "f2"), np.array(-1.0)),
        *(np.full(3, 1e308), np.zeros(3, "M8[s]"), np.zeros(2, [("a", "i4")]), np.zeros((1,) * 32)),
    ]


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _npy_objects(value: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|O", "fortran_order": False, "shape": (1,)}
    )
    return file.getvalue() + pickle.dumps(value, protocol=4)
