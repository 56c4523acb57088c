"""NRRD and MetaImage files, through SimpleITK, whose arrays are reversed and coordinates LPS.

Shapes: C channels; D H W the file's axes I J K.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from neurosam3d.volume_io.checksums import check_itk_file
from neurosam3d.volume_io.shapes import Header, channel_shape, channels_first, placed, voxel_bytes

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")

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
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


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
