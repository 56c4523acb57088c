"""Prepare one case: store its image, and one binary label per class on the image's grid."""

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor

from neurosam3d.data.index import Case
from neurosam3d.data.prepare.listing import RawItem
from neurosam3d.data.tree import SUFFIX, Tree
from neurosam3d.files import replacing
from neurosam3d.volume import Grid, Volume, read_grid, read_volume, resample_to, write_volume

# Label values further than this from an integer are no label values, e.g. probabilities.
_ROUNDING = 1e-3
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class CaseJob:
    """What to prepare: every class of one image.

    Args:
        tree: Where the prepared files go.
        name: Name of the dataset.
        set_name: Tr, Val or Ts.
        items: The classes; all of one image.
        modality: What the images of the dataset are.
        listed_ns: When the list of raw files last changed; what is older is made anew.
    """

    tree: Tree
    name: str
    set_name: str
    items: tuple[RawItem, ...]
    modality: tuple[str, ...]
    listed_ns: int


@dataclass(frozen=True)
class CaseResult:
    """What became of a job.

    Args:
        cases: One index entry per class with at least one voxel.
        num_empty: Classes without a voxel, for which nothing is written.
        num_channels: Channels of the raw image; 0 if it did not have to be read.
        problem: Why the case had to be skipped, in one sentence; None if it was not.
    """

    cases: tuple[Case, ...] = ()
    num_empty: int = 0
    num_channels: int = 0
    problem: str | None = None


def voxel_mm3(grid: Grid) -> float:
    """Volume of one voxel in cubic millimetres."""
    return abs(float(np.linalg.det(grid.affine[:3, :3])))


def prepare_case(job: CaseJob) -> CaseResult:
    """Write what a case still lacks; a broken case is reported, not raised.

    Files that are there already are kept if they are readable, lie on the image's grid and are
    newer than the raw files and their list.

    Raises:
        OSError: If the disk is full or read-only, which no other case would survive either.
    """
    case = job.items[0].case
    try:
        return _prepare(job)
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _HOPELESS:
            raise
        return CaseResult(problem=f"{job.name}_{job.set_name}: {case} is skipped: {error}")


def _prepare(job: CaseJob) -> CaseResult:
    first = job.items[0]
    stored = job.tree.image(job.name, job.set_name, first.case)
    grid = _stored_grid(stored, first.image, job.listed_ns)
    image = channel = None
    if grid is None:
        image = read_volume(first.image)
        channel = _usable_channel(image, first)
        grid = image.grid
    num_voxels = {
        item: count
        for seg, items in groupby(sorted(job.items, key=lambda i: i.seg), key=lambda i: i.seg)
        for item, count in _write_labels(job, seg, tuple(items), grid)
    }
    found = {item: count for item, count in num_voxels.items() if count}
    if found and channel is not None:
        _store_image(channel, first.image, stored)
    return CaseResult(
        cases=tuple(_to_case(job, item, grid, found[item]) for item in job.items if item in found),
        num_empty=len(num_voxels) - len(found),
        num_channels=0 if image is None else image.data.shape[0],
    )


def _usable_channel(image: Volume, item: RawItem) -> Volume:
    """Return the channel to store, (1, D, H, W).

    Raises:
        ValueError: If there is no such channel or it shows nothing.
    """
    num_channels = image.data.shape[0]
    if item.channel >= num_channels:
        raise ValueError(f"{item.image} has {num_channels} channels, none numbered {item.channel}")
    channel = Volume(image.data[item.channel : item.channel + 1], image.affine)
    if _is_constant(channel):
        raise ValueError(f"channel {item.channel} of {item.image} holds one value only")
    return channel


def _is_constant(image: Volume) -> bool:
    """Whether all voxels have one value, as those of a scan of NaN do once it is read."""
    low, high = image.data.aminmax()
    return bool(low == high)


def _store_image(channel: Volume, raw: Path, path: Path) -> None:
    """Store a channel at native spacing and orientation; the raw file itself where it is that."""
    if _is_stored_form(raw, channel):
        with replacing(path) as temporary:
            shutil.copyfile(raw, temporary)
    else:
        write_volume(channel, path)


def _is_stored_form(path: Path, channel: Volume) -> bool:
    """Whether a raw image is a 3-D .nii.gz in millimetres, so that its bytes can be copied.

    A file with NaN or infinite voxels is none: it would have to be cleaned at every reading.
    """
    if not path.name.endswith(SUFFIX):
        return False
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image) or image.ndim != 3:
        return False
    if not np.allclose(image.affine, channel.affine):
        return False
    if not channel.data.is_floating_point():
        return True
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        voxels = np.asanyarray(image.dataobj).astype(np.float32)
    return bool(np.isfinite(voxels).all())


def _write_labels(
    job: CaseJob, seg: Path, items: tuple[RawItem, ...], grid: Grid
) -> Iterator[tuple[RawItem, int]]:
    """Yield each class of one label file with its number of voxels, written where there are any.

    The raw file is read once, and only if a class is not stored already.
    """
    paths = {
        item: job.tree.label(job.name, job.set_name, item.class_name, item.case) for item in items
    }
    newest = max(job.listed_ns, _modified_ns(seg), _modified_ns(items[0].image))
    counts = {item: _stored_count(path, grid, newest) for item, path in paths.items()}
    values = None if all(counts.values()) else _read_labels(seg, grid)
    for item, path in paths.items():
        if values is None or counts[item]:
            yield item, counts[item]
            continue
        mask = values > 0 if item.binary else _any_of(values, item.values)
        count = int(mask.count_nonzero())
        if count:
            write_volume(Volume(mask.to(torch.uint8), grid.affine), path)
        else:
            path.unlink(missing_ok=True)
        yield item, count


def _any_of(labels: Tensor, values: Sequence[int]) -> Tensor:
    """Voxels whose label is one of a few values; several times faster than `torch.isin`."""
    mask = labels == values[0]
    for value in values[1:]:
        mask |= labels == value
    return mask


def _read_labels(path: Path, grid: Grid) -> Tensor:
    """Read a label file onto the image's grid: integer values (1, D, H, W)."""
    volume = read_volume(path)
    if volume.data.shape[0] != 1:
        raise ValueError(f"a label has one channel, {path} has {volume.data.shape[0]}")
    values = volume.data
    if values.is_floating_point():
        values = values.round()
        if not bool(((values - volume.data).abs() <= _ROUNDING).all()):
            raise ValueError(f"a label holds integer values, {path} holds others")
    labels = Volume(values.to(torch.int32), volume.affine)
    if labels.grid.same_as(grid):
        return labels.data
    # The label's own affine says where it lies; its spacing alone would not.
    on_grid = resample_to(labels, grid, mode="nearest").data
    if bool((labels.data != 0).any()) and not bool((on_grid != 0).any()):
        raise ValueError(f"{path} does not overlap its image")
    return on_grid


def _stored_grid(path: Path, raw: Path, listed_ns: int) -> Grid | None:
    """Grid of the stored image if it can be kept."""
    if _modified_ns(path) < max(listed_ns, _modified_ns(raw)):
        return None
    try:
        image = read_volume(path)  # the whole file: a truncated one has a good header
        usable = image.data.shape[0] == 1 and not _is_constant(image)
        return image.grid if usable and image.grid.same_as(read_grid(raw)) else None
    except ValueError:
        return None


def _stored_count(path: Path, grid: Grid, newest_ns: int) -> int:
    """Number of voxels of the stored label if it can be kept, else 0."""
    if _modified_ns(path) < newest_ns:
        return 0
    try:
        label = read_volume(path)
    except ValueError:
        return 0
    ones = int((label.data == 1).count_nonzero())
    binary = ones == int(label.data.count_nonzero())
    return ones if binary and label.grid.same_as(grid) else 0


def _modified_ns(path: Path) -> int:
    """When a file last changed; -1 if it is missing."""
    return path.stat().st_mtime_ns if path.is_file() else -1


def _to_case(job: CaseJob, item: RawItem, grid: Grid, num_voxels: int) -> Case:
    extra: Mapping[str, object] = {
        "dataset": job.name,
        "case": item.case,
        "modality": list(job.modality),
    }
    return Case(
        image=job.tree.image(job.name, job.set_name, item.case),
        label=job.tree.label(job.name, job.set_name, item.class_name, item.case),
        class_name=item.class_name,
        volume_mm3=round(num_voxels * voxel_mm3(grid), 6),
        spacing=grid.spacing,
        patient=item.patient,
        extra=extra,
    )
