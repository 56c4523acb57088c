"""Images and labels as the crops need them: canonical, resampled, intensities prepared.

Decoding and resampling a scan takes seconds, a crop of it milliseconds. With a folder for the
cache the work is done once per scan; after that a crop reads only its own voxels, from a
memory-mapped file. Without one every sample pays for its scan, except that the classes of one
image in a row share it.

Entries are named by what they depend on: the file's path, time and size, and the options. So a
file that changes is read anew. A damaged entry is made again; nothing is ever deleted.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosam3d.data.index import Case
from neurosam3d.data.tree import SUFFIX, read_json, write_json
from neurosam3d.files import replacing
from neurosam3d.intensity import INTENSITY_PRESETS, prepare_volume
from neurosam3d.volume import (
    Mode,
    Spacing,
    Triple,
    Volume,
    read_grid,
    read_volume,
    resample,
    splat_foreground,
    to_canonical,
)

logger = logging.getLogger(__name__)

Entry = tuple[Volume, dict[str, Any]]  # voxels, and what else is known of them

_FORMAT = 1  # counts up when entries of older versions must not be read
# What loading a truncated or damaged entry raises: EOFError an empty file, TypeError other JSON.
_DAMAGE = (ValueError, OSError, EOFError, KeyError, TypeError)


@dataclass(frozen=True)
class ObjectMask:
    """The label of one object, cut to its bounding box.

    Args:
        box: (1, D, H, W) uint8, the voxels of the bounding box.
        start: Index of the box's first voxel in the prepared image.
        counts: Foreground voxels in each slice of the box along D.
        center: Index in the box of the foreground voxel nearest to the centre of mass.
    """

    box: Volume
    start: Triple
    counts: tuple[int, ...]
    center: Triple

    def middle_of_box(self) -> Triple:
        """Return the middle voxel of the box, which need not be foreground."""
        d, h, w = self.box.shape
        return d // 2, h // 2, w // 2

    def draw_voxel(self) -> Triple:
        """Draw one foreground voxel of the box, all equally likely; one slice is read."""
        ends = np.cumsum(self.counts)
        number = int(torch.randint(int(ends[-1]), ()))
        d = int(np.searchsorted(ends, number, side="right"))
        rank = number - (int(ends[d - 1]) if d else 0)  # among the foreground of slice d
        plane = self.box.data[0, d].numpy()  # (H, W)
        h, w = divmod(int(np.flatnonzero(plane)[rank]), plane.shape[1])
        return d, h, w


class VolumeStore:
    """Prepares images and labels, and remembers them.

    Args:
        spacing: Voxel size in mm to resample to; None keeps each scan's own.
        intensity: Intensity preset, whose volume stage is applied.
        cache_dir: Folder of the cache, about 4 bytes per voxel of an image; None remembers only
            the last image, in memory.
    """

    def __init__(self, *, spacing: Spacing | None, intensity: str, cache_dir: Path | None) -> None:
        self.spacing = spacing
        self.intensity = intensity
        self.cache_dir = cache_dir
        self._last: tuple[Path, Volume] | None = None

    def image(self, case: Case) -> Volume:
        """Return the prepared image of a case, (1, D, H, W) float32.

        Raises:
            ValueError: If the file cannot be read or has several channels.
        """
        if self.cache_dir is None:
            if self._last is None or self._last[0] != case.image:
                self._last = case.image, self._prepare_image(case)
            return self._last[1]
        # Presets that leave the whole scan alone share their entries.
        stage = INTENSITY_PRESETS[self.intensity].volume_stage.__name__
        return self._cached(case.image, stage, lambda: (self._prepare_image(case), {}))[0]

    def object_mask(self, case: Case) -> ObjectMask:
        """Return the label of a case on the grid of its prepared image.

        An object that falls between the voxels of that grid is kept as the voxels nearest to it.

        Raises:
            ValueError: If the file cannot be read, does not lie on its image's grid, or has no
                foreground.
        """

        def prepare() -> Entry:
            return self._prepare_object(case)

        box, place = prepare() if self.cache_dir is None else self._cached(case.label, "", prepare)
        start, counts, center = (tuple(place[key]) for key in ("start", "counts", "center"))
        return ObjectMask(box, start, counts, center)

    def _prepare_image(self, case: Case) -> Volume:
        volume = read_volume(case.image, dtype=torch.float32)
        if len(volume.data) != 1:
            channels = len(volume.data)
            raise ValueError(f"a prepared image has one channel, got {channels} in {case.image}")
        volume = Volume(prepare_volume(volume.data, self.intensity), volume.affine)
        return self._to_working_grid(volume, mode="linear")

    def _prepare_object(self, case: Case) -> Entry:
        label = read_volume(case.label)
        if not label.grid.same_as(read_grid(case.image)):
            raise ValueError(f"a label lies on its image's grid, got {case.label}: prepare it anew")
        mask = Volume((label.data > 0).to(torch.uint8), label.affine)
        if not mask.data.any():
            raise ValueError(f"a label has foreground, {case.label} has none: prepare it anew")
        on_grid = self._to_working_grid(mask, mode="nearest")
        if not on_grid.data.any():  # smaller or thinner than a voxel, and between two of them
            on_grid = splat_foreground(mask, on_grid.grid)
        start, stop = _bounding_box(on_grid.data[0].numpy())
        d, h, w = (slice(a, b) for a, b in zip(start, stop, strict=True))
        voxels = on_grid.data[:, d, h, w].contiguous()
        place = {
            "start": start,
            "counts": voxels.sum(dim=(0, 2, 3)).tolist(),
            "center": _central_voxel(voxels[0].numpy()),
        }
        return Volume(voxels, on_grid.grid.window(start, voxels.shape[1:]).affine), place

    def _to_working_grid(self, volume: Volume, *, mode: Mode) -> Volume:
        volume = to_canonical(volume)
        return volume if self.spacing is None else resample(volume, self.spacing, mode=mode)

    def _cached(self, path: Path, stage: str, prepare: Callable[[], Entry]) -> Entry:
        """Load the entry of a file, after making it if it is missing or damaged."""
        assert self.cache_dir is not None
        entry = self.cache_dir / self._entry_name(path, stage)
        about = entry.with_suffix(".json")
        if about.is_file():
            try:
                return _load(entry, about)
            except _DAMAGE as error:
                logger.warning("cache entry %s is damaged and made anew: %r", entry, error)
        volume, place = prepare()
        with replacing(entry) as temporary, temporary.open("wb") as file:
            np.save(file, volume.data.numpy())
        # The second file is written last, so its presence says that the entry is complete.
        write_json(about, {**place, "affine": volume.affine.tolist()})
        return _load(entry, about)

    def _entry_name(self, path: Path, stage: str) -> str:
        try:
            state = path.stat()
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from error
        options = [_FORMAT, str(path.absolute()), state.st_mtime_ns, state.st_size]
        text = json.dumps([*options, stage, self.spacing])
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        return f"{path.name.removesuffix(SUFFIX)}-{digest}.npy"


def _load(entry: Path, about: Path) -> Entry:
    """Load the two files of an entry; its voxels are read when they are used."""
    place = read_json(about)
    # Mapped copy-on-write: PyTorch takes no read-only memory, and nothing writes to it anyway.
    data = torch.from_numpy(np.load(entry, mmap_mode="c"))
    return Volume(data, np.array(place["affine"])), place


def _bounding_box(mask: np.ndarray) -> tuple[Triple, Triple]:
    """Return the first voxel of the box around the foreground, and the one behind its last."""
    bounds = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        bounds.append((int(filled[0]), int(filled[-1]) + 1))
    (d0, d1), (h0, h1), (w0, w1) = bounds
    return (d0, h0, w0), (d1, h1, w1)


def _central_voxel(mask: np.ndarray) -> list[int]:
    """Return the foreground voxel nearest to the centre of mass, the first of several."""
    voxels = np.argwhere(mask)  # (N, 3)
    distances = ((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1)
    return voxels[distances.argmin()].tolist()
