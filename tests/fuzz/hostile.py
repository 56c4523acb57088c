"""Files made to harm: code in pickles, YAML and Python, bombs, numbers that no memory holds.

Each function writes one into a folder. Code, if it ran, would touch the file `canary` beside it.
"""

import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.freesurfer.mghformat import header_dtype as mgh_header

CANARY = "canary"

_MEGABYTES = 1 << 20
_TIMES = 160  # of 64 MiB: ten gigabytes
_NPY = np.lib.format


class Call:
    """Pickles into a call of a function."""

    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def touch(folder: Path) -> Call:
    """Return what pickles into a call that touches the canary."""
    return Call(os.system, f"touch {folder / CANARY}")


# Bombs: ten gigabytes of zeros in ten megabytes


@cache
def _zeros_gz() -> bytes:
    return gzip.compress(bytes(64 * _MEGABYTES), 1) * _TIMES


def _nifti_start(shape: tuple[int, int, int], *, offset: float = 352) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.set_sform(np.diag([1.0, 2.0, 3.0, 1.0]), 1)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    return header.binaryblock + bytes(4)


def nifti_bomb(folder: Path, *, shape: tuple[int, int, int], offset: float = 352) -> Path:
    """A NIfTI file that goes on with zeros, whatever its header says."""
    path = folder / "a.nii.gz"
    path.write_bytes(gzip.compress(_nifti_start(shape, offset=offset)) + _zeros_gz())
    return path


def nifti_short(folder: Path) -> Path:
    """A header alone that asks for thirty-five terabytes."""
    path = folder / "a.nii"
    path.write_bytes(_nifti_start((32767, 32767, 32767)) + bytes(99))
    return path


def mgz_bomb(folder: Path) -> Path:
    """A packed MGH file of a few voxels that goes on with zeros."""
    header = np.zeros(1, mgh_header)
    header["version"], header["dims"], header["delta"] = 1, (7, 6, 5, 1), 1
    path = folder / "a.mgz"
    path.write_bytes(gzip.compress(header.tobytes()) + _zeros_gz())
    return path


def nrrd_bomb(folder: Path) -> Path:
    """A NRRD file of a few voxels that goes on with zeros."""
    path = folder / "a.nrrd"
    text = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 7 6 5\nencoding: gzip\n\n"
    path.write_bytes(text.encode() + _zeros_gz())
    return path


def mha_bomb(folder: Path, *, sides: str = "7 6 5") -> Path:
    """A MetaImage that goes on with zeros."""
    path = folder / "a.mha"
    text = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
        f"DimSize = {sides}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(text.encode() + _zeros_gz())
    return path


def nrrd_of_a_device(folder: Path) -> Path:
    """A header whose voxels are in a file without an end."""
    path = folder / "a.nhdr"
    path.write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 20000 20000 20000\nencoding: raw\n"
        "data file: /dev/zero\n"
    )
    return path


META = "ObjectType = Image\nNDims = 3\nDimSize = 7 6 5\nElementType = MET_FLOAT\n"
NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 7 6 5\nencoding: raw\n"
# Names that C's printf takes for orders to read and write the program's memory.
FORMATS = {
    "a.mha": META + "ElementDataFile = %s%n%d\n",
    "b.mhd": META + "ElementDataFile : %s%s%n\n",
    "a.nhdr": NRRD + "data file: a%d%n%s.raw 1 5 1\n",
    "b.nhdr": NRRD + "datafile: %9999999d.raw 1 5 1\n",
    "c.nhdr": NRRD + "# far\n" * 200_000 + "data file: a%d%n%s.raw 1 5 1\n",
}


# Archives


def _deflated(archive: Path, name: str, start: bytes) -> Path:
    """Write a zip file of one entry: some bytes, then gigabytes of zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(64 * _MEGABYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    times = 60  # a size of 32 bits
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr(name, head + block * times + packer.flush())
    data = bytearray(archive.read_bytes())
    size = struct.pack("<I", len(start) + times * 64 * _MEGABYTES)
    central = data.rindex(b"PK\x01\x02")
    for place, first in ((0, 8), (central, 10)):
        data[place + first : place + first + 2] = struct.pack("<H", zipfile.ZIP_DEFLATED)
        data[place + first + 14 : place + first + 18] = size
    archive.write_bytes(data)
    return archive


def _npy_start(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    file = io.BytesIO()
    _NPY.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def npz_bomb(folder: Path, *, shape: tuple[int, int, int]) -> Path:
    """A case whose image goes on with zeros, whatever its header says."""
    return _deflated(folder / "a.npz", "imgs.npy", _npy_start(shape))


def npz_pickle_bomb(folder: Path) -> Path:
    """A case whose clicks are a text of gigabytes."""
    start = _npy_start((1,), "|O") + b"\x80\x04\x8d" + struct.pack("<Q", 3_900_000_000)
    return _deflated(folder / "a.npz", "clicks.npy", start)


def _npz(folder: Path, pickled: bytes) -> Path:
    path = folder / "a.npz"
    entries: dict[str, Any] = {"imgs": np.zeros((3, 5, 4), np.uint8), "spacing": np.ones(3)}
    np.savez(path, **entries)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("clicks.npy", _npy_start((1,), "|O") + pickled)
    return path


def npz_code(folder: Path) -> Path:
    """A case whose clicks are a call."""
    return _npz(folder, pickle.dumps(touch(folder)))


def npz_memo(folder: Path) -> Path:
    """A pickle that puts a value at place 2^31 of its memory of values."""
    return _npz(folder, b"\x80\x04]r" + struct.pack("<I", 2**31 - 1) + b".")


def npz_array(folder: Path) -> Path:
    """A pickle that asks for an array of eight gigabytes without its numbers."""
    call = Call(np.zeros(0).__reduce__()[0], np.ndarray, (2**33,), b"B")
    return _npz(folder, pickle.dumps(call))


def npz_laughs(folder: Path) -> Path:
    """A pickle of thirty lists, each of ten times the one before."""
    return _npz(folder, pickle.dumps(_laughs()))


def _laughs() -> list[Any]:
    value: list[Any] = ["ha"]
    for _ in range(30):
        value = [value] * 10
    return value


# Checkpoints


def checkpoint(folder: Path, content: Any, *, zipped: bool = True) -> Path:
    """A checkpoint of anything that pickles."""
    path = folder / "a.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def checkpoint_code(folder: Path, *, zipped: bool) -> Path:
    """A checkpoint with a call beside its weights."""
    weights = {"model.a.weight": torch.ones(2, 3)}
    return checkpoint(folder, {"state_dict": weights, "x": touch(folder)}, zipped=zipped)


def checkpoint_bomb(folder: Path) -> Path:
    """A checkpoint whose pickle is gigabytes of zeros."""
    return _deflated(folder / "a.pth", "a/data.pkl", b"\x80\x02")


def checkpoint_of_one_number(folder: Path) -> Path:
    """A network of terabytes, every weight the same number of four bytes."""
    one = torch.ones(1)
    names = [f"image_encoder.blocks.{n}.mlp.lin1.weight" for n in range(12)]
    return checkpoint(folder, {"model_state_dict": {n: one.expand(10**6, 10**6) for n in names}})


def checkpoint_of_many_axes(folder: Path) -> Path:
    """Hyper-parameters of a network that no memory holds."""
    values = {"model_type": "unetr", "crop_size": (4096, 4096, 4096), "num_classes": 2}
    weights = {"model.vit.patch_embedding.position_embeddings": torch.ones(1, 8, 768)}
    return checkpoint(folder, {"state_dict": weights, "hyper_parameters": values})


def checkpoint_laughs(folder: Path) -> Path:
    """Lists within lists beside the weights."""
    return checkpoint(folder, {"state_dict": {"a": torch.ones(9)}, "hyper_parameters": _laughs()})


def checkpoint_bytes(folder: Path) -> Path:
    """A pickle that asks for a terabyte of zeros."""
    return checkpoint(folder, {"a": torch.ones(1), "b": Call(bytearray, 10**12)}, zipped=False)


# Texts


def text(folder: Path, name: str, content: str) -> Path:
    """A text file."""
    path = folder / name
    path.write_text(content.replace("CANARY", str(folder / CANARY)), encoding="utf-8")
    return path


_LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
YAML = {
    "code": "data: !!python/object/apply:os.system ['touch CANARY']\n",
    "code by name": "data: !!python/name:os.system\nmodel: !!python/module:os\n",
    "laughs": _LAUGHS,
    "itself": "data: &a [*a]\nmodel: &b {c: *b}\n",
    "nested": "data: " + "- " * 20_000,
    "digits": "data: " + "9" * 100_000 + "\n",
}
JSON = {
    "nested": '{"objects": ' + "[" * 200_000,
    "nested, in balance": "[" * 800 + "]" * 800,
    "digits": '[{"volume": ' + "9" * 100_000 + "}]",
}
PYTHON = {
    "code": "dice_Ts = __import__('os').system('touch CANARY')\n",
    "code inside": "dice_Ts = {'a/b/c/d': __import__('os').system('touch CANARY')}\n",
    "nested": "dice_Ts = " + "(" * 5000 + ")" * 5000 + "\n",
    "product": "dice_Ts = {'a/b/c/d': 0.5, 'b': 'x' * 10**12}\n",
}
_OF_YAML = ("recipe", "model_cfg", "options of evaluate", "plan", "groups", "layout")
_OF_JSON = ("index", "prompts, JSON", "results, JSON", "label table")

Write = Callable[[Path], Path]
# What it is, which target reads it, and what writes it.
FILES: list[tuple[str, str, Write]] = [
    ("more voxels than announced", "NIfTI", partial(nifti_bomb, shape=(7, 6, 5))),
    ("ten gigabytes, as announced", "NIfTI", partial(nifti_bomb, shape=(2000, 2000, 2500))),
    ("voxels far behind", "NIfTI", partial(nifti_bomb, shape=(7, 6, 5), offset=2e9)),
    ("terabytes announced", "NIfTI", nifti_short),
    ("more voxels than announced", "NRRD, MetaImage, MGH", mgz_bomb),
    ("more voxels than announced", "NRRD, MetaImage, MGH", nrrd_bomb),
    ("more voxels than announced", "NRRD, MetaImage, MGH", mha_bomb),
    (
        "terabytes announced",
        "NRRD, MetaImage, MGH",
        partial(mha_bomb, sides="20000 20000 20000"),
    ),
    *[
        (f"format {name}", "NRRD, MetaImage, MGH", partial(text, name=name, content=content))
        for name, content in FORMATS.items()
    ],
    ("voxels of a device", "NRRD, MetaImage, MGH", nrrd_of_a_device),
    ("more voxels than announced", "challenge case", partial(npz_bomb, shape=(3, 5, 4))),
    ("four gigabytes, as announced", "challenge case", partial(npz_bomb, shape=(1500, 1600, 1600))),
    ("text of gigabytes", "challenge case", npz_pickle_bomb),
    ("code", "challenge case", npz_code),
    ("far place in memory", "challenge case", npz_memo),
    ("array without numbers", "challenge case", npz_array),
    ("laughs", "challenge case", npz_laughs),
    ("code, zip", "checkpoint", partial(checkpoint_code, zipped=True)),
    ("code, old pickle", "checkpoint", partial(checkpoint_code, zipped=False)),
    ("pickle of gigabytes", "checkpoint", checkpoint_bomb),
    ("one number for terabytes", "checkpoint", checkpoint_of_one_number),
    ("options of no network", "checkpoint", checkpoint_of_many_axes),
    ("laughs", "checkpoint", checkpoint_laughs),
    ("terabyte of zeros", "checkpoint", checkpoint_bytes),
    *[
        (f"{kind}, YAML", target, partial(text, name="a.yaml", content=content))
        for kind, content in YAML.items()
        for target in _OF_YAML
    ],
    *[
        (f"{kind}, JSON", target, partial(text, name="a.json", content=content))
        for kind, content in JSON.items()
        for target in _OF_JSON
    ],
    *[
        (f"{kind}, Python", "results", partial(text, name="a.py", content=content))
        for kind, content in PYTHON.items()
    ],
]
