"""Checksums of compressed files, which nibabel and ITK do not look at.

Both stop at the last voxel, so that a flipped byte would pass for a voxel. Nothing guards a file
that is not compressed.
"""

import io
import os
import re
import zlib
from pathlib import Path

_TOO_SHORT = "the data end too early"
_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20
_SURPLUS = 1 << 24  # bytes that may follow the voxels: tags, padding, what tools leave behind
_EITHER = 32 + zlib.MAX_WBITS  # zlib tells a gzip from a zlib stream
# Where the text header ends; a MetaImage names the file of the voxels in its last line.
_NRRD_END = re.compile(rb"\r?\n\r?\n")
_META_END = re.compile(rb"^ElementDataFile *= *(.*?) *\r?\n", re.MULTILINE)
_NRRD_FILE = re.compile(rb"^data ?file: *(.*?) *\r?$", re.MULTILINE)
_RAW = re.compile(rb"^(encoding: *raw|BinaryData *= *True)", re.MULTILINE | re.IGNORECASE)
_COMPRESSED = re.compile(rb"^(encoding: *gz|CompressedData *= *True)", re.MULTILINE | re.IGNORECASE)


def decompress(data: bytes, start: int = 0, *, announced: int) -> io.BytesIO:
    """Decompress gzip or zlib data to their end, where the checksum stands.

    What `gzip` puts up with passes: several members in a row, zeros that fill up a block, and
    other bytes after the last member.

    Args:
        data: What is compressed, from byte `start` on.
        announced: How many bytes the header says that they are. Far more are a trap: a thousandfold
            of what the file takes fits in.

    Raises:
        EOFError: If the data end too early.
        ValueError: If they go on far beyond what was announced.
        zlib.error: If a checksum or the data are wrong.
    """
    content = io.BytesIO()
    while True:
        stream = zlib.decompressobj(_EITHER)
        while not stream.eof:
            block = data[start : start + _BLOCK]
            voxels = stream.decompress(block, _SURPLUS)
            if not block and not voxels and not stream.eof:
                raise EOFError("the compressed data end too early")
            content.write(voxels)
            if content.tell() > announced + _SURPLUS:
                raise ValueError(f"the data go on after the {announced} bytes of its header")
            # At its end a stream has what follows in both.
            start += len(block) - len(stream.unused_data if stream.eof else stream.unconsumed_tail)
        while data[start : start + 1] == b"\0":
            start += 1
        if not data.startswith(_GZIP, start):
            content.seek(0)
            return content


def check_itk_file(path: Path, *, announced: int) -> None:
    """Compare the checksum of the voxels of a NRRD or MetaImage file, if they are compressed, and
    their number, if they lie behind their header as they are.

    Voxels that a header spreads over several files are left to ITK.

    Args:
        path: The file.
        announced: How many bytes its header says that the voxels are.

    Raises:
        EOFError: If the data end too early.
        ValueError: If they go on far beyond what was announced.
        zlib.error: If a checksum or the data are wrong.
    """
    data = path.read_bytes()
    is_nrrd = data.startswith(b"NRRD")
    end = (_NRRD_END if is_nrrd else _META_END).search(data)
    header = data[: end.end()] if end else data
    place = _NRRD_FILE.search(header) if is_nrrd else end
    is_inside = place is None or place[1] == b"LOCAL"
    if not _COMPRESSED.search(header):
        is_short = len(data) - len(header) < announced
        if is_inside and _RAW.search(header) and is_short:
            raise EOFError(_TOO_SHORT)
        return
    if place is None or is_inside:
        voxels = decompress(data, len(header), announced=announced)
    elif (other := path.parent / os.fsdecode(place[1])).is_file():
        voxels = decompress(other.read_bytes(), announced=announced)
    else:
        return
    if voxels.getbuffer().nbytes < announced:
        raise EOFError(_TOO_SHORT)  # ITK would take memory for what is not there
