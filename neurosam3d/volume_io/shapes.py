"""How the axes of a file become channels and three axes in space, and which affines are usable.

Shapes: C channels; D H W the file's axes I J K.
"""

import math
from collections.abc import Sequence

import numpy as np

from neurosam3d.memory import require_memory
from neurosam3d.volume_io.errors import VolumeFileError

Header = tuple[tuple[int, ...], np.ndarray]  # (C, D, H, W) and affine


def channel_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Turn a file's (D, H, W, ...) into (C, D, H, W).

    Raises:
        VolumeFileError: If it has fewer axes, none of some length, or several of channels.
    """
    if len(shape) < 3:
        raise VolumeFileError(
            f"a volume has three axes, got a 2-D image of shape {tuple(shape)}", "unsupported"
        )
    if 0 in shape:
        raise VolumeFileError(
            f"a volume has voxels along every axis, got shape {tuple(shape)}", "unsupported"
        )
    channels = [n for n in shape[3:] if n > 1]
    if len(channels) > 1:
        raise VolumeFileError(
            f"a volume has at most one axis of channels, got shape {tuple(shape)}", "unsupported"
        )
    return (*(channels or [1]), *(int(n) for n in shape[:3]))


def voxel_bytes(shape: Sequence[int], item_bytes: int) -> int:
    """Return how many bytes voxels take in memory.

    Raises:
        MemoryError: If this machine has less memory than that.
    """
    return require_memory(math.prod(map(int, shape)) * item_bytes)


def channels_first(array: np.ndarray) -> np.ndarray:
    """Bring a file's (D, H, W, ...) to (C, D, H, W)."""
    shape = channel_shape(array.shape)
    return np.moveaxis(array.reshape(*shape[1:], -1), -1, 0)  # (D, H, W, C) -> (C, D, H, W)


def refuse_colour() -> VolumeFileError:
    """Return the error of a colour image."""
    return VolumeFileError(
        "colour (RGB) voxels are no intensities; convert it to one channel", "unsupported"
    )


def checked_affine(affine: np.ndarray) -> np.ndarray:
    """Return a read-only float64 copy of a usable affine.

    Raises:
        ValueError: If it is no invertible (4, 4) matrix of finite numbers.
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"an affine is a 4x4 matrix of finite numbers, got {matrix.tolist()}")
    steps = np.linalg.norm(matrix[:3, :3], axis=0)
    volume = abs(np.linalg.det(matrix[:3, :3]))
    if not np.array_equal(matrix[3], [0, 0, 0, 1]) or volume <= 1e-6 * steps.prod():
        raise ValueError(f"an affine spans three axes above 0 0 0 1, got {matrix.tolist()}")
    matrix.flags.writeable = False
    return matrix


def placed(affine: np.ndarray) -> np.ndarray:
    """Return the affine of a file if it is usable.

    Raises:
        VolumeFileError: If it is not.
    """
    try:
        return checked_affine(affine)
    except ValueError as error:
        raise VolumeFileError(str(error), "affine") from error
