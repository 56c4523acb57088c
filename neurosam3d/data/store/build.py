"""Build the store of a table of cases before it is needed, in parallel.

What is there is left alone, so a build that was interrupted goes on where it stopped. Nodes that
share a folder begin at different images, and each leaves out what another has finished.
"""

import logging
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from neurosam3d.data.prepare.progress import run_jobs
from neurosam3d.data.store.digests import Digests
from neurosam3d.data.store.entries import EntryMaker, ImageFiles, Part, save
from neurosam3d.data.store.prepared import Preparation
from neurosam3d.data.store.volumes import DIGEST_FOLDER, VolumeStore
from neurosam3d.files import clear_abandoned

logger = logging.getLogger(__name__)

_SAVE_SECONDS = 60.0  # how much hashing a kill may cost
_NAMED = 3  # problems that are told in full


def build_store(
    store: VolumeStore, *, workers: int, title: str, node: int = 0, num_nodes: int = 1
) -> None:
    """Make the entries that a store lacks.

    Args:
        store: The store.
        workers: Number of processes; 1 works in this one.
        title: What the progress bar is called.
        node: Number of this machine, counted from 0, of those that build at the same time.
        num_nodes: Number of those machines.

    Raises:
        ValueError: If the folder cannot be written to, or, after everything else is made, if
            a source cannot be prepared.
    """
    missing = [image for image in range(store.cases.num_images) if not _is_made(store, image)]
    if not missing:
        return
    first = len(missing) * node // num_nodes
    jobs = _Jobs(store, missing[first:] + missing[:first])
    maker = store.maker
    _clear_abandoned(maker.cache_dir)
    function = partial(_build_image, preparation=maker.preparation, cache_dir=maker.cache_dir)
    memory = maker.cache_dir / DIGEST_FOLDER / uuid.uuid4().hex
    problems, saved_at = [], time.monotonic()
    try:
        for _, (digests, problem) in run_jobs(function, jobs, workers=workers, title=title):
            maker.digests.added.update(digests)
            problems += [problem] if problem else []
            if time.monotonic() > saved_at + _SAVE_SECONDS:
                _save(maker.digests, memory)
                saved_at = time.monotonic()
    finally:
        _save(maker.digests, memory)
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(jobs)} images cannot be prepared for the cache: "
            f"{'; '.join(sorted(problems)[:_NAMED])}"
        )


class _Jobs(Sequence[ImageFiles]):
    """The files of some images of a store, looked up when it is their turn."""

    def __init__(self, store: VolumeStore, images: Sequence[int]) -> None:
        self._store = store
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> ImageFiles:  # type: ignore[override]
        return self._store.files(self._images[position])


def _is_made(store: VolumeStore, image: int) -> bool:
    try:
        return store.maker.is_made(store.files(image))
    except ValueError:
        return False  # what is wrong is said when it is made


def _build_image(
    files: ImageFiles, *, preparation: Preparation, cache_dir: Path
) -> tuple[dict[bytes, bytes], str]:
    """Make the missing entries of one image; return the digests found, and what is wrong."""
    maker = EntryMaker(preparation, cache_dir=cache_dir, digests=Digests.empty())
    try:
        names = maker.find_sources(files).names
        for part in Part:
            if not maker.path(part, names[part]).is_file():
                save(*maker.make(files, part))
    except ValueError as error:
        return maker.digests.added, str(error)
    except OSError as error:
        raise ValueError(
            f"{error.strerror}: nothing can be written to cache_dir {cache_dir}; make room there, "
            "or name a folder on another disk"
        ) from error
    return maker.digests.added, ""


def _clear_abandoned(cache_dir: Path) -> None:
    """Remove what killed builders have left unfinished, as far as it is ours to remove."""
    with suppress(OSError):
        for folder in (*cache_dir.glob("[0-9a-f]" * 2), cache_dir / DIGEST_FOLDER):
            clear_abandoned(folder, below=False)


def _save(digests: Digests, path: Path) -> None:
    if not digests.added:
        return
    try:
        digests.save(path)
    except OSError as error:
        logger.warning("%s: %s cannot be written, files will be hashed again", error.strerror, path)
