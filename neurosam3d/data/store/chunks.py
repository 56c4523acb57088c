"""Arrays in one file, cut into compressed chunks that are verified whenever they are read.

Layout of a file, all numbers little-endian:

    preamble     name and version of the format, length of the description, number of chunks, and
                 the SHA-256 of these two numbers, the description and the table
    description  JSON: type and shape of each array, and whatever the writer adds
    table        length and CRC-32 of each chunk
    chunks       each compressed by Blosc2, one array after another, the last axis fastest

Every byte is under a checksum, which is compared before the byte is used: Blosc2 decompresses
damaged bytes without a word, and may crash on them.
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any, BinaryIO

import blosc2
import numpy as np

from neurosam3d.files import replacing

Window = tuple[slice, ...]  # one per axis, within the array, without steps

_MAGIC = b"NSAM3D\x00\x01"
_NUMBERS = struct.Struct("<QQ")  # length of the description, number of chunks
_PREAMBLE = len(_MAGIC) + _NUMBERS.size + hashlib.sha256().digest_size
_TABLE_ROW = np.dtype([("length", "<u4"), ("checksum", "<u4")])
# Sides of a chunk by the number of axes: 128 KiB of float32, which caches hold. Smaller chunks cost
# calls, larger ones are read and decompressed for the few voxels of them that a crop holds.
_CHUNK_SHAPES = {1: (32768,), 3: (32, 32, 32)}


class DamagedFileError(ValueError):
    """A file does not hold what was written to it."""


def write_chunks(path: Path, arrays: Mapping[str, np.ndarray], *, about: Mapping[str, Any]) -> None:
    """Write arrays; the file appears whole or not at all.

    Args:
        path: The file.
        arrays: Arrays of one or three axes, by name.
        about: What to remember with them, as JSON.
    """
    chunks: list[bytes] = []
    described = {}
    for name, array in arrays.items():
        described[name] = {
            "type": array.dtype.str,
            "shape": array.shape,
            "first": len(chunks),
        }
        chunks += _compress(array)
    description = json.dumps({"about": about, "arrays": described}).encode()
    table = np.array([(len(c), zlib.crc32(c)) for c in chunks], dtype=_TABLE_ROW)
    numbers = _NUMBERS.pack(len(description), len(chunks))
    header = description + table.tobytes()
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC + numbers + hashlib.sha256(numbers + header).digest() + header)
        file.writelines(chunks)


def _compress(array: np.ndarray) -> list[bytes]:
    """Compress the chunks of an array, in order."""
    sides = _CHUNK_SHAPES[array.ndim]
    starts = product(*(range(0, n, side) for n, side in zip(array.shape, sides, strict=True)))
    return [
        blosc2.compress2(
            np.ascontiguousarray(array[_window(start, sides)]),
            typesize=array.itemsize,
            codec=blosc2.Codec.LZ4,
            filters=[blosc2.Filter.SHUFFLE],
            clevel=5,
            nthreads=1,  # the processes share the processors; and threads do not survive a fork
        )
        for start in starts
    ]


def _window(start: tuple[int, ...], sides: tuple[int, ...]) -> Window:
    return tuple(slice(a, a + side) for a, side in zip(start, sides, strict=True))


class StoredArray:
    """One array of a file; reading a window of it reads the chunks that the window touches.

    Args:
        path: The file. It is opened for each window, so nothing stays open.
        dtype: Type of the array.
        shape: Its shape.
        places: Where in the file the chunks of the array begin, and where the last one ends.
        checksums: CRC-32 of each chunk.
    """

    def __init__(
        self,
        path: Path,
        *,
        dtype: np.dtype,
        shape: tuple[int, ...],
        places: Sequence[int],
        checksums: Sequence[int],
    ) -> None:
        self.shape = shape
        self._path = path
        self._dtype = dtype
        self._sides = _CHUNK_SHAPES[len(shape)]
        self._counts = _count_chunks(shape)
        self._places = places
        self._checksums = checksums

    def __getitem__(self, window: Window) -> np.ndarray:
        """Read a window.

        Raises:
            DamagedFileError: If a chunk is not what was written.
            OSError: If the file cannot be read.
        """
        result = np.empty([part.stop - part.start for part in window], self._dtype)
        if not result.size:
            return result
        *outer, last = (
            range(part.start // side, -(-part.stop // side))
            for part, side in zip(window, self._sides, strict=True)
        )
        with self._path.open("rb") as file:
            for position in product(*outer):
                # Neighbours along the last axis are neighbours in the file: one read for all.
                first = int(np.ravel_multi_index((*position, last.start), self._counts))
                for number, chunk in zip(last, self._read(file, first, len(last)), strict=True):
                    self._copy(chunk, (*position, number), window, result)
        return result

    def _read(self, file: BinaryIO, first: int, count: int) -> Iterator[memoryview]:
        """Read neighbouring chunks, still compressed, and verify them."""
        places = self._places[first : first + count + 1]
        file.seek(places[0])
        run = memoryview(file.read(places[-1] - places[0]))
        for number, (start, stop) in enumerate(pairwise(places), start=first):
            chunk = run[start - places[0] : stop - places[0]]
            if zlib.crc32(chunk) != self._checksums[number]:
                raise DamagedFileError(f"chunk {number} is not what was written")
            yield chunk

    def _copy(
        self, compressed: memoryview, position: tuple[int, ...], window: Window, result: np.ndarray
    ) -> None:
        """Decompress a chunk and copy the part of it that the window holds."""
        axes = list(zip(position, self._sides, self.shape, window, strict=True))
        chunk = np.empty([min(side, n - k * side) for k, side, n, _ in axes], self._dtype)
        blosc2.decompress2(compressed, dst=chunk, nthreads=1)
        source, target = [], []
        for length, (k, side, _, part) in zip(chunk.shape, axes, strict=True):
            origin = k * side
            start, stop = max(part.start, origin), min(part.stop, origin + length)
            source.append(slice(start - origin, stop - origin))
            target.append(slice(start - part.start, stop - part.start))
        result[tuple(target)] = chunk[tuple(source)]


def read_chunks(path: Path) -> tuple[dict[str, StoredArray], dict[str, Any]]:
    """Open a file that `write_chunks` has written.

    Returns:
        Its arrays by name, of which nothing is read yet, and what was remembered with them.

    Raises:
        DamagedFileError: If its description is not what was written.
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        preamble = file.read(_PREAMBLE)
        magic, numbers = preamble[: len(_MAGIC)], preamble[len(_MAGIC) :][: _NUMBERS.size]
        if magic != _MAGIC or len(preamble) < _PREAMBLE:
            raise DamagedFileError("it does not begin as a file of the store does")
        length, num_chunks = _NUMBERS.unpack(numbers)
        size = length + num_chunks * _TABLE_ROW.itemsize
        header = file.read(size) if size < path.stat().st_size else b""
    if hashlib.sha256(numbers + header).digest() != preamble[-hashlib.sha256().digest_size :]:
        raise DamagedFileError("its description is not what was written")
    description = json.loads(header[:length])
    table = np.frombuffer(header, _TABLE_ROW, offset=length)
    ends = _PREAMBLE + size + np.cumsum(table["length"], dtype=np.int64)
    places = [_PREAMBLE + size, *ends.tolist()]
    checksums = table["checksum"].tolist()
    arrays = {}
    for name, array in description["arrays"].items():
        shape, first = tuple(array["shape"]), array["first"]
        last = first + math.prod(_count_chunks(shape))
        arrays[name] = StoredArray(
            path,
            dtype=np.dtype(array["type"]),
            shape=shape,
            places=places[first : last + 1],
            checksums=checksums[first:last],
        )
    return arrays, description["about"]


def _count_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // side) for n, side in zip(shape, _CHUNK_SHAPES[len(shape)], strict=True))
