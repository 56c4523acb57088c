"""Read a label file onto its image's grid, whatever it is: integers, fractions, DICOM segments.

Shapes: D H W the image's own axes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from neurosam3d.data.prepare.labels import Values
from neurosam3d.data.prepare.problems import CaseError, Kind, Problem
from neurosam3d.volume import Grid, Triple, Volume, read_volume_counted, resample_to

# Label values further than this from an integer are no label values, e.g. probabilities.
_ROUNDING = 1e-3
_DEFAULT_THRESHOLD = 0.5  # of a fractional DICOM segmentation; other files do not say what they are


class Labels(Protocol):
    """The classes of one label file, on the image's grid."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Notes on how the file was read."""

    def count(self, values: Values | None) -> int:
        """Return the number of voxels of a class."""

    def mask(self, values: Values | None) -> Tensor:
        """Return the mask of a class, (1, D, H, W) boolean.

        Args:
            values: Label values, or segment numbers, that make up the class; None for all but
                background.
        """


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Every voxel has one label.

    Args:
        voxels: (D, H, W) integers, laid out as in a NIfTI file: axis D is next in memory.
        counts: Label value -> number of voxels, of the values that occur. Values below 0 are in
            no class: their voxels are 0, too.
        problems: Notes on how the file was read.
    """

    voxels: np.ndarray
    counts: Mapping[int, int]
    problems: tuple[Problem, ...] = ()

    def count(self, values: Values | None) -> int:
        """Return the number of voxels of a class; no voxel is looked at again."""
        wanted = [value for value in self.counts if value > 0] if values is None else set(values)
        return sum(self.counts.get(value, 0) for value in wanted)

    def mask(self, values: Values | None) -> Tensor:
        """Return the mask of a class, (1, D, H, W) boolean, in the layout of the voxels."""
        if values is None:
            return torch.from_numpy(self.voxels > 0)[None]
        mask = np.zeros_like(self.voxels, dtype=bool)
        for value in {*values} & self.counts.keys():
            mask |= self.voxels == value
        return torch.from_numpy(mask)[None]  # (1, D, H, W)


@dataclass(frozen=True, eq=False)
class SegmentMasks:
    """Segments that may overlap, each with a mask of its own.

    Args:
        masks: Segment number -> mask, (1, D, H, W) boolean.
        shape: D, H, W.
        problems: Notes on how the file was read.
    """

    masks: Mapping[int, Tensor]
    shape: Triple
    problems: tuple[Problem, ...] = ()

    def count(self, values: Values | None) -> int:
        """Return the number of voxels of a class."""
        return int(self.mask(values).count_nonzero())

    def mask(self, values: Values | None) -> Tensor:
        """Return the mask of a class, (1, D, H, W) boolean."""
        mask = torch.zeros((1, *self.shape), dtype=torch.bool)
        for value in self.masks if values is None else {*values} & self.masks.keys():
            mask |= self.masks[value]
        return mask


def find_unclaimed(labels: Labels, claimed: Iterable[int]) -> dict[int, int]:
    """Return the values but 0 that occur and that no class has, with their numbers of voxels.

    Segments of DICOM files have names of their own, and none is said to be missing.
    """
    if not isinstance(labels, LabelMap):
        return {}
    known = {0, *claimed}
    return {value: number for value, number in labels.counts.items() if value not in known}


def read_labels(path: Path, grid: Grid, *, threshold: float | None) -> Labels:
    """Read a label file, once for all its classes.

    Args:
        path: A volume file, or a DICOM-SEG or RTSTRUCT file ending in .dcm.
        grid: The image's grid, onto which the labels are brought.
        threshold: Voxels of a file of fractions that are at least this much belong to the class.
            None: a volume holds integers.

    Raises:
        CaseError: If the file holds no labels, or lies beside its image.
        VolumeFileError: If it cannot be read.
    """
    if path.suffix.lower() == ".dcm":
        return _read_segments(path, grid, threshold)
    volume, num_not_finite = read_volume_counted(path)
    if volume.data.shape[0] != 1:
        raise CaseError(
            f"a label has one channel, {path} has {volume.data.shape[0]}", Kind.BAD_LABEL
        )
    notes = []
    if num_not_finite[0]:
        sentence = f"{path.name} has {num_not_finite[0]} NaN or infinite voxels; they are set to 0"
        notes.append(Problem(Kind.NOT_FINITE, sentence))
    if threshold is None:
        on_grid = _put_on_grid(_to_integers(volume, path), grid, path)
    else:
        on_grid = _threshold(volume, grid, threshold, path)
        if _is_fractional(volume.data):
            notes.append(_fractional(path, threshold))
    return _to_map(on_grid, tuple(notes))


def _to_integers(volume: Volume, path: Path) -> Volume:
    values = volume.data
    if values.is_floating_point():
        values = values.round()
        if not bool(((values - volume.data).abs() <= _ROUNDING).all()):
            raise CaseError(
                f"a label holds integers, {path} holds fractions (which need a threshold)",
                Kind.BAD_LABEL,
            )
        values = values.to(torch.int32)
    return Volume(values, volume.affine)


def _put_on_grid(labels: Volume, grid: Grid, path: Path) -> Tensor:
    """Return integer labels (1, D, H, W) at the voxels of the image."""
    if labels.grid.same_as(grid):
        return labels.data
    # The label's own affine says where it lies; its spacing alone would not.
    on_grid = resample_to(labels, grid, mode="nearest").data
    _check_overlap(labels.data != 0, on_grid != 0, path)
    return on_grid


def _threshold(volume: Volume, grid: Grid, threshold: float, path: Path) -> Tensor:
    """Return where fractions reach the threshold, (1, D, H, W), at the voxels of the image."""
    low, high = (float(bound) for bound in volume.data.aminmax())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise CaseError(
            f"fractions lie between 0 and 1, {path} holds {low:g} to {high:g}", Kind.BAD_LABEL
        )
    if volume.grid.same_as(grid):
        return volume.data >= threshold
    on_grid = resample_to(volume, grid, mode="linear").data >= threshold
    _check_overlap(volume.data >= threshold, on_grid, path)
    return on_grid


def _check_overlap(before: Tensor, on_grid: Tensor, path: Path) -> None:
    if bool(before.any()) and not bool(on_grid.any()):
        raise CaseError(f"{path} does not overlap its image", Kind.NO_OVERLAP)


def _is_fractional(data: Tensor) -> bool:
    return bool(((data - data.round()).abs() > _ROUNDING).any())


def _fractional(path: Path, threshold: float) -> Problem:
    sentence = f"{path.name} holds fractions; voxels of at least {threshold:g} belong to the class"
    return Problem(Kind.FRACTIONAL, sentence)


def _to_map(labels: Tensor, problems: tuple[Problem, ...]) -> LabelMap:
    """Pack labels (1, D, H, W) into the smallest type and count each value once."""
    labels = labels.to(torch.uint8) if labels.dtype == torch.bool else labels
    below, num_below = labels[labels < 0].unique(return_counts=True)
    labels = labels.clamp(min=0)
    high = int(labels.max())
    if high < 1 << 16:
        frequencies = torch.bincount(labels.flatten())
        values = frequencies.nonzero().flatten()
        numbers = frequencies[values]
    else:  # an atlas may number its regions by hundreds of millions
        values, numbers = labels.unique(return_counts=True)
    counts = dict(zip(values.tolist(), numbers.tolist(), strict=True))
    counts |= dict(zip(below.tolist(), num_below.tolist(), strict=True))
    voxels = labels[0].numpy().astype(np.min_scalar_type(high), order="F")  # (D, H, W)
    return LabelMap(voxels, counts, problems)


def _read_segments(path: Path, grid: Grid, threshold: float | None) -> SegmentMasks:
    from neurosam3d.data.prepare.dicom.labels import read_segments

    threshold = _DEFAULT_THRESHOLD if threshold is None else threshold
    segments = read_segments(path, grid, threshold=threshold)
    if not segments.masks:
        raise CaseError(f"{path} holds no segments", Kind.BAD_LABEL)
    notes = [Problem(Kind.PARTIAL_LABEL, note) for note in segments.notes]
    if segments.is_fractional:
        notes.append(_fractional(path, threshold))
    return SegmentMasks(segments.masks, grid.shape, tuple(notes))
