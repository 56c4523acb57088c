"""Entries of the store: how they are named, made, and read.

An image has two: its voxels, and the masks of its objects. Each is a file that is named by what it
depends on: the bytes of the sources, how they are prepared, and the version of the format. So what
has changed is made anew, and what was made is found from a tree that was moved or copied.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurosam3d.data.store.chunks import DamagedFileError, Window, read_chunks, write_chunks
from neurosam3d.data.store.digests import Digests, FileState, read_state
from neurosam3d.data.store.prepared import Array, Preparation

logger = logging.getLogger(__name__)

_FORMAT = 2  # counts up when entries of older versions must not be read
NAME_BYTES = 16


class Part(Enum):
    """The two entries of an image, by the suffix of their files."""

    IMAGE = ".image"
    LABELS = ".labels"


class ImageFiles(NamedTuple):
    """The files of an image and of its objects.

    Args:
        image: The image.
        labels: A label for each object, in the order of the entry.
    """

    image: Path
    labels: tuple[Path, ...]


@dataclass(frozen=True)
class Sources:
    """What files hold now.

    Args:
        keys: Those of the files' states, the image's first.
        names: Names of the entries that belong to the content.
        is_settled: Whether a change would show in the states.
    """

    keys: tuple[bytes, ...]
    names: Mapping[Part, bytes]
    is_settled: bool = field(compare=False)


class Contents(NamedTuple):
    """What an entry holds.

    Args:
        arrays: Arrays by name.
        about: What else is known of them, as JSON.
    """

    arrays: Mapping[str, Array]
    about: Mapping[str, Any]


class EntryMaker:
    """Names and makes the entries of images.

    Args:
        preparation: How images and labels are prepared.
        cache_dir: Folder of the store.
        digests: Digests of source files.
    """

    def __init__(self, preparation: Preparation, *, cache_dir: Path, digests: Digests) -> None:
        self.preparation = preparation
        self.cache_dir = cache_dir
        self.digests = digests

    def path(self, part: Part, name: bytes) -> Path:
        """Return the path of an entry; many folders share them, since a listing is slow."""
        return self.cache_dir / name.hex()[:2] / f"{name.hex()}{part.value}"

    def find_sources(self, files: ImageFiles) -> Sources:
        """Say what files hold now; those unknown are hashed.

        Raises:
            ValueError: If one cannot be read.
        """
        found = [self.digests.find(path) for path in (files.image, *files.labels)]
        return self._name([state for state, _ in found], [digest for _, digest in found])

    def is_made(self, files: ImageFiles) -> bool:
        """Tell whether the entries of files are there, so far as is known without hashing.

        Raises:
            ValueError: If a file is missing.
        """
        states = [read_state(path) for path in (files.image, *files.labels)]
        digests = [digest for state in states if (digest := self.digests.look_up(state))]
        if len(digests) < len(states):
            return False
        names = self._name(states, digests).names
        return all(self.path(part, name).is_file() for part, name in names.items())

    def make(self, files: ImageFiles, part: Part) -> tuple[Path, Contents]:
        """Prepare what an entry holds.

        Returns:
            The path it belongs to, and the contents, whose arrays are numpy's.

        Raises:
            ValueError: If a file cannot be read or prepared, or changes meanwhile.
        """
        sources = self.find_sources(files)
        contents = self._image(files) if part is Part.IMAGE else self._labels(files)
        if self.find_sources(files) != sources:
            raise ValueError(f"files must not change while they are read, got {files.image}")
        return self.path(part, sources.names[part]), contents

    def _image(self, files: ImageFiles) -> Contents:
        image = self.preparation.prepare_image(files.image)
        return Contents({"voxels": image.voxels}, {"affine": image.affine.tolist()})

    def _labels(self, files: ImageFiles) -> Contents:
        arrays: dict[str, Array] = {}
        objects = []
        for number, path in enumerate(files.labels):
            mask = self.preparation.prepare_object(path, image=files.image)
            arrays |= {f"{number}.voxels": mask.voxels, f"{number}.foreground": mask.foreground}
            objects.append({"start": mask.start, "center": mask.center})
        return Contents(arrays, {"objects": objects})

    def _name(self, states: Sequence[FileState], digests: Sequence[bytes]) -> Sources:
        image, *labels = (digest.hex() for digest in digests)
        return Sources(
            keys=tuple(state.key for state in states),
            names={
                Part.IMAGE: _hash("image", *self.preparation.of_images, image),
                Part.LABELS: _hash("labels", *self.preparation.of_labels, image, labels),
            },
            is_settled=all(state.is_settled for state in states),
        )


def _hash(*content: object) -> bytes:
    text = json.dumps([_FORMAT, *content])
    return hashlib.sha256(text.encode()).digest()[:NAME_BYTES]


def save(path: Path, contents: Contents) -> None:
    """Write an entry; the file appears whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    arrays = {name: np.asarray(array) for name, array in contents.arrays.items()}
    write_chunks(path, arrays, about={**contents.about, "file": path.name})


def _open(path: Path) -> Contents:
    contents = Contents(*read_chunks(path))
    if contents.about["file"] != path.name:
        raise DamagedFileError(f"it is a copy of {contents.about['file']}")
    return contents


class Entry:
    """An entry that is made if it is missing, and again when a part of it is found damaged.

    Args:
        path: The file.
        make: Makes the contents, and the file if it can. They are used from memory, so a full or
            failing disk costs time, not the run.
    """

    def __init__(self, path: Path, make: Callable[[], Contents]) -> None:
        self._path = path
        self._make = make
        try:
            self.contents = _open(path)
        except FileNotFoundError:
            self.contents = make()
        except (DamagedFileError, OSError) as error:
            self._make_anew(error)

    def array(self, name: str) -> Array:
        """Return one of the arrays; all that is read of it is verified."""
        return _EntryArray(self, name)

    def read(self, name: str, window: Window) -> np.ndarray:
        """Read a window of one of the arrays."""
        try:
            return self.contents.arrays[name][window]
        except (DamagedFileError, OSError) as error:
            self._make_anew(error)
            return self.contents.arrays[name][window]

    def _make_anew(self, error: Exception) -> None:
        logger.warning("cache entry %s is damaged and made anew: %s", self._path, error)
        self.contents = self._make()


@dataclass(frozen=True)
class _EntryArray:
    """An array of an entry, wherever that has it when it is read."""

    entry: Entry
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.contents.arrays[self.name].shape

    def __getitem__(self, window: Window) -> np.ndarray:
        return self.entry.read(self.name, window)
