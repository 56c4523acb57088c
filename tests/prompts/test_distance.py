"""The two distance transforms against SciPy's, with a border of background."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from neurosam3d.prompts.distance import distance_transform, separable_distance


@pytest.mark.parametrize("transform", [distance_transform, separable_distance])
@pytest.mark.parametrize("shape", [(5, 9, 13), (1, 4, 7), (16, 3, 11), (8, 8, 8)])
@pytest.mark.parametrize("foreground", [0.5, 0.97, 1.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.75, 5.0, 1.25)])
def test_equals_scipy_with_zero_border(
    transform: Callable[..., Tensor],
    shape: tuple[int, int, int],
    foreground: float,
    spacing: tuple[float, float, float],
) -> None:
    mask = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(5)) < foreground
    expected = np.stack(
        [
            ndimage.distance_transform_edt(np.pad(item, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
            for item in mask[:, 0]
        ]
    )
    distance = transform(mask, spacing=spacing)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance[:, 0].double(), torch.from_numpy(expected))


def test_empty_mask_has_no_depth_and_wrong_shape_is_named() -> None:
    empty = torch.zeros(1, 1, 3, 4, 5, dtype=torch.bool)
    assert distance_transform(empty).sum() == 0
    assert separable_distance(empty).sum() == 0
    with pytest.raises(ValueError, match=r"mask must be \(B, 1, D, H, W\), got \(3, 4, 5\)"):
        distance_transform(empty[0, 0])
    with pytest.raises(ValueError, match=r"spacing must be three positive lengths, got \(1, 0, 2"):
        distance_transform(empty, spacing=(1, 0, 2))


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives() -> None:
    mask = torch.rand(2, 1, 9, 14, 21, generator=torch.Generator().manual_seed(4)) > 0.2
    on_device = distance_transform(mask.cuda())
    assert on_device.device.type == "cuda"
    torch.testing.assert_close(on_device.cpu(), distance_transform(mask))
