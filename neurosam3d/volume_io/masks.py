"""Compress masks, which are nearly empty: fast, small, and the same bytes for the same mask.

A slice without a voxel always compresses to the same bytes, so that is done once. What is left is
run lengths, for which zlib has a strategy of its own. The result is an ordinary gzip file.
"""

import struct
import zlib

import numpy as np

_START = b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # gzip, deflate, without name and date
_END = b"\x03\x00"  # the last block, empty


def gzip_mask(header: bytes, mask: np.ndarray) -> bytes:
    """Return a compressed volume file.

    Args:
        header: What comes before the voxels.
        mask: (D, H, W) or (D, H, W, C) uint8, mostly zeros. Quickest if it lies in memory as in
            the file, axis D next to each other.
    """
    slices = np.ascontiguousarray(mask.T)  # (W, H, D) or (C, W, H, D)
    nothing = _deflate(bytes(slices[0].nbytes))
    blocks = (_deflate(voxels.data) if voxels.any() else nothing for voxels in slices)
    checksum = zlib.crc32(slices.data, zlib.crc32(header))
    size = (len(header) + slices.nbytes) % (1 << 32)
    end = _END + struct.pack("<LL", checksum, size)
    return b"".join((_START, _deflate(header), *blocks, end))


def _deflate(data: bytes | memoryview) -> bytes:
    """Compress into blocks that refer to nothing before them and end on a byte."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH)
