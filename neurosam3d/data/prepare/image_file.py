"""Read the channel of a raw image that is prepared, and store it.

Shapes: D H W the image's own axes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from neurosam3d.data.prepare.fingerprint import file_sha256
from neurosam3d.data.prepare.problems import CaseError, Kind, Problem
from neurosam3d.data.tree import SUFFIX
from neurosam3d.files import replacing
from neurosam3d.volume import Volume, read_volume_counted, write_volume


@dataclass(frozen=True, eq=False)
class RawImage:
    """One channel of a raw image.

    Args:
        path: The file, or the folder with a DICOM series.
        volume: The channel, (1, D, H, W).
        problems: Notes on how it was read.
        is_stored_form: Whether the raw file is what is to be stored, so that its bytes can be
            copied.
    """

    path: Path
    volume: Volume
    problems: tuple[Problem, ...]
    is_stored_form: bool


def read_image(path: Path, channel: int) -> RawImage:
    """Read one channel of an image.

    Args:
        path: A volume file or a folder with a DICOM series.
        channel: Which channel, from 0 on.

    Raises:
        CaseError: If there is no such channel or it shows nothing.
        VolumeFileError: If the image cannot be read.
    """
    volume, num_not_finite = read_volume_counted(path)
    num_channels = volume.data.shape[0]
    if channel >= num_channels:
        raise CaseError(
            f"{path} has {num_channels} channels, none numbered {channel}", Kind.BAD_CHANNEL
        )
    image = Volume(volume.data[channel : channel + 1], volume.affine)
    low, high = image.data.aminmax()
    if num_not_finite[channel] == image.data.numel():
        raise CaseError(
            f"all voxels of channel {channel} of {path} are NaN or infinite", Kind.CONSTANT
        )
    if bool(low == high):
        raise CaseError(f"channel {channel} of {path} holds one value only", Kind.CONSTANT)
    problems = []
    if num_channels > 1:
        sentence = f"{path.name} has {num_channels} channels; number {channel} is stored"
        problems.append(Problem(Kind.SEVERAL_CHANNELS, sentence))
    if num_bad := num_not_finite[channel]:
        sentence = f"{path.name} has {num_bad} NaN or infinite voxels; they are set to 0"
        problems.append(Problem(Kind.NOT_FINITE, sentence))
    # A file with such voxels would have to be cleaned at every reading.
    is_stored_form = not num_bad and _is_nifti_mm(path, image)
    return RawImage(path, image, tuple(problems), is_stored_form)


def store_image(image: RawImage, path: Path) -> str:
    """Store an image at native spacing and orientation; the raw file itself where it is that.

    Returns:
        The file's SHA-256.

    Raises:
        CaseError: If the raw file cannot be read any more.
        OSError: If the file cannot be written.
    """
    if not image.is_stored_form:
        write_volume(image.volume, path)
        return file_sha256(path)
    try:
        content = image.path.read_bytes()
    except OSError as error:
        raise CaseError(f"cannot read {image.path}: {error.strerror}") from error
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _is_nifti_mm(path: Path, image: Volume) -> bool:
    """Whether a raw image is a 3-D .nii.gz whose affine is in millimetres."""
    if path.is_dir() or not path.name.endswith(SUFFIX):
        return False
    raw = nibabel.load(path)
    if not isinstance(raw, nibabel.Nifti1Image) or raw.ndim != 3:
        return False
    return np.allclose(raw.affine, image.affine)
