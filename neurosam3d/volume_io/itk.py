"""NRRD and MetaImage files, through SimpleITK, whose arrays are reversed and coordinates LPS.

Shapes: C channels; D H W the file's axes I J K.
"""

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from neurosam3d.volume_io.checksums import check_itk_file
from neurosam3d.volume_io.errors import VolumeFileError
from neurosam3d.volume_io.shapes import Header, channel_shape, channels_first, placed, voxel_bytes

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")

_LONGEST_HEADER = 1 << 20
_HEADER_END = re.compile(rb"\r?\n\r?\n|ElementDataFile")
_NAMES_OF_FILES = re.compile(rb"(?:ElementDataFile|data ?file)[ :=].*", re.IGNORECASE)
_NUMBER = re.compile(rb"%0?\d?d")

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_header(path: Path | str) -> Header:
    """Read shape (C, D, H, W) and affine."""
    reader = open_file(path)
    return shape_of(reader), placed(affine_of(reader))


def read_array(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read voxels (C, D, H, W) and the affine; a compressed file to its checksum."""
    reader = open_file(path)
    shape, _ = shape_of(reader), placed(affine_of(reader))  # refuse before the voxels are decoded
    check_itk_file(path, announced=voxel_bytes(shape, _item_bytes(reader)))
    return decode(path)


def decode(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Read voxels (C, D, H, W) and the affine of any file that ITK knows."""
    image = open_file(path).Execute()
    array = sitk.GetArrayFromImage(image).T  # (D, H, W), (D, H, W, T) or (C, D, H, W)
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = channels_first(array)
    return array, affine_of(image)


def write_array(array: np.ndarray, path: Path, *, affine: np.ndarray) -> None:
    """Write voxels (C, D, H, W), compressed.

    Raises:
        RuntimeError: If ITK cannot write them.
        EOFError: If not all of them were written.
    """
    if len(array) == 1:
        image = sitk.GetImageFromArray(array[0].T)  # ITK counts axes backwards: (W, H, D)
    else:
        image = sitk.GetImageFromArray(array.T, isVector=True)  # (W, H, D, C)
    lps = _LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)
    check_itk_file(
        path, announced=array.nbytes
    )  # of NRRD files, ITK does not notice that the disk has become full


def open_file(path: Path | str) -> sitk.ImageFileReader:
    """Open a file and read what it says of its voxels."""
    if str(path).lower().endswith(SUFFIXES):
        _refuse_formats(Path(path))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _refuse_formats(path: Path) -> None:
    """Refuse a name of the voxels' file that is more than a name, with a place for its number.

    ITK gives it to C's printf, which reads and writes the program's memory as a name tells it.
    """
    with path.open("rb") as file:
        start = file.read(_LONGEST_HEADER)
    if len(start) == _LONGEST_HEADER and not _HEADER_END.search(start):
        raise VolumeFileError(f"its header has no end within {_LONGEST_HEADER} bytes")
    for line in _NAMES_OF_FILES.findall(start):
        if b"%" in _NUMBER.sub(b"", line, count=1):
            raise VolumeFileError(f"its voxels cannot be in a file of the name {line[:80]!r}")


def shape_of(reader: sitk.ImageFileReader) -> tuple[int, ...]:
    """Return the shape (C, D, H, W) of an opened file."""
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    return channel_shape((*size, components) if components > 1 else size)


def _item_bytes(reader: sitk.ImageFileReader) -> int:
    """Return the bytes of one number of an opened file."""
    return sitk.Image((1, 1), reader.GetPixelID()).GetSizeOfPixelComponent()


def affine_of(image: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """Build the affine to RAS+ from the geometry of an image or an opened file."""
    size = len(image.GetSpacing())
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (size, size))[:3, :3]
    affine[:3, :3] = direction * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return _LPS_TO_RAS @ affine
