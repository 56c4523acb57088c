"""Digests of source files, so that what is prepared from them can be named by their content.

Hashing terabytes at each start would take hours, so a digest is remembered under the state of its
file: path, size, inode, the time of the last change of its content, and of the last change at all.
Nobody can set back the second time, so an edit shows even where size and time are kept (but not on
Windows, where it is the time of creation).
"""

import hashlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neurosam3d.data.store.chunks import DamagedFileError, read_chunks, write_chunks

logger = logging.getLogger(__name__)

_KEY_BYTES = 16
_RECORD_BYTES = _KEY_BYTES + hashlib.sha256().digest_size
# Two changes within one tick of a file system's clock look like one. The longest tick is FAT's.
_LONGEST_TICK = 2.0  # seconds


@dataclass(frozen=True)
class FileState:
    """What the file system says of a file; another content comes with another state.

    Args:
        key: Hash of it.
        is_settled: Whether the last change is so long ago that another one would show.
    """

    key: bytes
    is_settled: bool


def read_state(path: Path) -> FileState:
    """Return the state of a file.

    Raises:
        ValueError: If there is no such file.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    numbers = f"{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns} "
    key = hashlib.blake2b(numbers.encode() + os.fsencode(path), digest_size=_KEY_BYTES).digest()
    age = time.time() - max(found.st_mtime, found.st_ctime)
    return FileState(key, is_settled=age > _LONGEST_TICK)


def hash_file(path: Path) -> bytes:
    """Return the SHA-256 of a file's bytes.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


class Digests:
    """Finds the digests of files, by memory if it can.

    What was loaded is held in tensors, which worker processes share.

    Args:
        records: (N, 48) uint8, each the key of a state and the SHA-256 of the file.

    Attributes:
        added: Key and digest of the files that were hashed since.
    """

    def __init__(self, records: np.ndarray) -> None:
        heads = records[:, :8].copy().view(np.int64)[:, 0]  # (N,), enough to tell keys apart
        order = heads.argsort()
        self._heads = torch.from_numpy(heads[order])
        self._records = torch.from_numpy(records[order])
        self.added: dict[bytes, bytes] = {}

    @classmethod
    def empty(cls) -> "Digests":
        """Begin without memory."""
        return cls(np.zeros((0, _RECORD_BYTES), np.uint8))

    @classmethod
    def load(cls, folder: Path) -> "Digests":
        """Read all that `save` has written to a folder; what is damaged there is left out."""
        parts = [np.zeros(0, np.uint8)]
        for path in sorted(folder.glob("[!.]*")):
            try:
                records = read_chunks(path)[0]["records"]
                parts.append(records[(slice(0, *records.shape),)])
            except (DamagedFileError, OSError) as error:
                logger.warning("%s is left out, so files are hashed again: %s", path, error)
        return cls(np.concatenate(parts).reshape(-1, _RECORD_BYTES))

    def save(self, path: Path) -> None:
        """Write what was added; every process needs a file of its own."""
        records = b"".join(key + digest for key, digest in self.added.items())
        write_chunks(path, {"records": np.frombuffer(records, np.uint8)}, about={})

    def look_up(self, state: FileState) -> bytes | None:
        """Return the digest of a file in this state, if it is remembered."""
        if state.key in self.added:
            return self.added[state.key]
        head = int(np.frombuffer(state.key, np.int64, count=1)[0])
        row = int(torch.searchsorted(self._heads, head))
        if row == len(self._heads):
            return None
        record = self._records[row].numpy().tobytes()
        return record[_KEY_BYTES:] if record.startswith(state.key) else None

    def find(self, path: Path) -> tuple[FileState, bytes]:
        """Return the state of a file and the digest of its content, which is hashed if need be.

        Raises:
            ValueError: If the file cannot be read.
        """
        state = read_state(path)
        digest = self.look_up(state)
        if digest is None:
            digest = hash_file(path)
            if state.is_settled:
                self.added[state.key] = digest
        return state, digest
