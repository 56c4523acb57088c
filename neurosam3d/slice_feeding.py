"""How grey slices become the input of networks of slices, and masks become pixels again.

SAM, SAM-Med2D and MedSAM share their parts and not their input. A slice must be fed as the network
was trained, and its masks brought back in the same way.

    name            slice                                       fitted to the network's side S
    sam             8 bits, ImageNet's mean and deviation       longer side S, padded at the far end
    sam_med2d       the same                                    padded around, or S along each axis
    medsam          smallest and largest value become 0 and 1   S along each axis
    slicewise       its own mean and deviation                  S along each axis
    slicewise_ft2d  the same                                    the same, but cut out of S again

`slicewise` is how SAM-Med3D (arXiv:2310.15161) and NeuroSAM3D judged networks of slices, whatever
their training. With `slicewise_ft2d`, its option for SAM-Med2D, slices smaller than S are scaled
to S and masks are not scaled back but cut out of the middle: a published mistake, which is kept for
comparison alone.

Shapes: B batch, C channels, K masks, n points; H W rows and columns of a slice, S side of the
network's image, M side of its low-resolution logits. Points are (x, y): column, then row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.models.sam2d_masks import (
    Sides,
    restore_centred,
    restore_padded,
    restore_probabilities,
)

# Of ImageNet's red, green and blue, as SAM was trained (arXiv:2304.02643).
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
_SURE = 1e-6  # probabilities nearer to 0 or 1 have no larger logit

FT2D = "slicewise_ft2d"
Multimask = Literal["always", "one point", "never"]


class Frame(Protocol):
    """Where the pixels of a slice lie in the network's image."""

    def fit(self, image: Tensor, side: int, *, mode: str = "bilinear") -> Tensor:
        """Bring slices (B, C, H, W) to (B, C, S, S); what they do not cover is 0."""

    def place(self, points: Tensor, original: Sides, side: int) -> Tensor:
        """Bring points (..., 2) of a slice (H, W) to the network's image."""

    def restore(self, low_res: Tensor, original: Sides, side: int) -> Tensor:
        """Bring low-resolution logits (B, K, M, M) to logits of the slice (B, K, H, W)."""


class Padded:
    """SAM's: the longer side becomes S, and the other is padded at its far end."""

    def fit(self, image: Tensor, side: int, *, mode: str = "bilinear") -> Tensor:
        rows, columns = self._scaled(_sides(image), side)
        scaled = _resize(image, (rows, columns), mode)
        return F.pad(scaled, (0, side - columns, 0, side - rows))

    def place(self, points: Tensor, original: Sides, side: int) -> Tensor:
        return points * _ratio(self._scaled(original, side), original)

    def restore(self, low_res: Tensor, original: Sides, side: int) -> Tensor:
        scaled = self._scaled(original, side)
        return restore_padded(low_res, image_size=side, input_size=scaled, original_size=original)

    def _scaled(self, original: Sides, side: int) -> Sides:
        rows, columns = (int(length * side / max(original) + 0.5) for length in original)
        return rows, columns


class Centred:
    """SAM-Med2D's (arXiv:2308.16184): small slices are padded all around, others scaled to S along
    each axis.
    """

    def fit(self, image: Tensor, side: int, *, mode: str = "nearest") -> Tensor:
        rows, columns = _sides(image)
        if max(rows, columns) >= side:
            return _resize(image, (side, side), mode)
        top, left = (side - rows) // 2, (side - columns) // 2
        return F.pad(image, (left, side - columns - left, top, side - rows - top))

    def place(self, points: Tensor, original: Sides, side: int) -> Tensor:
        if max(original) >= side:
            return points * _ratio((side, side), original)
        top, left = ((side - length) // 2 for length in original)
        return points + torch.tensor([left, top], dtype=points.dtype)

    def restore(self, low_res: Tensor, original: Sides, side: int) -> Tensor:
        return restore_centred(low_res, image_size=side, original_size=original)


class Stretched:
    """S along each axis, whatever the slice's aspect."""

    def fit(self, image: Tensor, side: int, *, mode: str = "bilinear") -> Tensor:
        return _resize(image, (side, side), mode)

    def place(self, points: Tensor, original: Sides, side: int) -> Tensor:
        return points * _ratio((side, side), original)

    def restore(self, low_res: Tensor, original: Sides, side: int) -> Tensor:
        return restore_padded(
            low_res, image_size=side, input_size=(side, side), original_size=original
        )


class Probable(Stretched):
    """MedSAM's (arXiv:2304.12306): the same, but probabilities are interpolated, not logits."""

    def restore(self, low_res: Tensor, original: Sides, side: int) -> Tensor:
        return restore_probabilities(low_res, original_size=original).logit(_SURE)


class Cut(Stretched):
    """Masks of small slices are cut out of the middle of S, although the slice was scaled to it."""

    def restore(self, low_res: Tensor, original: Sides, side: int) -> Tensor:
        return restore_centred(low_res, image_size=side, original_size=original)


@dataclass(frozen=True)
class Feeding:
    """How a family of networks is fed.

    Args:
        frame: Where the pixels of a slice lie in the network's image.
        make_image: Turns slices (B, 1, H, W) into the network's image, given frame and side.
        multimask: When the best of three masks is taken instead of the only one: in every round,
            for a point without anything else, as it may mean the whole or its part, or never.
        takes_masks: Whether the network was trained to take its last answer as a prompt.
    """

    frame: Frame
    make_image: Callable[[Tensor, Frame, int], Tensor]
    multimask: Multimask
    takes_masks: bool = True

    def image(self, slices: Tensor, side: int) -> Tensor:
        """Return the network's image (B, 3, S, S) of grey slices (B, 1, H, W).

        Raises:
            ValueError: If the network sees grey and values lie outside 0 to 1.
        """
        return self.make_image(slices, self.frame, side).expand(-1, 3, -1, -1)

    def place(self, points: Tensor, original: Sides, side: int) -> Tensor:
        """Bring points (..., 2) of a slice (H, W) to the network's image."""
        return self.frame.place(points, original, side)

    def restore(self, low_res: Tensor, original: Sides, side: int) -> Tensor:
        """Bring low-resolution logits (B, K, M, M) to logits of the slice (B, K, H, W)."""
        return self.frame.restore(low_res, original, side)

    def wants_three(self, *, num_points: int, alone: bool) -> bool:
        """Tell whether the best of three masks is taken.

        Args:
            num_points: Points that the network is asked with.
            alone: There is neither a box nor a mask beside them.
        """
        is_ambiguous = num_points == 1 and alone
        return self.multimask == "always" or (self.multimask == "one point" and is_ambiguous)


def normalize_8bit(grey: Tensor) -> Tensor:
    """Return 8-bit images (B, 1 or 3, H, W) as SAM was trained on them, float32 (B, 3, H, W)."""
    mean, std = (torch.tensor(values, device=grey.device).view(3, 1, 1) for values in (_MEAN, _STD))
    return (grey.float() - mean) / std


def _to_8bit(slices: Tensor) -> Tensor:
    low, high = slices.aminmax()
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(
            "this network of slices sees grey from 0 to 1, as the intensities 'clip LOW HIGH' and "
            f"medsam give it, got {low:.4g} to {high:.4g}"
        )
    return (255 * slices.clamp(0, 1)).round().to(torch.uint8)


def _imagenet_scaled(slices: Tensor, frame: Frame, side: int) -> Tensor:
    """SAM's: scaled as 8 bits are, smoothed where it shrinks; padding is 0 after all."""
    covered = frame.fit(torch.ones_like(slices), side, mode="nearest")
    return normalize_8bit(frame.fit(_to_8bit(slices), side)) * covered


def _imagenet_picked(slices: Tensor, frame: Frame, side: int) -> Tensor:
    """SAM-Med2D's: pixels are picked, not mixed."""
    return frame.fit(normalize_8bit(_to_8bit(slices)), side, mode="nearest")


def _stretched_range(slices: Tensor, frame: Frame, side: int) -> Tensor:
    """MedSAM's: smallest and largest value become 0 and 1; a slice of one value becomes 0."""
    return _to_unit(frame.fit(slices, side, mode="bicubic"))


def _own_statistics(slices: Tensor, frame: Frame, side: int) -> Tensor:
    """SAM-Med3D's: the slice's own mean and deviation; a slice of one value becomes 0."""
    image = frame.fit(255 * _to_unit(slices), side)
    std, mean = torch.std_mean(image, dim=(1, 2, 3), keepdim=True)
    return (image - mean) / torch.where(std > 1e-3, std, 1)


def _to_unit(images: Tensor) -> Tensor:
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    spread = high - low
    # Scaling leaves a slice of one value with differences of about 1e-7 of it.
    return (images - low) / torch.where(spread > 1e-6 * high.abs(), spread, 1)


def _resize(image: Tensor, sides: Sides, mode: str) -> Tensor:
    if mode == "nearest":
        return F.interpolate(image, sides, mode=mode)
    return F.interpolate(image, sides, mode=mode, align_corners=False, antialias=True)


def _sides(image: Tensor) -> Sides:
    return image.shape[-2], image.shape[-1]


def _ratio(new: Sides, old: Sides) -> Tensor:
    """Return by how much x and y grow."""
    return torch.tensor([new[1] / old[1], new[0] / old[0]])


FEEDINGS = {
    "sam": Feeding(Padded(), _imagenet_scaled, "one point"),
    "sam_med2d": Feeding(Centred(), _imagenet_picked, "always"),
    "medsam": Feeding(Probable(), _stretched_range, "never", takes_masks=False),
    "slicewise": Feeding(Stretched(), _own_statistics, "always"),
    FT2D: Feeding(Cut(), _own_statistics, "always"),
}


def find_feeding(name: str) -> Feeding:
    """Return the feeding of a name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in FEEDINGS:
        raise ValueError(f"unknown feeding {name!r}; known: {', '.join(FEEDINGS)}")
    return FEEDINGS[name]
