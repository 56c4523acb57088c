"""Read and write volume files of every format, and say in one sentence what is wrong with one.

Shapes: C channels (time points, echoes, vector components); D H W the file's axes I J K.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spatialimages import HeaderDataError

from neurosam3d.files import replacing
from neurosam3d.volume_io import dicom, itk, nifti
from neurosam3d.volume_io.errors import VolumeFileError
from neurosam3d.volume_io.shapes import Header

READABLE = nifti.SUFFIXES + itk.SUFFIXES
WRITABLE = (*nifti.SUFFIXES, ".nrrd", ".mha")  # .nhdr and .mhd are two files: never replaced as one

# nibabel raises whatever its parsing runs into: an unknown type's code ends in a KeyError.
_DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, zlib.error),
    *(ImageFileError, HeaderDataError, MGHError),
)
# PyTorch computes in none of these.
_WIDER = {"b1": "u1", "u2": "i4", "u4": "i8", "u8": "i8"}


def read_header(path: Path) -> Header:
    """Read shape (C, D, H, W) and affine without the voxels.

    Raises:
        VolumeFileError: If `path` is no volume that can be read.
    """
    with _naming(path):
        if path.is_dir():
            return dicom.read_header(path)
        return nifti.read_header(path) if _is_nifti(path) else itk.read_header(path)


def read_array(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Read voxels (C, D, H, W), of a type that PyTorch has, and the affine.

    Returns:
        The voxels, with zeros for NaN and infinities; the affine; and how many voxels of each
        channel were NaN or infinite.

    Raises:
        VolumeFileError: If `path` is no volume that can be read.
    """
    with _naming(path):
        if path.is_dir():
            array, affine = dicom.read_array(path)
        else:
            array, affine = (nifti if _is_nifti(path) else itk).read_array(path)
        array, num_not_finite = _clean(array)
        return array, affine, num_not_finite


def list_series(folder: Path) -> list[Path]:
    """List the files of the DICOM series that is read from a folder, by their positions.

    Raises:
        VolumeFileError: If the folder holds no series that can be read.
    """
    with _naming(folder):
        return [Path(file) for file in dicom.series_files(folder)]


def write_array(array: np.ndarray, path: Path, *, affine: np.ndarray, like: Path | None) -> None:
    """Write voxels (C, D, H, W); the file appears whole or not at all.

    Args:
        path: A file with one of the suffixes `WRITABLE`; its folder is made.
        affine: Voxel index to RAS+ millimetres.
        like: A NIfTI file whose space codes a NIfTI result keeps.

    Raises:
        ValueError: If the suffix is none of `WRITABLE`.
    """
    suffix = _suffix(path)
    if suffix not in WRITABLE:
        raise ValueError(f"volumes are written as {', '.join(WRITABLE)}, got {path}")
    is_mask = array.dtype == bool
    if is_mask:
        array = array.view(np.uint8)  # no format has a type of one bit
    with replacing(path) as temporary:
        if suffix in (".nii", ".nii.gz"):
            nifti.write_nifti(array, temporary, affine=affine, like=like, is_mask=is_mask)
        elif suffix in (".mgz", ".mgh"):
            nifti.write_mgh(array, temporary, affine=affine)
        else:
            itk.write_array(array, temporary, affine=affine)


def _suffix(path: Path) -> str:
    """Return the known suffix of a file, else its last one."""
    name = path.name.lower()
    return next((s for s in READABLE if name.endswith(s)), path.suffix)


def _is_nifti(path: Path) -> bool:
    """Tell which library reads the file, or refuse it."""
    suffix = _suffix(path)
    if suffix not in READABLE:
        hint = "; a DICOM series is read by its folder" if suffix in (".dcm", "") else ""
        raise VolumeFileError(
            f"a volume is a DICOM folder or ends in {', '.join(READABLE)}{hint}", "unsupported"
        )
    return suffix in nifti.SUFFIXES


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever a library raises into one sentence that names the file."""
    warnings_shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()  # what matters is raised or logged here
    try:
        _check_readable(path)
        yield
    except VolumeFileError as error:
        raise VolumeFileError(f"cannot read {path}: {error}", error.kind) from error
    except FileNotFoundError as error:
        raise VolumeFileError(f"cannot read {path}: no such file or folder", "missing") from error
    except PermissionError as error:
        name = path if error.filename is None else error.filename
        raise VolumeFileError(f"cannot read {name}: permission denied", "permission") from error
    except (MemoryError, OverflowError) as error:
        raise VolumeFileError(
            f"cannot read {path}: its header asks for more voxels than memory holds"
        ) from error
    except RuntimeError as error:  # SimpleITK: pages of C++ context, the cause not among it
        raise VolumeFileError(
            f"cannot read {path}: it is truncated or damaged (SimpleITK cannot decode it)"
        ) from error
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise VolumeFileError(
            f"cannot read {path}: it is truncated or damaged ({reason})"
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings_shown)


def _check_readable(path: Path) -> None:
    """Open a file or list a folder, so that the system says what keeps it from being read."""
    if path.is_dir():
        os.listdir(path)
        return
    with path.open("rb") as file:
        if not file.read(1):
            raise VolumeFileError("the file is empty (0 bytes)", "empty")


def _clean(array: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Bring voxels to a type of PyTorch's, contiguous, with zeros for NaN and infinities.

    Returns:
        The voxels (C, D, H, W) and how many of each channel became zero.
    """
    if array.dtype.kind not in "buif":
        raise VolumeFileError(f"voxels must be real numbers, got {array.dtype}", "unsupported")
    if array.dtype.kind != "f":
        name = f"{array.dtype.kind}{array.dtype.itemsize}"
        array = np.ascontiguousarray(array, dtype=np.dtype(_WIDER.get(name, name)))
        return array, (0,) * len(array)
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, order="C")
    finite = np.isfinite(array)
    counts = tuple(channel.size - int(np.count_nonzero(channel)) for channel in finite)
    if any(counts):
        array[~finite] = 0
    return array, counts
