"""Named ways to augment patches.

A transform has three parts, in this order: a linear map, with which the patch is sampled from the
scan; an offset of the raw intensities; and changes of the normalised ones. All of it draws from
PyTorch's global generator, which the dataset seeds for every sample.

"In plane" is the plane of axial slices, whatever axes of the array that is.

Shapes: (1, D, H, W), one patch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torchio as tio
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.intensity import get_preset

Change = Callable[[Tensor], Tensor]

_AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


class LinearDraw(Protocol):
    """A random linear map in the order R, A, S."""

    @property
    def p(self) -> float:
        """Probability of drawing it."""

    def draw(self) -> np.ndarray:
        """Draw a (3, 3) matrix, from millimetres in the patch to millimetres in the scan."""


@dataclass(frozen=True)
class Rotation:
    """Turns about axes of the body, each by an angle of its own.

    Args:
        degrees: The largest angle, either way.
        p: Probability.
        about: The axes, of R, A and S.
    """

    degrees: float
    p: float
    about: str = "RAS"

    def draw(self) -> np.ndarray:
        """Draw the angles."""
        matrix = np.eye(3)
        for letter in self.about:
            angle = math.radians(_uniform(-self.degrees, self.degrees))
            first, second = (axis for axis in range(3) if axis != _AXES[letter])
            turn = np.eye(3)
            turn[first, first] = turn[second, second] = math.cos(angle)
            turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
            matrix = matrix @ turn
        return matrix


@dataclass(frozen=True)
class Zoom:
    """Enlarging by a factor.

    Args:
        low: The smallest factor.
        high: The largest.
        p: Probability.
        along: Groups of axes; those of a group have one factor, an axis without a group 1.
    """

    low: float
    high: float
    p: float
    along: tuple[str, ...] = ("RAS",)

    def draw(self) -> np.ndarray:
        """Draw a factor for each group."""
        scale = np.ones(3)
        for letters in self.along:
            scale[[_AXES[letter] for letter in letters]] /= _uniform(self.low, self.high)
        return np.diag(scale)


@dataclass(frozen=True)
class QuarterTurn:
    """A turn by 90, 180 or 270 degrees; voxels of one side length are moved, not interpolated.

    Args:
        plane: Its two axes, of R, A and S.
        p: Probability.
    """

    plane: str
    p: float

    def draw(self) -> np.ndarray:
        """Draw one of the three turns."""
        turn = np.eye(3)
        first, second = (_AXES[letter] for letter in self.plane)
        turn[first, first] = turn[second, second] = 0
        turn[first, second], turn[second, first] = -1, 1
        return np.linalg.matrix_power(turn, int(torch.randint(1, 4, ())))


@dataclass(frozen=True)
class Flip:
    """Mirroring along one axis.

    Args:
        axis: R, A or S.
        p: Probability.
    """

    axis: str
    p: float

    def draw(self) -> np.ndarray:
        """Return the only such map."""
        signs = np.ones(3)
        signs[_AXES[self.axis]] = -1
        return np.diag(signs)


@dataclass(frozen=True)
class PatchTransform:
    """How training patches are augmented.

    Args:
        linear: Maps that are drawn, one after the other.
        jitter: How far a chosen foreground voxel lies from the patch's middle at most, as a part of
            the patch's side.
        offset: The largest number, either way, that is added to raw intensities half of the time.
        changes: Changes of normalised intensities and their probabilities.
    """

    linear: tuple[LinearDraw, ...] = ()
    jitter: float = 0.0
    offset: float = 0.0
    changes: tuple[tuple[float, Change], ...] = ()

    def draw_matrix(self, orientation: str) -> np.ndarray:
        """Draw the linear map of a patch.

        Args:
            orientation: The directions of the scan's axes, such as "RAS" or "LPS".

        Returns:
            (3, 3), from millimetres along the patch's axes to such along the scan's.
        """
        matrix = np.eye(3)
        for part in self.linear:
            if torch.rand(()) < part.p:
                matrix = matrix @ part.draw()
        order = [_AXES[letter] for letter in orientation]
        return matrix[np.ix_(order, order)]

    def draw_offset(self) -> float:
        """Draw what is added to the raw intensities of a patch."""
        return _uniform(-self.offset, self.offset) if self.offset and torch.rand(()) < 0.5 else 0.0

    def change(self, image: Tensor) -> Tensor:
        """Change the normalised intensities of a patch."""
        for p, function in self.changes:
            if torch.rand(()) < p:
                image = function(image)
        return image


def get_patch_transform(name: str, *, intensity: str) -> PatchTransform:
    """Return the transform of a name.

    Args:
        name: One of `PATCH_TRANSFORMS`.
        intensity: The preset or expression that it works with.

    Raises:
        ValueError: If there is none of that name, or it needs raw intensities and the preset has
            none; or if the intensity is unknown.
    """
    if name not in PATCH_TRANSFORMS:
        known = ", ".join(PATCH_TRANSFORMS)
        raise ValueError(f"unknown patch transform {name!r}; known: {known}")
    transform, preset = PATCH_TRANSFORMS[name], get_preset(intensity)
    if transform.offset and not preset.keeps_raw:
        raise ValueError(
            f"transform {name} adds to raw intensities, so it needs one that keeps them until the "
            f"crop, such as adapter3d_kits or 'clip LOW HIGH', got {intensity!r}"
        )
    return transform


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def shift(image: Tensor) -> Tensor:
    """Add up to a tenth of the image's range, either way."""
    low, high = image.aminmax()
    return image + _uniform(-0.1, 0.1) * (high - low)


def add_noise(image: Tensor) -> Tensor:
    """Add Gaussian noise of up to a tenth of the image's variance."""
    return image + torch.randn_like(image) * (math.sqrt(_uniform(0, 0.1)) * image.std())


def blur(image: Tensor) -> Tensor:
    """Blur with a Gaussian of 0.5 to 1.5 voxels."""
    std = _uniform(0.5, 1.5)
    return tio.Blur(std=(std, std, std))(image)


def scale_brightness(image: Tensor) -> Tensor:
    """Multiply by 0.7 to 1.3."""
    return image * _uniform(0.7, 1.3)


def scale_contrast(image: Tensor) -> Tensor:
    """Multiply the distances from the mean by 0.65 to 1.5, and stay within the old range."""
    mean, (low, high) = image.mean(), image.aminmax()
    return ((image - mean) * _uniform(0.65, 1.5) + mean).clamp(low, high)


def lower_resolution(image: Tensor) -> Tensor:
    """Leave out voxels by a factor of 1 to 2, and fill in between those that are left."""
    factor = _uniform(1, 2)
    sides = [max(1, round(side / factor)) for side in image.shape[1:]]
    coarse = F.interpolate(image[None], sides, mode="nearest-exact")  # (1, 1, d, h, w)
    # nnU-Net goes back by cubic splines, which PyTorch has not in 3-D.
    return F.interpolate(coarse, image.shape[1:], mode="trilinear")[0]


def bend_gamma(image: Tensor) -> Tensor:
    """Raise the intensities, as parts of their range, to the power 0.7 to 1.5."""
    low, high = image.aminmax()
    if low == high:
        return image
    return ((image - low) / (high - low)) ** _uniform(0.7, 1.5) * (high - low) + low


def bend_gamma_inverted(image: Tensor) -> Tensor:
    """Do the same from the bright end."""
    return -bend_gamma(-image)


def _flips(p: float) -> Sequence[LinearDraw]:
    return [Flip(axis, p) for axis in "RAS"]


_NNUNET_CHANGES = (
    (0.15, add_noise),
    (0.1, blur),
    (0.15, scale_brightness),
    (0.15, scale_contrast),
    (0.125, lower_resolution),
    (0.15, bend_gamma),
    (0.15, bend_gamma_inverted),
)

PATCH_TRANSFORMS = {
    "none": PatchTransform(),
    # 3DSAM-adapter (arXiv:2306.13465) for KiTS and LiTS; the offset comes before the clip here.
    "adapter3d": PatchTransform(
        (Zoom(0.85, 1.25, p=0.8), *_flips(0.5), QuarterTurn("SA", p=0.5)), jitter=0.1, offset=20
    ),
    # The same for the thick slices of pancreas and colon.
    "adapter3d_in_plane": PatchTransform(
        (
            Rotation(30, p=0.3, about="S"),
            Zoom(0.9, 1.1, p=0.3, along=("R", "A")),
            *_flips(0.5),
            QuarterTurn("SA", p=0.5),
        ),
        jitter=0.1,
        offset=20,
    ),
    # The networks that it is compared with.
    "baseline": PatchTransform(
        (
            Rotation(30, p=0.3),
            Zoom(0.9, 1.1, p=0.3),
            *_flips(0.1),
            QuarterTurn("RA", p=0.1),
        ),
        jitter=0.05,
        changes=((0.5, shift),),
    ),
    "baseline_in_plane": PatchTransform(
        (
            Rotation(30, p=0.3, about="S"),
            Zoom(0.9, 1.1, p=0.3, along=("R", "A")),
            *_flips(0.1),
            QuarterTurn("RA", p=0.1),
        ),
        jitter=0.05,
        changes=((0.5, shift),),
    ),
    # nnU-Net (arXiv:1904.08128, supplement, "Data augmentation").
    "nnunet": PatchTransform(
        (Rotation(30, p=0.2), Zoom(0.7, 1.4, p=0.2), *_flips(0.5)), changes=_NNUNET_CHANGES
    ),
}
