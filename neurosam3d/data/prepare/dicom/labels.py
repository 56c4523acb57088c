"""Segments of DICOM label files, DICOM-SEG and RTSTRUCT, as masks on the grid of an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from neurosam3d.data.prepare.dicom import rtstruct, seg
from neurosam3d.data.prepare.dicom.dataset import (
    LABEL_CLASSES,
    SEG_CLASSES,
    naming_gaps,
    read_dataset,
)
from neurosam3d.data.prepare.dicom.masks import Masks
from neurosam3d.volume import Grid
from neurosam3d.volume_io.errors import VolumeFileError

if TYPE_CHECKING:
    from pydicom import Dataset

_NAMING = ("SOPClassUID", "SegmentSequence", "StructureSetROISequence")


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments, or regions of interest, of one file.

    Args:
        masks: Number -> mask on the image's grid, (1, D, H, W) boolean. Masks may overlap. Every
            access makes the mask anew.
        is_fractional: Whether a threshold has decided which voxels belong to a segment.
        notes: What was ignored, a sentence each.
    """

    masks: Mapping[int, Tensor]
    is_fractional: bool
    notes: tuple[str, ...] = ()


def list_segments(path: Path) -> dict[int, str]:
    """Return number -> name, as stored, of a file's segments or regions of interest.

    Raises:
        VolumeFileError: If the file cannot be read or holds neither.
        CaseError: If the list lacks a number.
        MissingExtraError: If pydicom is not installed.
    """
    return segment_names(read_dataset(path, tags=_NAMING), path)


def segment_names(dataset: "Dataset", path: Path) -> dict[int, str]:
    """Return number -> name of the segments that the header of a file lists.

    Raises:
        VolumeFileError: If the file holds no segments.
        CaseError: If the list lacks a number.
    """
    with naming_gaps(path):
        if _is_seg(dataset, path):
            return seg.list_segments(dataset)
        return rtstruct.list_regions(dataset)


def read_segments(path: Path, grid: Grid, *, threshold: float = 0.5) -> Segments:
    """Read every segment, or region of interest, as a mask on the grid of an image.

    Args:
        path: A DICOM-SEG or RTSTRUCT file.
        grid: The image's grid.
        threshold: Share of the largest value, above 0 to 1, that a voxel of a fractional segment
            needs to belong to it.

    Raises:
        VolumeFileError: If the file cannot be read or holds neither.
        CaseError: If it does not say where its segments lie, or they lie beside the image.
        MissingExtraError: If pydicom or highdicom is not installed.
        ValueError: If the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold lies above 0 and is at most 1, got {threshold}")
    dataset = read_dataset(path)
    with naming_gaps(path):
        if not _is_seg(dataset, path):
            boxes, notes = rtstruct.fill_regions(dataset, grid, path=path)
            return Segments(Masks(boxes, grid.shape), is_fractional=False, notes=notes)
        boxes = seg.place_segments(dataset, grid, threshold=threshold, path=path)
        return Segments(Masks(boxes, grid.shape), is_fractional=seg.is_fractional(dataset))


def _is_seg(dataset: "Dataset", path: Path) -> bool:
    """Tell a DICOM-SEG from an RTSTRUCT file, and refuse what is neither."""
    sop_class = dataset.get("SOPClassUID")
    if sop_class is None:
        raise VolumeFileError(f"cannot read {path}: it is truncated or damaged (no SOP class)")
    if sop_class not in LABEL_CLASSES:
        raise VolumeFileError(
            f"cannot read {path}: a label is a DICOM-SEG or an RTSTRUCT file, got {sop_class.name}",
            "unsupported",
        )
    return sop_class in SEG_CLASSES
