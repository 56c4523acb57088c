"""Digests that say whether a prepared file is whole, still up to date, and shown elsewhere, too.

Three questions, three digests, all SHA-256:

    file_sha256   is this file, byte by byte, the one that was written?
    hash_source   was it made from these raw files, asked for in this way?
    hash_content  is it the same picture, in whatever type, orientation and compression?
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from neurosam3d.data.prepare.raw_item import RawItem
from neurosam3d.volume import Volume, to_canonical

# Counted up when the same raw files come to be prepared differently, so that all are made anew.
_VERSION = 1
_DETACHED = (".mhd", ".nhdr")  # headers; the voxels are in a file beside them


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_content(image: Volume) -> str:
    """Digest of an image's shape and voxels, as float32 in the axis order nearest to RAS+.

    Args:
        image: (1, D, H, W).
    """
    # Adding 0 makes -0 a 0: an integer zero has no sign, so a float's may not count.
    voxels = to_canonical(image).data.float().add(0.0)
    digest = hashlib.sha256(repr(tuple(voxels.shape[1:])).encode())
    digest.update(voxels.numpy().astype("<f4", copy=False).data)
    return digest.hexdigest()


def hash_source(items: Sequence[RawItem]) -> str:
    """Digest of what a case is made from: its raw files' sizes and times, and what is asked for.

    Paths do not count, so that raw folders can be moved. A file that is replaced counts as
    changed even where the new one carries an older date.

    Args:
        items: The classes of one case.
    """
    image = items[0].image
    stamps = {path: _stamp(path) for path in dict.fromkeys([image, *(i.seg for i in items)])}
    classes = [(i.class_name, i.values, i.binary, i.threshold, stamps[i.seg]) for i in items]
    asked = [_VERSION, items[0].channel, stamps[image], classes]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _stamp(path: Path) -> list[tuple[str, int, int, int]]:
    """Name, size, and times of last change of each file that a volume consists of."""
    try:
        found = [(file.name, file.stat()) for file in sorted(_files(path))]
    except OSError as error:  # whoever reads it will tell
        return [(type(error).__name__, 0, 0, 0)]
    # The change time cannot be set back as the modification time is by many a copying program.
    return [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in found]


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.iterdir() if file.is_file())
        return
    yield path
    if path.suffix.lower() in _DETACHED:
        yield from (f for f in path.parent.iterdir() if f.stem == path.stem and f != path)
