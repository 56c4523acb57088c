"""Folders of DICOM images, through SimpleITK: slices go where their positions say.

Shapes: C channels; D H W columns, rows and slices.
"""

import logging
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from neurosam3d.volume_io import itk
from neurosam3d.volume_io.errors import VolumeFileError
from neurosam3d.volume_io.shapes import Header, channels_first, placed, refuse_colour

logger = logging.getLogger(__name__)

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66."  # labels, which may lie beside the images
_SOP_CLASS = re.compile(rb"\x02\x00\x02\x00UI..([0-9.]+)", re.DOTALL)


def read_header(folder: Path) -> Header:
    """Read shape (C, D, H, W) and affine."""
    return _series_header(series_files(folder))


def read_array(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read voxels (C, D, H, W) and the affine."""
    files = series_files(folder)
    _, affine = _series_header(files)
    if len(files) == 1:
        return itk.decode(files[0])[0], affine
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    array = sitk.GetArrayFromImage(reader.Execute()).T  # (D, H, W)
    return channels_first(array), affine


def series_files(folder: Path) -> list[str]:
    """List the files of the folder's series in the order of their positions."""
    find = sitk.ImageSeriesReader.GetGDCMSeriesFileNames
    ids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not ids:
        raise VolumeFileError("the folder holds no DICOM images", "unsupported")
    found = {uid: list(find(str(folder), uid)) for uid in ids}
    images = {u: f for u, f in found.items() if not _sop_class(f[0]).startswith(_SEGMENTATION)}
    series = images or found
    ranked = sorted(series, key=lambda uid: len(series[uid]), reverse=True)
    sizes = ", ".join(f"{uid} ({len(series[uid])} files)" for uid in ranked)
    if len(ranked) > 1 and len(series[ranked[0]]) == len(series[ranked[1]]):
        raise VolumeFileError(
            "the folder holds several DICOM series of one length, move the wanted one "
            f"into a folder of its own: {sizes}",
            "unsupported",
        )
    if len(ranked) > 1:
        logger.warning("%s: the longest of its DICOM series is read: %s", folder, sizes)
    chosen = series[ranked[0]]
    _refuse_lost_slices(folder, chosen, known={file for files in found.values() for file in files})
    return chosen


def _refuse_lost_slices(folder: Path, chosen: list[str], *, known: set[str]) -> None:
    """Refuse a series of which the library left out a damaged slice.

    Args:
        folder: Where the series lies.
        chosen: Its files.
        known: The files of every series of the folder.

    Raises:
        VolumeFileError: If a further file is of the series' kind, or of no kind but its suffix.
    """
    sop_class, suffix = _sop_class(chosen[0]), Path(chosen[0]).suffix
    for file in sorted(folder.iterdir()):
        if str(file) in known or not file.is_file() or file.name.startswith("."):
            continue
        found = _sop_class(file)
        if found == sop_class != "" or (found == "" and file.suffix == suffix != ""):
            if file.stat().st_size == 0:
                raise VolumeFileError(f"its file {file.name} is empty (0 bytes)", "empty")
            raise VolumeFileError(f"its file {file.name} is truncated or damaged")


def _sop_class(file: Path | str) -> str:
    """Return what a DICOM file says that it holds; "" if it has no DICOM header."""
    with open(file, "rb") as opened:
        head = opened.read(1024)
    found = _SOP_CLASS.search(head) if head[128:132] == b"DICM" else None
    return found[1].decode() if found else ""


def _series_header(files: list[str]) -> Header:
    """Read shape and affine of a series; the slice positions decide, not the slice thickness."""
    readers = [itk.open_file(file) for file in files]
    if any(reader.GetNumberOfComponents() > 1 for reader in readers):
        raise refuse_colour()
    if len(files) == 1:  # one slice, or all slices as the frames of one file
        return itk.shape_of(readers[0]), placed(itk.affine_of(readers[0]))
    sizes = {reader.GetSize() for reader in readers}
    if len(sizes) > 1:
        raise VolumeFileError(
            f"the slices of a series share one size, got {sorted(sizes)}", "unsupported"
        )
    affine = itk.affine_of(readers[0])
    affine[:3, 2] = _slice_step(np.array([itk.affine_of(reader)[:3, 3] for reader in readers]))
    return (1, *sizes.pop()[:2], len(files)), placed(affine)


def _slice_step(positions: np.ndarray) -> np.ndarray:
    """Return the step between slices at `positions` (N, 3); gantry tilt makes it oblique."""
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    gaps = np.diff(positions, axis=0) @ step / max(float(np.linalg.norm(step)), 1e-9)
    if gaps.min() < 1e-3:  # mm
        raise VolumeFileError(
            "slices share one position, so the series mixes time points or echoes; "
            "move one of them into a folder of its own",
            "unsupported",
        )
    if gaps.max() > 1.1 * gaps.min():
        logger.warning(
            "slices are %.3f to %.3f mm apart, one may be missing; they are taken as even",
            *(gaps.min(), gaps.max()),
        )
    return step
