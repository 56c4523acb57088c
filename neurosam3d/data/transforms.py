"""Named ways to place a crop and to augment it, as torchio chains.

Augmentation follows the crop: what is not kept is never transformed. It works on a torchio Subject
with the ScalarImage `image`, normalised, and the LabelMap `label`. torchio draws from PyTorch's
global generator, which the dataset seeds for every sample.

Shapes: C channels, D H W voxels, as torchio's C, I, J, K.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torchio as tio
from torchio.transforms.augmentation import RandomTransform
from torchio.transforms.intensity_transform import IntensityTransform
from torchio.transforms.spatial_transform import SpatialTransform

from neurosam3d.data.store.prepared import ObjectMask
from neurosam3d.volume import Triple


@dataclass(frozen=True)
class TransformPreset:
    """How training crops are made.

    Args:
        center: Picks the voxel of an object's box that a crop is centred on.
        build: Makes the augmentation.
    """

    center: Callable[[ObjectMask], Triple]
    build: Callable[[], tio.Transform]


def get_transform_preset(name: str) -> TransformPreset:
    """Return a preset by its name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in TRANSFORM_PRESETS:
        known = ", ".join(TRANSFORM_PRESETS)
        raise ValueError(f"unknown transform preset {name!r}; known: {known}")
    return TRANSFORM_PRESETS[name]


def _sam_med3d() -> tio.Transform:
    return tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5, copy=False)


def _neurosam3d() -> tio.Transform:
    one_intensity_change = tio.OneOf(
        [
            tio.RandomGamma(log_gamma=(math.log(0.5), math.log(2)), copy=False),
            tio.RandomNoise(std=(0, 0.05), copy=False),
            tio.RandomBlur(std=(0.5, 2), copy=False),  # mm
            RandomHistogramShift(),
            RandomSharpen(),
        ],
        copy=False,
    )
    return tio.Compose(
        [
            tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.3, copy=False),
            RandomQuarterTurn(plane=(0, 1), p=0.3),
            RandomQuarterTurn(plane=(1, 2), p=0.3),
            RandomQuarterTurn(plane=(0, 2), p=0.3),
            OnUnitRange(one_intensity_change, p=0.5),
        ],
        copy=False,
    )


TRANSFORM_PRESETS = {
    "sam_med3d": TransformPreset(ObjectMask.middle_of_box, _sam_med3d),
    "neurosam3d": TransformPreset(ObjectMask.draw_voxel, _neurosam3d),
}


class RandomQuarterTurn(RandomTransform, SpatialTransform):
    """Rotate by 90, 180 or 270 degrees in one plane; no voxel is interpolated.

    Args:
        plane: The two axes, of 0, 1, 2, that turn into each other; they should be equally long.
        p: Probability of turning.
    """

    def __init__(self, plane: tuple[int, int], *, p: float = 1.0) -> None:
        super().__init__(p=p, copy=False)
        self.plane = plane

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Turn all images of a subject alike."""
        turns = int(torch.randint(1, 4, ()))
        first, second = self.plane
        for image in self.get_images(subject):
            image.set_data(torch.rot90(image.data, turns, (1 + first, 1 + second)))
        return subject


class OnUnitRange(RandomTransform, IntensityTransform):
    """Apply a transform to intensities brought to [0, 1], then go back to the old range.

    This gives strengths of noise and contrast one meaning under all intensity presets. Images of a
    single value are left alone.

    Args:
        transform: What to apply.
        p: Probability of applying it.
    """

    def __init__(self, transform: tio.Transform, *, p: float = 1.0) -> None:
        super().__init__(p=p, copy=False)
        self.transform = transform

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Change the intensities of a subject."""
        ranges = {}
        for name, image in self.get_images_dict(subject).items():
            low, high = image.data.aminmax()
            if low == high:
                return subject
            ranges[name] = low, high
            image.set_data((image.data - low) / (high - low))
        subject = self.transform(subject)
        for name, (low, high) in ranges.items():
            changed = subject.get_image(name)
            changed.set_data(changed.data * (high - low) + low)
        return subject


class RandomHistogramShift(RandomTransform, IntensityTransform):
    """Bend the intensities in [0, 1] by a random curve that rises and keeps both ends.

    Args:
        num_control_points: Corners of the curve, evenly spaced, ends included; each one between is
            moved up or down by less than half their distance.
    """

    def __init__(self, *, num_control_points: int = 10) -> None:
        super().__init__(copy=False)
        self.num_control_points = num_control_points

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Bend the intensities of a subject, each image by a curve of its own."""
        knots = torch.linspace(0, 1, self.num_control_points)
        for image in self.get_images(subject):
            values = knots.clone()
            values[1:-1] += (torch.rand(len(knots) - 2) - 0.5) * knots[1]
            bent = np.interp(image.numpy(), knots.numpy(), values.numpy())
            image.set_data(torch.from_numpy(bent.astype(np.float32)))
        return subject


class RandomSharpen(RandomTransform, IntensityTransform):
    """Sharpen by adding what a Gaussian blur takes away.

    Args:
        std_mm: Range of the blur's standard deviation, in mm.
        amount: Range of the share of the difference that is added.
    """

    def __init__(
        self, *, std_mm: tuple[float, float] = (0.5, 2), amount: tuple[float, float] = (0.5, 2)
    ) -> None:
        super().__init__(copy=False)
        self.std_mm = std_mm
        self.amount = amount

    def apply_transform(self, subject: tio.Subject) -> tio.Subject:
        """Sharpen the intensity images of a subject."""
        std = self.sample_uniform(*self.std_mm)
        amount = self.sample_uniform(*self.amount)
        blur = tio.Blur(std=(std, std, std))
        for image in self.get_images(subject):
            image.set_data(image.data + amount * (image.data - blur(image).data))
        return subject
