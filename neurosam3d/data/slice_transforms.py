"""Named ways to augment slices. All of them draw from PyTorch's global generator, which the
dataset seeds for every sample.

Shapes: H W rows and columns of a slice.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[Tensor, Tensor]
SliceTransform = Callable[[Tensor, Tensor], Pair]
"""Maps an image (H, W), float32, and its label map (H, W) to such of perhaps other sides."""

LARGEST_ANGLE = 20.0  # degrees, either way


def keep(image: Tensor, label: Tensor) -> Pair:
    """Leave both as they are."""
    return image, label


def turn_or_rotate(image: Tensor, label: Tensor) -> Pair:
    """Half of the time turn by quarters and flip; half of the others, rotate by up to 20 degrees.

    As SAMed does (arXiv:2304.13785), whose programs round angles to degrees and rotate images, too,
    by the nearest pixel, which leaves steps at every edge.
    """
    if torch.rand(()) < 0.5:
        return _turn(image, label)
    if torch.rand(()) < 0.5:
        return rotate(image, label, degrees=LARGEST_ANGLE * (2 * float(torch.rand(())) - 1))
    return image, label


def _turn(image: Tensor, label: Tensor) -> Pair:
    quarters, axis = int(torch.randint(4, ())), int(torch.randint(2, ()))
    first, second = (torch.rot90(one, quarters).flip(axis) for one in (image, label))
    return first, second


def rotate(image: Tensor, label: Tensor, *, degrees: float) -> Pair:
    """Rotate a slice about its middle, from its rows towards its columns.

    What comes from outside is as dark as the darkest pixel, and background.

    Args:
        image: (H, W), sampled linearly.
        label: (H, W), sampled by the nearest pixel.
        degrees: The angle.
    """
    height, width = image.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # From the result to the slice, both from -1 to 1 between their borders, x before y.
    mapping = torch.tensor([[[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]])
    grid = F.affine_grid(mapping, [1, 1, height, width], align_corners=False)  # (1, H, W, 2)
    darkest = image.min()
    turned = _sample(image - darkest, grid, "bilinear") + darkest
    return turned, _sample(label.float(), grid, "nearest").to(label.dtype)


def _sample(image: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(image[None, None], grid, mode=mode, align_corners=False)[0, 0]


SLICE_TRANSFORMS: dict[str, SliceTransform] = {"none": keep, "samed": turn_or_rotate}


def get_slice_transform(name: str) -> SliceTransform:
    """Return the transform of a name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in SLICE_TRANSFORMS:
        raise ValueError(f"unknown slice transform {name!r}; known: {', '.join(SLICE_TRANSFORMS)}")
    return SLICE_TRANSFORMS[name]
