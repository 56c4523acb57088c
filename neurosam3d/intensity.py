"""Named ways to bring intensities into a network's range, one code for training and inference.

An intensity is the name of a preset or an expression, for numbers that no preset has:

    clip LOW HIGH                   limits the values, then maps LOW and HIGH to 0 and 1
    clip LOW HIGH mean M std S      limits the values, then subtracts M and divides by S

A preset has two stages. The volume stage sees the whole scan once, so its result can be cached;
the crop stage sees only what the network sees. Voxels outside the scan get the preset's padding
value between the two.

    scan = prepare_volume(scan, "sam_med3d")
    crop = ...                                   # padded with padding_value("sam_med3d")
    crop = normalize_crop(crop, "sam_med3d")

Shapes: images are (C, D, H, W), one scan each, never a batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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

    @property
    def keeps_raw(self) -> bool:
        """Whether the crop stage sees the scan's own intensities, such as Hounsfield units."""
        return self.volume_stage is _keep

    @property
    def is_pointwise(self) -> bool:
        """Whether the crop stage sees voxel by voxel, so that parts of a scan are as the whole."""
        return self.crop_stage is not _standardize_foreground


def prepare_volume(image: Tensor, preset: str) -> Tensor:
    """Apply the volume stage of a preset to a whole scan (C, D, H, W); the result is float32.

    Raises:
        ValueError: If the preset is unknown.
    """
    return get_preset(preset).volume_stage(image.float())


def normalize_crop(image: Tensor, preset: str) -> Tensor:
    """Apply the crop stage of a preset to a field of view (C, D, H, W); the result is float32.

    Raises:
        ValueError: If the preset is unknown.
    """
    return get_preset(preset).crop_stage(image.float())


def padding_value(preset: str) -> float:
    """Return the value of voxels outside the scan, between the two stages.

    Raises:
        ValueError: If the preset is unknown.
    """
    return get_preset(preset).padding


def get_preset(name: str) -> IntensityPreset:
    """Return the preset of a name or an expression.

    Raises:
        ValueError: If there is none of that name and it is no expression, or its numbers are unfit.
    """
    preset = INTENSITY_PRESETS.get(name) or _parse(name)
    if preset is None:
        known = ", ".join([*INTENSITY_PRESETS, *_FORMS])
        raise ValueError(f"unknown intensity preset {name!r}; known: {known}")
    return preset


def _parse(expression: str) -> IntensityPreset | None:
    """Return the preset that an expression describes; None if it is none."""
    match expression.split():
        case ["clip", low, high]:
            words = [low, high]
        case ["clip", low, high, "mean", mean, "std", std]:
            words = [low, high, mean, std]
        case _:
            return None
    try:
        return _clip(*map(float, words))
    except ValueError as error:
        raise ValueError(f"{error}, got {expression!r}") from None


def _clip(
    low: float, high: float, mean: float | None = None, std: float | None = None
) -> IntensityPreset:
    """Limit values to a range, then standardise them; by default the range becomes 0 to 1.

    The outside becomes 0 in the end: the darkest value, or the mean. The volume is left raw, so
    that resampling sees whole edges and all presets share their prepared scans.
    """
    mean = low if mean is None else mean
    std = high - low if std is None else std
    is_finite = all(map(math.isfinite, (low, high, std)))
    if not (is_finite and low < high and low <= mean <= high and std > 0):
        raise ValueError("a clip needs finite numbers with LOW < HIGH, LOW <= M <= HIGH and S > 0")
    crop_stage = partial(_clip_and_scale, low=low, high=high, mean=mean, std=std)
    return IntensityPreset(_keep, crop_stage, padding=mean)


def _clip_and_scale(image: Tensor, *, low: float, high: float, mean: float, std: float) -> Tensor:
    return (image.clamp(low, high) - mean) / std


def _keep(image: Tensor) -> Tensor:
    """Leave the image as it is."""
    return image


def _standardize(image: Tensor) -> Tensor:
    """Subtract the mean and divide by the deviation; an image of one value is only shifted."""
    std, mean = torch.std_mean(image.double(), correction=0)
    return ((image - mean) / torch.where(std > 1e-6 * mean.abs(), std, 1)).float()


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


def _rescale_foreground(image: Tensor) -> Tensor:
    """Map the percentiles 0.5 and 99.5 of the voxels above 0 to 0 and 1, clipped.

    An image without such voxels, or with one value of them, becomes 0.
    """
    values = image.cpu().numpy()
    above = values[values > 0]
    low, high = np.percentile(above, (0.5, 99.5)).tolist() if above.size else (0.0, 0.0)
    if high <= low:
        return torch.zeros_like(image)
    return ((image - low) / (high - low)).clamp(0, 1)


INTENSITY_PRESETS = {
    # SAM-Med3D (arXiv:2310.15161): padded with raw zeros, which its z-score then leaves out.
    "sam_med3d": IntensityPreset(_keep, _standardize_foreground, padding=0.0),
    # NeuroSAM3D: the darkest value pads, so that the outside looks like background.
    "neurosam3d": IntensityPreset(_rescale_percentiles, _keep, padding=-1.0),
    # MedSAM (arXiv:2304.12306) for everything but CT, whose windows are 'clip -160 240' and so on.
    "medsam": IntensityPreset(_rescale_foreground, _keep, padding=0.0),
    # nnU-Net (arXiv:1904.08128) for everything but CT.
    "zscore": IntensityPreset(_standardize, _keep, padding=0.0),
    # 3DSAM-adapter (arXiv:2306.13465), in HU, for the tumours of four data sets.
    "adapter3d_kits": _clip(-54, 247, mean=59.53867, std=55.457336),
    "adapter3d_pancreas": _clip(-39, 204, mean=68.45214, std=63.422806),
    "adapter3d_lits": _clip(-48, 163, mean=60.057533, std=40.198017),
    "adapter3d_colon": _clip(-57, 175, mean=65.175035, std=32.651197),
    # The networks that it is compared with there.
    "baseline_kits": _clip(-54, 247),
    "baseline_pancreas": _clip(-39, 204),
    "baseline_lits": _clip(-48, 163),
    "baseline_colon": _clip(-57, 175),
    "none": IntensityPreset(_keep, _keep, padding=0.0),
}
_FORMS = ("'clip LOW HIGH'", "'clip LOW HIGH mean M std S'")
