"""DICOM-SEG files: binary and fractional segments, which may overlap, and label maps.

Frames are placed by their positions, never by their order; where a segment has no frame, it is
background. The stack of a segment is brought onto the image's grid by the nearest voxel, which
copies where both have the same voxels.

Shapes: I J K columns, rows and planes of the stack of frames.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurosam3d.data.prepare.dicom.dataset import FRACTIONAL, MissingExtraError
from neurosam3d.data.prepare.dicom.masks import Box, check_overlap, empty_box, put_on_grid
from neurosam3d.data.prepare.dicom.stack import find_stack, groups_of_frames
from neurosam3d.volume import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

_LABEL_MAP = "LABELMAP"
_ROUNDING = 1e-6

Test = Callable[[np.ndarray, int], np.ndarray]


def is_fractional(dataset: "Dataset") -> bool:
    """Tell whether the voxels of a file are fractions, so that a threshold decides."""
    return bool(dataset.SegmentationType == FRACTIONAL)


def list_segments(dataset: "Dataset") -> dict[int, str]:
    """Return number -> label of the segments; 0 is the background of a label map."""
    segments = dataset.get("SegmentSequence") or ()
    named = {int(item.SegmentNumber): str(item.get("SegmentLabel", "")) for item in segments}
    return {number: name for number, name in named.items() if number > 0}


def place_segments(
    dataset: "Dataset", grid: Grid, *, threshold: float, path: Path
) -> dict[int, Box]:
    """Put every segment onto the grid of an image.

    Args:
        dataset: The file.
        grid: The image's grid.
        threshold: Share of the largest value that a voxel of a fractional segment needs.
        path: The file's path, for messages.

    Returns:
        Number of the segment -> its mask.

    Raises:
        CaseError: If the frames have no positions, form no stack, or all lie beside the grid.
        MissingExtraError: If highdicom is not installed.
    """
    try:
        from highdicom.seg import Segmentation
    except ImportError as error:
        raise MissingExtraError(path) from error
    stack = find_stack(dataset, grid, path=path)
    is_inside = _test_of(dataset, threshold)
    frames = _frames_of_segments(dataset)
    segmentation = Segmentation.from_dataset(dataset, copy=False)
    read_frame: Callable[[int], np.ndarray] = partial(segmentation.get_stored_frame, as_index=True)
    if dataset.SegmentationType == _LABEL_MAP:  # every frame shows every segment: decode it once
        read_frame = cache(read_frame)
    boxes, has_foreground = {}, False
    for number, indices in frames.items():
        if not indices:
            boxes[number] = empty_box()
            continue
        planes = stack.planes[indices]
        first = int(planes.min())
        mask = np.zeros((dataset.Columns, dataset.Rows, np.ptp(planes) + 1), dtype=bool)
        for index, plane in zip(indices, planes - first, strict=True):
            mask[:, :, plane] |= is_inside(read_frame(index), number).T  # (J, I) -> (I, J)
        boxes[number] = put_on_grid(mask, stack.affine_from(first), grid)
        has_foreground = has_foreground or bool(mask.any())
    if has_foreground:
        check_overlap(boxes, path)
    return boxes


def _test_of(dataset: "Dataset", threshold: float) -> Test:
    """Return the function that tells which stored values belong to a segment."""
    if dataset.SegmentationType == _LABEL_MAP:
        return lambda values, number: values == number
    least = 1.0
    if is_fractional(dataset):
        least = max(threshold * dataset.MaximumFractionalValue - _ROUNDING, _ROUNDING)
    return lambda values, number: values >= least


def _frames_of_segments(dataset: "Dataset") -> dict[int, list[int]]:
    """Return number of the segment -> indices of its frames."""
    numbers = list_segments(dataset)
    if dataset.SegmentationType == _LABEL_MAP:
        return {number: list(range(dataset.NumberOfFrames)) for number in numbers}
    frames: dict[int, list[int]] = {number: [] for number in numbers}
    for index, group in enumerate(groups_of_frames(dataset, "SegmentIdentificationSequence")):
        frames[int(group.ReferencedSegmentNumber)].append(index)
    return frames
