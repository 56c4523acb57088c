"""A network over a whole image, window by window.

Shapes: B batch, C channels of the image, K channels of the logits; D H W = voxels.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Literal, get_args

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

Weighting = Literal["gaussian", "constant"]

SPATIAL_AXES = (2, 3, 4)


def slide(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    crop_size: Sequence[int],
    overlap: float = 0.5,
    weighting: Weighting = "gaussian",
    mirror: bool = False,
    batch_size: int = 1,
    device: torch.device | None = None,
) -> Tensor:
    """Segment an image in overlapping windows of one size and average the logits where they meet.

    An image that is smaller than a window is surrounded by zeros for as long as that takes.

    Args:
        network: Maps windows (B, C, d, h, w) to logits (B, K, d, h, w); in evaluation mode.
        image: (B, C, D, H, W), as the network is fed.
        crop_size: Sides d, h, w of a window in voxels.
        overlap: Share of a window's side that the next one covers again.
        weighting: What a window counts for where windows meet. gaussian: most in its middle, where
            the network sees most around a voxel; constant: the same everywhere.
        mirror: Average the logits of each window over its eight mirrored forms, which takes eight
            times as long (nnU-Net's test-time augmentation, arXiv:1904.08128).
        batch_size: Windows in one call of the network.
        device: Where the network is; by default where the image is, which also gets the result.

    Returns:
        Logits (B, K, D, H, W), float32.

    Raises:
        ValueError: If a number, a shape or the weighting is not allowed.
    """
    if image.ndim != 5 or len(crop_size) != 3:
        raise ValueError(
            "an image must be (B, C, D, H, W) and crop_size three sides, "
            f"got {tuple(image.shape)} and {tuple(crop_size)}"
        )
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be at least 0 and below 1, got {overlap}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if weighting not in get_args(Weighting):
        known = ", ".join(get_args(Weighting))
        raise ValueError(f"unknown weighting {weighting!r}; known: {known}")

    def segment(windows: Tensor) -> Tensor:
        return _mirrored(network, windows) if mirror else network(windows).float()

    logits = sliding_window_inference(
        image,
        tuple(crop_size),
        batch_size,
        segment,
        overlap=overlap,
        mode=weighting,
        sw_device=device or image.device,
        device=image.device,
    )
    assert isinstance(logits, Tensor)  # as `segment` returns one
    return logits


def _mirrored(network: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
    """Average the logits of windows over their mirrored forms."""
    total = torch.zeros(())
    for axes in _subsets(SPATIAL_AXES):
        logits = network(windows.flip(axes)).float().flip(axes)
        total = total.to(logits) + logits
    return total / 2 ** len(SPATIAL_AXES)


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for number in range(len(axes) + 1):
        yield from combinations(axes, number)
