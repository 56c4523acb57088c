"""The prepared images and labels of a table of cases.

Decoding and resampling a scan takes seconds, a crop of it milliseconds. A `VolumeStore` has the
work done once and then reads what a crop holds. `MemoryVolumes` does without a folder, and every
sample pays for its scan, except that the classes of one image in a row share it.
"""

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.store.digests import Digests, read_state
from neurosam3d.data.store.entries import (
    NAME_BYTES,
    Contents,
    Entry,
    EntryMaker,
    ImageFiles,
    Part,
    Sources,
    save,
)
from neurosam3d.data.store.prepared import ObjectMask, Preparation, PreparedImage

logger = logging.getLogger(__name__)

DIGEST_FOLDER = "digests"  # in the folder of the store

_KEY = np.dtype(f"V{NAME_BYTES}")  # a name, or the key of a state, which is as long


class Volumes(Protocol):
    """Where the prepared images and labels of a table of cases come from."""

    def image(self, index: int) -> PreparedImage:
        """Return the prepared image of a case.

        Raises:
            ValueError: If a file cannot be read, or the image has several channels.
        """

    def object_mask(self, index: int) -> ObjectMask:
        """Return the label of a case on the grid of its prepared image.

        Raises:
            ValueError: If a file cannot be read, or a label does not lie on its image's grid or has
                no foreground.
        """


class MemoryVolumes:
    """Prepares images and labels whenever they are wanted, and remembers the last image.

    Args:
        cases: The table.
        preparation: How images and labels are prepared.
    """

    def __init__(self, cases: CaseTable, preparation: Preparation) -> None:
        self._cases = cases
        self._preparation = preparation
        self._last: tuple[Path, PreparedImage] | None = None

    def image(self, index: int) -> PreparedImage:
        """Return the prepared image of a case; see `Volumes`."""
        path = self._cases[index].image
        if self._last is None or self._last[0] != path:
            self._last = path, self._preparation.prepare_image(path)
        return self._last[1]

    def object_mask(self, index: int) -> ObjectMask:
        """Return the label of a case; see `Volumes`."""
        case = self._cases[index]
        return self._preparation.prepare_object(case.label, image=case.image)


class VolumeStore:
    """Reads prepared images and labels from a folder, and makes there what is missing.

    Nothing in the folder is ever deleted. Any part of it may be, also while it is in use. Sources
    are hashed when they are first wanted, which only `build_store` remembers for other processes.

    Args:
        cases: The table. Those of its cases that have one image share an entry for their labels.
        preparation: How images and labels are prepared.
        cache_dir: The folder.
    """

    def __init__(self, cases: CaseTable, preparation: Preparation, *, cache_dir: Path) -> None:
        self.cases = cases
        self.maker = EntryMaker(
            preparation, cache_dir=cache_dir, digests=Digests.load(cache_dir / DIGEST_FOLDER)
        )
        self._known = _KnownNames(len(cases), cases.num_images)

    def files(self, image: int) -> ImageFiles:
        """Return the files of an image, given by its number in the table."""
        cases = [self.cases[row] for row in self.cases.rows_of_image(image)]
        return ImageFiles(cases[0].image, tuple(case.label for case in cases))

    def image(self, index: int) -> PreparedImage:
        """Return the prepared image of a case; see `Volumes`."""
        entry = self._entry(index, Part.IMAGE)
        return PreparedImage(entry.array("voxels"), np.array(entry.contents.about["affine"]))

    def object_mask(self, index: int) -> ObjectMask:
        """Return the label of a case; see `Volumes`.

        The labels of its image's other classes may be made with it, and must be fit, too.
        """
        entry = self._entry(index, Part.LABELS)
        number = self.cases.rows_of_image(self.cases.image_of(index)).index(index)
        place = entry.contents.about["objects"][number]
        voxels, foreground = (entry.array(f"{number}.{name}") for name in ("voxels", "foreground"))
        return ObjectMask(voxels, foreground, tuple(place["start"]), tuple(place["center"]))

    def _entry(self, index: int, part: Part) -> Entry:
        image = self.cases.image_of(index)
        path = self.maker.path(part, self._names(index, image)[part])
        return Entry(path, lambda: self._made(image, part))

    def _names(self, index: int, image: int) -> Mapping[Part, bytes]:
        """Name the entries of a case; while its two files stay as they are, nothing is hashed."""
        case = self.cases[index]
        keys = read_state(case.image).key, read_state(case.label).key
        names = self._known.recall(index, image, keys)
        if names is None:
            sources = self.maker.find_sources(self.files(image))
            names = sources.names
            if sources.is_settled:
                self._known.remember(self.cases.rows_of_image(image), image, sources)
        return names

    def _made(self, image: int, part: Part) -> Contents:
        path, contents = self.maker.make(self.files(image), part)
        try:
            save(path, contents)
        except OSError as error:
            _warn_once(
                f"{error.strerror}: nothing can be written to cache_dir {self.maker.cache_dir}, "
                "so what is missing there is prepared for every sample, which is slow"
            )
        return contents


@lru_cache(maxsize=8)
def _warn_once(sentence: str) -> None:
    logger.warning(sentence)


class _KnownNames:
    """What was found out for each image, in 16 bytes a case and 48 an image.

    A copy for another process begins empty: it would be private memory, and is soon found again.
    """

    def __init__(self, num_cases: int, num_images: int) -> None:
        self._labels = np.zeros(num_cases, _KEY)  # keys of the labels' states
        self._images = np.zeros((num_images, 3), _KEY)  # key of the image's state, and the names

    def __reduce__(self) -> tuple[Callable[[int, int], "_KnownNames"], tuple[int, int]]:
        return _KnownNames, (len(self._labels), len(self._images))

    def recall(
        self, index: int, image: int, keys: tuple[bytes, bytes]
    ) -> Mapping[Part, bytes] | None:
        """Return the names for a case, unless one of its two files has another state now."""
        key, *names = (value.tobytes() for value in self._images[image])
        if (key, self._labels[index].tobytes()) != keys:
            return None
        return dict(zip(Part, names, strict=True))

    def remember(self, rows: list[int], image: int, sources: Sources) -> None:
        """Keep the names for all cases of an image."""
        key, *label_keys = sources.keys
        self._labels[rows] = np.array(label_keys, _KEY)
        self._images[image] = np.array([key, *(sources.names[part] for part in Part)], _KEY)
