"""The objects of a scan, read from its label files onto the image's grid.

Shapes: D H W the image's grid.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosam3d.evaluation.case_files import LabelFile, Scan
from neurosam3d.volume import Grid, Volume, read_volume, restore
from neurosam3d.volume_io import VolumeFileError

logger = logging.getLogger(__name__)

_COUNTED_BELOW = 2**20  # larger label values are sorted instead, which takes far longer


@dataclass(frozen=True, eq=False)
class Truth:
    """One object of a scan.

    Args:
        class_name: What it is.
        label: The file it was read from.
        mask: Boolean (D, H, W).
        volume_mm3: Its volume in cubic millimetres.
    """

    class_name: str
    label: Path
    mask: np.ndarray
    volume_mm3: float


def read_image(scan: Scan) -> Volume:
    """Read the image of a scan, one channel of it.

    Raises:
        VolumeFileError: If the file cannot be read or has no such channel.
    """
    volume = read_volume(scan.image)
    num_channels = len(volume.data)
    if num_channels == 1:
        return volume
    if scan.channel >= num_channels:
        raise VolumeFileError(
            f"{scan.image} has the channels 0 to {num_channels - 1}, got {scan.channel}",
            "unsupported",
        )
    return Volume(volume.data[scan.channel : scan.channel + 1], volume.affine)


def read_truths(file: LabelFile, grid: Grid) -> Iterator[Truth]:
    """Yield the objects of a label file; a class of a label map that it lacks is left out.

    Args:
        file: The file.
        grid: The image's. Labels on another one are resampled to it (nearest), which is logged.

    Raises:
        VolumeFileError: If the file cannot be read, has several channels or, as a label map, holds
            fractions.
    """
    voxel_mm3 = float(abs(np.linalg.det(grid.affine[:3, :3])))
    for class_name, mask in _objects(_read_label(file, grid), file):
        volume_mm3 = int(mask.count_nonzero()) * voxel_mm3
        yield Truth(class_name, file.path, mask.numpy(), volume_mm3)


def _read_label(file: LabelFile, grid: Grid) -> Tensor:
    """Read the voxels (D, H, W) of a label file on the image's grid."""
    volume = read_volume(file.path)
    if len(volume.data) != 1:
        raise VolumeFileError(
            f"{file.path} must have one channel, got {len(volume.data)}", "unsupported"
        )
    if not volume.grid.same_as(grid):
        logger.warning(
            "%s lies on another grid than its image and is resampled to it (nearest): "
            "shape %s, %s, spacing %s mm to shape %s, %s, spacing %s mm",
            *(file.path, *_describe(volume.grid), *_describe(grid)),
        )
        volume = restore(volume, grid, mode="nearest")
    return volume.data[0]


def _objects(label: Tensor, file: LabelFile) -> Iterator[tuple[str, Tensor]]:
    """Yield class and mask of every object of a label file."""
    if file.mask_of:
        yield file.mask_of, label > 0
        return
    present = set(_values(label, file.path))
    known = {value for values in file.classes.values() for value in values}
    own = {f"label_{value}": (value,) for value in sorted(present - known)}
    for class_name, values in {**file.classes, **own}.items():
        found = present & set(values)
        if len(found) == 1:
            yield class_name, label == found.pop()
        elif found:
            yield class_name, torch.isin(label, torch.tensor(sorted(found), dtype=label.dtype))


def _values(label: Tensor, path: Path) -> list[int]:
    """Return the values above 0 of a label map."""
    if label.is_floating_point():
        rounded = label.round()
        if not rounded.equal(label):
            raise VolumeFileError(
                f"{path} must hold whole numbers to be a label map, got fractions", "unsupported"
            )
        label = rounded.long()
    flat = label.flatten().to(torch.uint8) if label.dtype == torch.bool else label.flatten()
    low, high = flat.min(), flat.max()
    if low < 0 or high >= _COUNTED_BELOW:
        values = flat.unique()
    else:
        values = torch.bincount(flat).nonzero()[:, 0]
    return [value for value in values.tolist() if value > 0]


def _describe(grid: Grid) -> tuple[str, str, str]:
    shape, spacing = " x ".join(map(str, grid.shape)), " x ".join(f"{s:.4g}" for s in grid.spacing)
    return shape, grid.orientation, spacing
