"""NIfTI and MGZ files, through nibabel.

Shapes: C channels; D H W the file's axes I J K.
"""

import gzip
import zlib
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import data_type_codes, header_dtype

from neurosam3d.volume_io.checksums import decompress
from neurosam3d.volume_io.errors import VolumeFileError
from neurosam3d.volume_io.masks import gzip_mask
from neurosam3d.volume_io.shapes import (
    Header,
    channel_shape,
    channels_first,
    placed,
    refuse_colour,
    voxel_bytes,
)

SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")

_Image = nib.Nifti1Image | nib.MGHImage
_FURTHEST_VOXELS = 1 << 26  # bytes from the start, of extensions most
_VOXELS_START = 352  # bytes: the header, and four that say whether it is extended
_UNIT_MM = {1: 1e3, 3: 1e-3}  # metres and micrometres by their NIfTI codes
_MGH_TYPES = {"int8": "int16", "int64": "int32", "float64": "float32"}


def read_header(path: Path) -> Header:
    """Read shape (C, D, H, W) and affine."""
    image = _load(path)
    return channel_shape(image.shape), _affine_mm(image)


def read_array(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read voxels (C, D, H, W) and the affine; a compressed file to its checksum."""
    if path.name.lower().endswith(".mgz"):  # nibabel unpacks it to the end for its header alone
        size = _mgz_bytes(path)
        content = decompress(path.read_bytes(), announced=size)
        _require_all(content.getbuffer().nbytes, size)
        image: _Image = nib.MGHImage.from_stream(content)
    else:
        image = _load(path)
        channel_shape(image.shape)  # refuse before the voxels are decoded
        size = voxel_bytes(image.shape, image.get_data_dtype().itemsize)
        if path.name.lower().endswith(".gz"):
            content = decompress(path.read_bytes(), announced=_FURTHEST_VOXELS + size)
            _require_all(content.getbuffer().nbytes, size)
            image = type(image).from_stream(content)
        else:
            _require_all(path.stat().st_size, size)
    return channels_first(np.asanyarray(image.dataobj)), _affine_mm(image)


def _require_all(num_bytes: int, announced: int) -> None:
    """Refuse data that are shorter than their voxels; nibabel would take memory for what lacks."""
    if num_bytes < announced:
        raise EOFError(f"the data end too early, {announced} bytes of voxels in {num_bytes}")


def write_nifti(
    array: np.ndarray, path: Path, *, affine: np.ndarray, like: Path | None, is_mask: bool = False
) -> None:
    """Write voxels (C, D, H, W), in the space that the NIfTI file `like` is in."""
    data = _channels_last(array)
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    code = _space_code(like)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    # A quaternion holds no shear; where it would contradict the matrix, it is declared absent.
    if not np.allclose(image.get_qform(), affine, atol=1e-3):
        image.set_qform(None, 0)
    image.header.set_xyzt_units("mm", "sec")
    if is_mask and path.name.lower().endswith(".gz"):
        image.header.set_data_offset(_VOXELS_START)
        image.header.set_slope_inter(1, 0)
        path.write_bytes(gzip_mask(image.header.binaryblock + bytes(4), data))  # no extensions
    else:
        nib.save(image, path)


def write_mgh(array: np.ndarray, path: Path, *, affine: np.ndarray) -> None:
    """Write voxels (C, D, H, W).

    Raises:
        ValueError: If the format has no type for the numbers.
    """
    data = _channels_last(array)
    kept = data.astype(_MGH_TYPES.get(data.dtype.name, data.dtype.name))
    if data.dtype.kind == "i" and not np.array_equal(kept, data):
        raise ValueError(f"MGH files hold integers of 32 bits, got {data.min()}..{data.max()}")
    nib.save(nib.MGHImage(kept, affine), path)


def _mgz_bytes(path: Path) -> int:
    """Return how many bytes the header of a packed MGH file announces."""
    with gzip.open(path) as file:
        header = np.frombuffer(file.read(header_dtype.itemsize), header_dtype, count=1)[0]
    item_bytes = np.dtype(str(data_type_codes.dtype[int(header["type"])])).itemsize
    return voxel_bytes(header["dims"], item_bytes)


def _refuse_far_voxels(path: Path) -> None:
    """Refuse a NIfTI file whose header is followed by more than nibabel should read for it."""
    is_packed = path.name.lower().endswith(".gz")
    start = b""
    with (
        suppress(EOFError, gzip.BadGzipFile, zlib.error),  # nibabel will say so
        gzip.open(path) if is_packed else path.open("rb") as file,
    ):
        start = file.read(nib.Nifti2Header.sizeof_hdr)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(start):
            header = kind(start[: kind.sizeof_hdr], check=False)
            if not header.get_data_offset() <= _FURTHEST_VOXELS:
                raise VolumeFileError(f"its voxels begin at byte {header.get_data_offset()}")


def _load(path: Path) -> _Image:
    if not path.name.lower().endswith((".mgz", ".mgh")):
        _refuse_far_voxels(path)
    try:
        image = nib.load(path, mmap=False)  # mapped voxels would change with the file
    except ValueError as error:  # a quaternion longer than 1
        raise VolumeFileError(f"its header holds no rotation ({error})", "affine") from error
    if not isinstance(image, _Image):
        raise VolumeFileError(f"a volume is expected, got {type(image).__name__}", "unsupported")
    if image.get_data_dtype().names is not None:
        raise refuse_colour()
    return image


def _affine_mm(image: _Image) -> np.ndarray:
    affine = np.array(image.affine, dtype=np.float64)
    if isinstance(image, nib.Nifti1Image):
        affine[:3] *= _UNIT_MM.get(int(image.header["xyzt_units"]) & 7, 1.0)
    return placed(affine)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Bring (C, D, H, W) to a file's (D, H, W) or (D, H, W, C)."""
    return array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)


def _space_code(like: Path | None) -> int:
    """Return the code of the space (scanner, template) that `like` is in; 1 is the scanner's."""
    if like is None or not like.name.lower().endswith((".nii", ".nii.gz")):
        return 1
    header = nib.Nifti1Image.from_filename(like).header
    return int(header["sform_code"]) or int(header["qform_code"]) or 1
