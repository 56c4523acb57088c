"""Slices brought to another size, as SAMed does (arXiv:2304.13785), one code for training and
inference.

Corners lie on corners: the centre of the first pixel stays the centre of the first, that of the
last one the last, as in SciPy's `zoom` and unlike in `torch.nn.functional.interpolate`. A spline
is linear in the pixels along each axis, so its weights are asked of SciPy once for each pair of
lengths, and slices are scaled in batches wherever they are.

Shapes: H W sides of a slice in pixels, h w sides wanted.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

# By default SciPy takes the last row for outside, and black, wherever rounding lets it (512 to 224
# is such a case); mirrored, the same splines end at the border.
_BORDER = "mirror"


def zoom_slices(images: Tensor, sides: Sequence[int]) -> Tensor:
    """Bring grey slices (..., H, W) to other sides (..., h, w) by cubic splines, as float32.

    Splines overshoot at edges, so the result may leave the range of a slice a little.
    """
    if tuple(images.shape[-2:]) == tuple(sides):
        return images.float()
    # In double precision, of which no setting for quicker products of matrices takes anything away.
    height, width = (
        _spline_weights(old, new).to(images.device)
        for old, new in zip(images.shape[-2:], sides, strict=True)
    )
    return (height @ images.double() @ width.T).float()  # (..., h, w)


def zoom_labels(labels: Tensor, sides: Sequence[int]) -> Tensor:
    """Bring label maps (..., H, W) to other sides (..., h, w) by the nearest pixel."""
    if tuple(labels.shape[-2:]) == tuple(sides):
        return labels
    rows, columns = (
        _nearest_pixels(old, new).to(labels.device)
        for old, new in zip(labels.shape[-2:], sides, strict=True)
    )
    return labels[..., rows[:, None], columns]  # (..., h, w)


@lru_cache(maxsize=64)
def _spline_weights(old: int, new: int) -> Tensor:
    """Return what each old pixel gives to each new one, (new, old)."""
    weights = ndimage.zoom(np.eye(old), (new / old, 1), order=3, mode=_BORDER)
    return torch.from_numpy(weights)


@lru_cache(maxsize=64)
def _nearest_pixels(old: int, new: int) -> Tensor:
    """Return the index (new,) of the old pixel that is nearest to each new one."""
    return torch.from_numpy(ndimage.zoom(np.arange(old), new / old, order=0, mode=_BORDER))
