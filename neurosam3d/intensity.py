"""Named ways to bring intensities into a network's range, one code for training and inference.

A preset has two stages. The volume stage sees the whole scan once, so its result can be cached;
the crop stage sees only what the network sees. Voxels outside the scan get the preset's padding
value between the two.

    scan = prepare_volume(scan, "sam_med3d")
    crop = ...                                   # padded with padding_value("sam_med3d")
    crop = normalize_crop(crop, "sam_med3d")

Shapes: images are (C, D, H, W), one scan each, never a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class IntensityPreset:
    """How one family of checkpoints expects its intensities.

    Args:
        volume_stage: Maps the intensities of a whole scan.
        crop_stage: Maps those of the network's field of view.
        padding: Value of voxels outside the scan, after the volume stage.
    """

    volume_stage: Callable[[Tensor], Tensor]
    crop_stage: Callable[[Tensor], Tensor]
    padding: float


def prepare_volume(image: Tensor, preset: str) -> Tensor:
    """Apply the volume stage of a preset to a whole scan (C, D, H, W); the result is float32.

    Raises:
        ValueError: If the preset is unknown.
    """
    return _preset(preset).volume_stage(image.float())


def normalize_crop(image: Tensor, preset: str) -> Tensor:
    """Apply the crop stage of a preset to a field of view (C, D, H, W); the result is float32.

    Raises:
        ValueError: If the preset is unknown.
    """
    return _preset(preset).crop_stage(image.float())


def padding_value(preset: str) -> float:
    """Return the value of voxels outside the scan, between the two stages.

    Raises:
        ValueError: If the preset is unknown.
    """
    return _preset(preset).padding


def _preset(name: str) -> IntensityPreset:
    if name not in INTENSITY_PRESETS:
        known = ", ".join(INTENSITY_PRESETS)
        raise ValueError(f"unknown intensity preset {name!r}; known: {known}")
    return INTENSITY_PRESETS[name]


def _keep(image: Tensor) -> Tensor:
    """Leave the image as it is."""
    return image


def _standardize_foreground(image: Tensor) -> Tensor:
    """Subtract the mean of the voxels above 0 from all voxels and divide by their deviation.

    With fewer than two voxels above 0 (a CT of air and fat) all voxels give the statistics. An
    image, or a foreground, of one value is only shifted: there is no contrast to scale.
    """
    mask = image > 0
    mask = mask | (mask.sum() < 2)
    # Masked sums rather than image[mask]: several times faster, and nothing waits for a GPU.
    count = mask.sum()
    mean = (torch.where(mask, image, 0).sum(dtype=torch.float64) / count).float()
    centered = image - mean
    squares = torch.where(mask, centered, 0).square().sum(dtype=torch.float64)
    std = (squares / (count - 1).clamp(min=1)).sqrt().float()  # unbiased, as in its training
    # A constant scan comes out of resampling with a deviation of about 1e-7 of its value.
    return centered / torch.where(std > 1e-6 * mean.abs(), std, 1)


def _rescale_percentiles(image: Tensor) -> Tensor:
    """Map the percentiles 0.05 and 99.95 to -1 and 1, clipped; an image of one value to -1."""
    # torch.quantile refuses more than 16 million elements, a common size for a CT scan.
    bounds = np.percentile(image.cpu().numpy(), (0.05, 99.95))
    low, high = bounds.tolist()
    if high <= low:
        return torch.full_like(image, -1.0)
    return ((image - low) * (2 / (high - low)) - 1).clamp(-1, 1)


INTENSITY_PRESETS = {
    # SAM-Med3D (arXiv:2310.15161): padded with raw zeros, which its z-score then leaves out.
    "sam_med3d": IntensityPreset(_keep, _standardize_foreground, padding=0.0),
    # NeuroSAM3D: the darkest value pads, so that the outside looks like background.
    "neurosam3d": IntensityPreset(_rescale_percentiles, _keep, padding=-1.0),
    "none": IntensityPreset(_keep, _keep, padding=0.0),
}
