"""Volume files as plain arrays: axes in the file's own order, affines to RAS+ millimetres.

`neurosam3d.volume` wraps these functions; nothing else should call them. NIfTI and MGZ go through
nibabel, NRRD, MetaImage and DICOM through SimpleITK, whose arrays are reversed and whose
coordinates are LPS. Both are undone here, so that one scan in five formats reads the same.

Shapes: C channels (time points, echoes, vector components); D H W the file's axes I J K.
"""

import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from neurosam3d.files import replacing

logger = logging.getLogger(__name__)

Header = tuple[tuple[int, ...], np.ndarray]  # (C, D, H, W) and affine

_NIBABEL = (".nii.gz", ".nii", ".mgz", ".mgh")
_ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
READABLE = _NIBABEL + _ITK
WRITABLE = (*_NIBABEL, ".nrrd", ".mha")  # .nhdr and .mhd are two files: never replaced as one

_READ_ERRORS = (
    *(OSError, EOFError, ValueError, zlib.error, MemoryError, OverflowError),
    *(ImageFileError, HeaderDataError),
)
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_UNIT_MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
_MGH_TYPES = {"int8": "int16", "int64": "int32", "float64": "float32"}


def read_header(path: Path) -> Header:
    """Read shape (C, D, H, W) and affine without the voxels.

    Raises:
        ValueError: If `path` is no volume that can be read.
    """
    with _naming(path):
        if path.is_dir():
            return _dicom_header(_dicom_files(path))
        return _nibabel_header(path) if _is_nibabel(path) else _itk_header(path)


def read_array(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read voxels (C, D, H, W), of a type that PyTorch has, and the affine.

    Raises:
        ValueError: If `path` is no volume that can be read.
    """
    with _naming(path):
        if path.is_dir():
            array, affine = _read_dicom(path)
        else:
            array, affine = _read_nibabel(path) if _is_nibabel(path) else _read_itk(path)
        return _clean(array, path), affine


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
    if array.dtype == bool:
        array = array.astype(np.uint8)  # no format has a type of one bit
    with replacing(path) as temporary:
        if suffix in (".nii", ".nii.gz"):
            _write_nifti(array, temporary, affine, like)
        elif suffix in (".mgz", ".mgh"):
            _write_mgh(array, temporary, affine)
        else:
            _write_itk(array, temporary, affine)


def _suffix(path: Path) -> str:
    """Return the known suffix of a file, else its last one."""
    name = path.name.lower()
    return next((s for s in READABLE if name.endswith(s)), path.suffix)


def _is_nibabel(path: Path) -> bool:
    """Tell which library reads the file, or refuse it."""
    if not path.exists():
        raise ValueError("no such file or folder")
    suffix = _suffix(path)
    if suffix not in READABLE:
        hint = "; a DICOM series is read by its folder" if suffix in (".dcm", "") else ""
        raise ValueError(f"a volume is a DICOM folder or ends in {', '.join(READABLE)}{hint}")
    return suffix in _NIBABEL


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever a library raises into one sentence that names the file."""
    warnings_shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()  # what matters is raised or logged here
    try:
        yield
    except RuntimeError as error:  # SimpleITK: pages of C++ context, the cause not among it
        raise ValueError(
            f"cannot read {path}: SimpleITK cannot decode it, it may be incomplete or damaged"
        ) from error
    except _READ_ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot read {path}: {reason}") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings_shown)


def _channel_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Turn a file's (D, H, W, ...) into (C, D, H, W)."""
    if len(shape) < 3:
        raise ValueError(f"a volume has three axes, got a 2-D image of shape {tuple(shape)}")
    if 0 in shape:
        raise ValueError(f"a volume has voxels along every axis, got shape {tuple(shape)}")
    channels = [n for n in shape[3:] if n > 1]
    if len(channels) > 1:
        raise ValueError(f"a volume has at most one axis of channels, got shape {tuple(shape)}")
    return (*(channels or [1]), *(int(n) for n in shape[:3]))


def _channels_first(array: np.ndarray) -> np.ndarray:
    """Bring a file's (D, H, W, ...) to (C, D, H, W)."""
    shape = _channel_shape(array.shape)
    return np.moveaxis(array.reshape(*shape[1:], -1), -1, 0)  # (D, H, W, C) -> (C, D, H, W)


def _clean(array: np.ndarray, path: Path) -> np.ndarray:
    """Bring voxels to a type of PyTorch's, contiguous, with zeros for NaN and infinities."""
    if array.dtype.kind not in "buif":
        raise ValueError(f"voxels must be real numbers, got {array.dtype}")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, order="C")
        finite = np.isfinite(array)
        if not finite.all():
            logger.warning("%s: %d NaN or infinite voxels set to 0", path, (~finite).sum())
            array[~finite] = 0
        return array
    wider = {"b1": "u1", "u2": "i4", "u4": "i8", "u8": "i8"}  # PyTorch computes in none of these
    name = f"{array.dtype.kind}{array.dtype.itemsize}"
    return np.ascontiguousarray(array, dtype=np.dtype(wider.get(name, name)))


# NIfTI and MGZ


def _load_nibabel(path: Path) -> tuple[nib.spatialimages.SpatialImage, np.ndarray]:
    """Open a file and return it with its affine in millimetres."""
    image = nib.load(path, mmap=False)  # mapped voxels would change with the file
    if not isinstance(image, nib.spatialimages.SpatialImage):
        raise ValueError(f"a volume is expected, got {type(image).__name__}")
    if image.get_data_dtype().names is not None:
        raise ValueError("colour (RGB) voxels are no intensities; convert it to one channel")
    affine = np.array(image.affine, dtype=np.float64)
    if isinstance(image, nib.Nifti1Image):
        affine[:3] *= _UNIT_MM.get(image.header.get_xyzt_units()[0], 1.0)
    return image, affine


def _nibabel_header(path: Path) -> Header:
    image, affine = _load_nibabel(path)
    return _channel_shape(image.shape), affine


def _read_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image, affine = _load_nibabel(path)
    _channel_shape(image.shape)  # refuse before the voxels are decoded
    return _channels_first(np.asanyarray(image.dataobj)), affine


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Bring (C, D, H, W) to a file's (D, H, W) or (D, H, W, C)."""
    return array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)


def _write_nifti(array: np.ndarray, path: Path, affine: np.ndarray, like: Path | None) -> None:
    data = _channels_last(array)
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    code = _space_code(like)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    # A quaternion holds no shear; where it would contradict the matrix, it is declared absent.
    if not np.allclose(image.get_qform(), affine, atol=1e-3):
        image.set_qform(None, 0)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def _space_code(like: Path | None) -> int:
    """Return the code of the space (scanner, template) that `like` is in; 1 is the scanner's."""
    if like is None or _suffix(like) not in (".nii", ".nii.gz"):
        return 1
    header = nib.Nifti1Image.from_filename(like).header
    return int(header["sform_code"]) or int(header["qform_code"]) or 1


def _write_mgh(array: np.ndarray, path: Path, affine: np.ndarray) -> None:
    data = _channels_last(array)
    kept = data.astype(_MGH_TYPES.get(data.dtype.name, data.dtype.name))
    if data.dtype.kind == "i" and not np.array_equal(kept, data):
        raise ValueError(f"MGH files hold integers of 32 bits, got {data.min()}..{data.max()}")
    nib.save(nib.MGHImage(kept, affine), path)


# NRRD and MetaImage


def _itk_affine(image: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """Build the affine to RAS+ from the geometry of an image or an opened file."""
    size = len(image.GetSpacing())
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (size, size))[:3, :3]
    affine[:3, :3] = direction * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return _LPS_TO_RAS @ affine


def _open_itk(path: Path | str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _itk_shape(reader: sitk.ImageFileReader) -> tuple[int, ...]:
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    return _channel_shape((*size, components) if components > 1 else size)


def _itk_header(path: Path | str) -> Header:
    reader = _open_itk(path)
    shape = _itk_shape(reader)
    return shape, _itk_affine(reader)


def _read_itk(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    reader = _open_itk(path)
    _itk_shape(reader)
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image).T  # (D, H, W), (D, H, W, T) or (C, D, H, W)
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = _channels_first(array)
    return array, _itk_affine(image)


def _write_itk(array: np.ndarray, path: Path, affine: np.ndarray) -> None:
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


# DICOM


def _dicom_files(folder: Path) -> list[str]:
    """List the files of the folder's series in the order of their positions."""
    find = sitk.ImageSeriesReader.GetGDCMSeriesFileNames
    ids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not ids:
        raise ValueError("the folder holds no DICOM images")
    series = {uid: list(find(str(folder), uid)) for uid in ids}
    ranked = sorted(series, key=lambda uid: len(series[uid]), reverse=True)
    sizes = ", ".join(f"{uid} ({len(series[uid])} files)" for uid in ranked)
    if len(ranked) > 1 and len(series[ranked[0]]) == len(series[ranked[1]]):
        raise ValueError(
            f"the folder holds several DICOM series of one length, move the wanted one "
            f"into a folder of its own: {sizes}"
        )
    if len(ranked) > 1:
        logger.warning("%s: the longest of its DICOM series is read: %s", folder, sizes)
    return series[ranked[0]]


def _dicom_header(files: list[str]) -> Header:
    """Read shape and affine of a series; the slice positions decide, not the slice thickness."""
    readers = [_open_itk(file) for file in files]
    if any(reader.GetNumberOfComponents() > 1 for reader in readers):
        raise ValueError("colour (RGB) voxels are no intensities; convert it to one channel")
    if len(files) == 1:  # one slice, or all slices as the frames of one file
        return _itk_shape(readers[0]), _itk_affine(readers[0])
    sizes = {reader.GetSize() for reader in readers}
    if len(sizes) > 1:
        raise ValueError(f"the slices of a series share one size, got {sorted(sizes)}")
    affine = _itk_affine(readers[0])
    affine[:3, 2] = _slice_step(np.array([_itk_affine(reader)[:3, 3] for reader in readers]))
    return (1, *sizes.pop()[:2], len(files)), affine


def _slice_step(positions: np.ndarray) -> np.ndarray:
    """Return the step between slices at `positions` (N, 3); gantry tilt makes it oblique."""
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    gaps = np.diff(positions, axis=0) @ step / max(float(np.linalg.norm(step)), 1e-9)
    if gaps.min() < 1e-3:  # mm
        raise ValueError(
            "slices share one position, so the series mixes time points or echoes; "
            "move one of them into a folder of its own"
        )
    if gaps.max() > 1.1 * gaps.min():
        logger.warning(
            "slices are %.3f to %.3f mm apart, one may be missing; they are taken as even",
            *(gaps.min(), gaps.max()),
        )
    return step


def _read_dicom(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    files = _dicom_files(folder)
    _, affine = _dicom_header(files)
    if len(files) == 1:
        return _read_itk(files[0])[0], affine
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    array = sitk.GetArrayFromImage(reader.Execute()).T  # (D, H, W)
    return _channels_first(array), affine
